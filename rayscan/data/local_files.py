"""Local shards held open and read by position; `os.pread` shares none, so many threads at once may."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence

from rayscan.data.addresses import local_path
from rayscan.errors import DataError

MAX_OPEN = 128


class LocalFile:
    """A descriptor that closes itself when the last thread that reads from it lets go."""

    def __init__(self, path: str, number: int) -> None:
        """Open.

        Args:
            path: Of the file.
            number: Which opening this is, counted over all files.
        """
        self.number = number
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def rest(self, data: bytes, offset: int, length: int) -> bytes:
        """What a short read left, if the file goes on."""
        while len(data) < length and (
            more := os.pread(self.descriptor, length - len(data), offset + len(data))
        ):
            data += more
        return data

    def __del__(self) -> None:
        """Close."""
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class LocalFiles:
    """The files opened last; the oldest are closed."""

    def __init__(self, uris: Sequence[str]) -> None:
        """Nothing is opened yet."""
        self._uris = uris
        self._lock = threading.Lock()
        self._open: OrderedDict[int, LocalFile] = OrderedDict()
        self._opened = 0

    def get(self, shard: int) -> LocalFile:
        """The open file of a shard.

        Raises:
            DataError: it cannot be opened.
        """
        with self._lock:
            if (known := self._open.get(shard)) is not None:
                self._open.move_to_end(shard)
                return known
            self._opened += 1
            number = self._opened
        path = local_path(self._uris[shard])
        try:
            opened = LocalFile(str(path), number)
        except OSError as error:
            raise unreadable(self._uris[shard], 0, error) from error
        with self._lock:
            self._open[shard] = opened
            if len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
        return opened


def unreadable(uri: str, at: int, error: object) -> DataError:
    """The error of a shard that storage does not give."""
    return DataError(
        "images cannot be read",
        expected="the file that was indexed",
        got=error,
        where=f"{uri} at byte {at:,}",
        fix="put the file back, or index again",
    )
