"""Compiles a layer written on one edge: trace, passes, and what runs them."""
