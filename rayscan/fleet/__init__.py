"""Machines and workers: the only room that knows Ray."""
