"""What the convolution benchmark measures, and what it compares with."""
