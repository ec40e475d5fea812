"""Local files kept open and read by `os.pread`, which keeps no position: many threads may share one."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable

from rayscan.errors import DataError
from rayscan.storage import local_path

MAX_OPEN = 128
KEPT_BYTES = 24 << 20


class LocalFile:
    """A descriptor that closes itself when the last thread that reads from it lets go."""

    def __init__(self, descriptor: int, number: int) -> None:
        """Take over an open file.

        Args:
            descriptor: Descriptor of the file.
            number: Number of this opening, counted over all files.
        """
        self.number = number
        self.descriptor = descriptor

    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self.descriptor).st_size

    def read(self, first: int, stop: int) -> bytes:
        """Bytes first..stop; fewer at the end of the file."""
        return self.rest(b"", first, stop - first)

    def rest(self, data: bytes, offset: int, length: int) -> bytes:
        """What a short read left, if the file goes on."""
        while len(data) < length and (
            more := os.pread(self.descriptor, length - len(data), offset + len(data))
        ):
            data += more
        return data

    def __del__(self) -> None:
        """Close."""
        os.close(self.descriptor)


class LocalFiles:
    """The files opened last; the oldest are closed."""

    def __init__(self, opener: Callable[[int], int | None]) -> None:
        """Nothing is opened yet.

        Args:
            opener: Descriptor of a shard by its number; None if it cannot be had as a file.
        """
        self._opener = opener
        # glibc gives memory above its threshold back at once, and the next batch pays a page fault per 4 KB:
        # four times the read itself. Freeing one block of this size, never touched, raises the threshold.
        bytes(KEPT_BYTES)
        self._lock = threading.Lock()
        self._open: OrderedDict[int, LocalFile] = OrderedDict()
        self._opened = 0

    def get(self, shard: int) -> LocalFile | None:
        """The open file of a shard; None if it cannot be had as a file.

        Raises:
            DataError: it cannot be opened.
        """
        with self._lock:
            if (known := self._open.get(shard)) is not None:
                self._open.move_to_end(shard)
                return known
            self._opened += 1
            number = self._opened
        if (descriptor := self._opener(shard)) is None:
            return None
        opened = LocalFile(descriptor, number)
        with self._lock:
            self._open[shard] = opened
            if len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
        return opened


def open_local(uri: str) -> int:
    """A descriptor of a local file.

    Raises:
        DataError: it cannot be opened.
    """
    try:
        return os.open(str(local_path(uri)), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise unreadable(uri, 0, error) from error


def unreadable(uri: str, at: int, error: object) -> DataError:
    """The error of a shard that storage does not give."""
    return DataError(
        "images cannot be read",
        expected="the file that was indexed",
        got=error,
        where=f"{uri} at byte {at:,}",
        fix="put the file back, or index again",
    )
