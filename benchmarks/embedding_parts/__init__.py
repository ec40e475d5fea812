"""Parts of `python -m benchmarks.embedding`: networks, photos, rivals, agreement of features."""
