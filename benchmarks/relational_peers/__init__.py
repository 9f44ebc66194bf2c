"""The cases, rivals and floors of benchmarks/relational.py."""
