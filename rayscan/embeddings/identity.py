"""What vectors are, not where they lie: a hash over all bytes, made in pieces by many workers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rayscan import storage
from rayscan.artifacts import digest
from rayscan.embeddings.file_bytes import FileBytes
from rayscan.embeddings.vectors import Vectors
from rayscan.errors import DataError
from rayscan.storage import FileInfo

PIECE_BYTES = 256 << 20
"""Bytes that one task hashes."""
READ_BYTES = 4 << 20
Map = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]
"""`[fn(item) for item in items]`, here or on the fleet."""


@dataclass(frozen=True, slots=True)
class DigestTask:
    """Bytes [first, stop) of a file, to be hashed by one worker."""

    file: FileInfo
    first: int
    stop: int


def digest_tasks(vectors: Vectors) -> list[DigestTask]:
    """The pieces that `identity_of` wants hashed: all bytes of all files, those with the keys included."""
    return [
        DigestTask(file, first, min(first + PIECE_BYTES, file.size))
        for file in _files(vectors)
        for first in range(0, file.size, PIECE_BYTES)
    ]


def hash_piece(task: DigestTask) -> str:
    """Sha256 of a piece, in hex; runs on a worker, which holds 4 MiB of it at a time.

    Raises:
        DataError: the file is shorter than it was, or cannot be read.
    """
    stored, sha256 = FileBytes(task.file), hashlib.sha256()
    for first in range(task.first, task.stop, READ_BYTES):
        sha256.update(stored.read(first, min(first + READ_BYTES, task.stop)))
    return sha256.hexdigest()


def file_digests(vectors: Vectors, hashes: Iterable[str]) -> dict[str, str]:
    """Sha256 over size and pieces of each file, by address.

    Args:
        vectors: The vectors.
        hashes: What `hash_piece` gave for each of `digest_tasks`, in order.

    Raises:
        DataError: a file changed meanwhile.
    """
    pieces: dict[str, list[str]] = {}
    for task, piece in zip(digest_tasks(vectors), hashes, strict=True):
        pieces.setdefault(task.file.uri, []).append(piece)
    files = _files(vectors)
    for before, now in zip(files, storage.stat([file.uri for file in files]), strict=True):
        if before != now:
            raise DataError(
                "a file of vectors changed while it was hashed",
                expected=f"{before.size:,} bytes, changed at {before.mtime_ns} ns",
                got=f"{now.size:,} bytes, changed at {now.mtime_ns} ns",
                where=before.uri,
                fix="run again when nothing writes to it any more",
            )
    return {file.uri: digest([file.size, *pieces.get(file.uri, [])]) for file in files}


def identity_of(vectors: Vectors, digests: dict[str, str]) -> str:
    """Sha256 of the content: every file's digest in order, and what is read of it, not names and times.

    Args:
        vectors: The vectors.
        digests: As `file_digests` gave them.
    """
    return digest(
        [
            [
                digests[f.uri],
                f.member,
                f.rows,
                f.dim,
                f.dtype,
                digests[f.keys.uri] if f.keys else "",
                list(f.key_columns),
            ]
            for f in vectors.files
        ]
    )


def content_identity(vectors: Vectors, each: Map) -> str:
    """`identity_of` from the start.

    Args:
        vectors: The vectors.
        each: Calls `hash_piece` for every task, such as `Fleet.map`.

    Raises:
        DataError: a file changed meanwhile, or cannot be read.
    """
    return identity_of(vectors, file_digests(vectors, each(hash_piece, digest_tasks(vectors))))


def _files(vectors: Vectors) -> list[FileInfo]:
    """Every file once, with its size and time: those with the keys come after."""
    found = {file.uri: FileInfo(file.uri, file.size, file.mtime_ns) for file in vectors.files}
    keys = {file.keys.uri: file.keys for file in vectors.files if file.keys is not None}
    return list({**found, **keys}.values())
