"""Measurements against named references: `python -m benchmarks.NAME [--quick] --json FILE`."""
