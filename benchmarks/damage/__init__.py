"""Seeded damage to images and shards, odd images and hostile payloads, for `benchmarks.corruption`."""
