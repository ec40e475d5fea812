"""Stages: (settings, results so far) -> one result on storage. One file per stage."""
