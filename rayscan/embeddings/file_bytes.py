"""Bytes of a file by position: local ones by `os.pread`, remote ones by range, only those that are asked for.

Nothing is memory-mapped: a map of a file that another program cuts short ends the process, and its pages
count as memory of the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from rayscan import storage
from rayscan.data.local_files import LocalFile, open_local
from rayscan.embeddings.vector_file import VectorFile, cut_short
from rayscan.errors import DataError
from rayscan.storage import FileInfo, RemoteFile

REMOTE_THREADS = 16


class FileBytes:
    """One file, kept open."""

    def __init__(self, info: FileInfo | VectorFile) -> None:
        """Open it.

        Args:
            info: The file with its size.

        Raises:
            DataError: it cannot be opened.
        """
        self.uri, self.size = info.uri, info.size
        self.is_local = storage.is_local(info.uri)
        self._file: LocalFile | RemoteFile = (
            LocalFile(open_local(info.uri), 0) if self.is_local else RemoteFile(info.uri)
        )

    def read(self, first: int, stop: int) -> bytes:
        """Bytes [first, stop).

        Raises:
            DataError: they are not there, or cannot be read.
        """
        try:
            data = self._file.read(first, stop)
        except OSError as error:
            raise DataError(
                "vectors cannot be read", expected="a readable file", got=error, where=self.uri
            ) from error
        if len(data) != stop - first:
            raise cut_short(self.uri, stop, first + len(data))
        return data

    def read_all(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Several ranges, in the order asked; remote ones many at once.

        Raises:
            DataError: see `read`.
        """
        if self.is_local or len(ranges) < 2:
            return [self.read(first, stop) for first, stop in ranges]
        with ThreadPoolExecutor(REMOTE_THREADS, thread_name_prefix="rayscan-vectors") as pool:
            return list(pool.map(lambda one: self.read(*one), ranges))


def require_unchanged(file: VectorFile) -> None:
    """Refuse a file that is no longer the one whose head was read.

    Raises:
        DataError: its size or time differs, or it is gone.
    """
    (now,) = storage.stat([file.uri])
    if (now.size, now.mtime_ns) != (file.size, file.mtime_ns):
        got = (
            "no file" if now.size == storage.MISSING else f"{now.size:,} bytes, changed at {now.mtime_ns} ns"
        )
        raise DataError(
            "a file of vectors changed while it was in use",
            expected=f"{file.size:,} bytes, changed at {file.mtime_ns} ns",
            got=got,
            where=file.uri,
            fix="run again when nothing writes to it any more",
        )
