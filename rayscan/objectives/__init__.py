"""Objectives: a net, its loss, and the state that belongs to them."""
