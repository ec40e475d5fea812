"""Rows that are one range of bytes: any of them is read without the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rayscan.data.reads import plan_reads
from rayscan.embeddings.file_bytes import FileBytes, require_unchanged
from rayscan.embeddings.vector_file import VectorFile
from rayscan.types import Ints

LOCAL_GAP = 16 << 10
"""Bytes between two asked rows that are read along rather than sought over."""
REMOTE_GAP = 128 << 10
LONGEST_LOCAL_READ = 8 << 20
LONGEST_REMOTE_READ = 1 << 20
"""Bytes of a request; several are made at once."""


class ByteRows:
    """Implements `vector_file.Rows` for npy, stored members of npz, and safetensors."""

    def __init__(self, file: VectorFile) -> None:
        """Open the file.

        Raises:
            DataError: it is not there, or changed since its head was read.
        """
        require_unchanged(file)
        self._file, self._bytes = file, FileBytes(file)
        self._row_bytes = file.dim * file.number_type.itemsize

    def read(self, first: int, stop: int) -> NDArray[np.float32]:
        """See `Rows.read`."""
        begin = self._file.begin
        data = self._bytes.read(begin + first * self._row_bytes, begin + stop * self._row_bytes)
        return self._decoded(data)

    def take(self, rows: Ints) -> NDArray[np.float32]:
        """See `Rows.take`. Rows that are near each other are read together."""
        out = np.empty((len(rows), self._file.dim), np.float32)
        if not len(rows):
            return out
        length = np.full(len(rows), self._row_bytes, np.int64)
        gap, longest = (
            (LOCAL_GAP, LONGEST_LOCAL_READ) if self._bytes.is_local else (REMOTE_GAP, LONGEST_REMOTE_READ)
        )
        first = self._file.begin + rows * self._row_bytes
        reads = plan_reads(np.zeros_like(rows), first, length, np.full_like(rows, gap), longest)
        ranges = list(zip(reads.first.tolist(), reads.stop.tolist(), strict=True))
        for number, data in enumerate(self._bytes.read_all(ranges)):
            members = reads.order[reads.bounds[number] : reads.bounds[number + 1]]
            out[members] = self._decoded(data)[(first[members] - ranges[number][0]) // self._row_bytes]
        return out

    def _decoded(self, data: bytes) -> NDArray[np.float32]:
        kind = self._file.number_type
        return kind.as_float32(np.frombuffer(data, kind.stored).reshape(-1, self._file.dim))
