"""Parts of `benchmarks.duplicates`."""
