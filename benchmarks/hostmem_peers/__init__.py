"""Peers, cases and reporting of the host-table benchmark (`benchmarks/hostmem.py`)."""
