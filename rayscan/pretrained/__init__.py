"""Weights that others trained: from the hub by one explicit command, from its local cache everywhere else."""
