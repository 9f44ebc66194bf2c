"""What every benchmark shares: timing, the machine, the file of results."""
