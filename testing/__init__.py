"""What tests and benchmarks share. Neither imports the other."""
