"""The cases, models and contenders of benchmarks/compile.py."""
