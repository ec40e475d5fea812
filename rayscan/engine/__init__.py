"""One worker's life: optimizer, loop, checkpoints, forward passes. No Ray."""
