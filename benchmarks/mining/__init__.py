"""What `benchmarks.vectors` and `benchmarks.gpu_vectors` are made of."""
