"""Tables in host memory that the GPU reads itself (PyTorch-Direct, arXiv:2101.07956)."""
