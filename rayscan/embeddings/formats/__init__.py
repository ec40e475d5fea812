"""The table of the formats that vectors come in, one file each; `base` says what each has to do."""

from __future__ import annotations

from rayscan.embeddings.formats.base import Format
from rayscan.embeddings.formats.npy import Npy
from rayscan.embeddings.formats.npz import Npz
from rayscan.embeddings.formats.parquet import Parquet
from rayscan.embeddings.formats.safetensors import SafeTensors

FORMATS: tuple[Format, ...] = (Npy(), Npz(), SafeTensors(), Parquet())
"""The first that claims a file has it."""


def format_of(uri: str) -> Format | None:
    """The format of a file by its name; None if it holds no vectors that are understood."""
    return next((known for known in FORMATS if known.claims(uri)), None)


def named(name: str) -> Format:
    """The format of a name in `VectorFile.format`."""
    return next(known for known in FORMATS if known.name == name)
