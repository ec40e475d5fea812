"""Faults on purpose: a small training, a fleet on this machine, and what can befall them."""
