"""The `.json` beside an image of a shard: what `rayscan shard` wrote there, or words of somebody else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from rayscan.data.tar_members import storable

OURS = frozenset({"source", "crc32"})
"""What a note of ours has, and nothing else."""


class Note(NamedTuple):
    """What a note tells."""

    source: str | None = None
    """Original path of the image, if the note is ours."""
    crc32: int | None = None
    """Its checksum when it was packed, if the note is ours."""
    metadata: Mapping[str, Any] = {}
    """Words and numbers of a note of others: a "source" there may be the name of a data set, or anything."""


def read_note(data: bytes) -> Note:
    """Take a note apart; an empty one if it is no JSON object: notes are free text to others."""
    try:
        note = json.loads(data)
    except (ValueError, RecursionError):
        return Note()
    if not isinstance(note, dict):
        return Note()
    source, crc32 = note.get("source"), note.get("crc32")
    if note.keys() == OURS and isinstance(source, str) and type(crc32) is int and 0 <= crc32 < 1 << 32:
        return Note(storable(source) or None, crc32)
    return Note(
        metadata={
            storable(name): storable(value) if isinstance(value, str) else value
            for name, value in note.items()
            if isinstance(value, str | int | float)
        }
    )
