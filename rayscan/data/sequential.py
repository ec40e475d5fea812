"""A stored file read once from beginning to end, hashed on the way. For scans and for `verification`."""

from __future__ import annotations

import hashlib
import io
from types import TracebackType
from typing import Self

from rayscan.errors import DataError
from rayscan.storage import open_file

READ_BYTES = 1 << 20


class SequentialFile:
    """A file read forwards, with its position and, if asked, a running sha256 of all that passed."""

    def __init__(self, uri: str, *, is_hashing: bool = False) -> None:
        """Open a local or remote file.

        Raises:
            DataError: it cannot be opened.
        """
        self.uri, self.position = uri, 0
        self._hash = hashlib.sha256() if is_hashing else None
        try:
            self._stream = open_file(uri)
            self.size = self._stream.seek(0, io.SEEK_END)
            self._stream.seek(0)
        except OSError as error:
            raise DataError(
                "a shard cannot be opened", expected="a readable file", got=error, where=uri
            ) from error

    def __enter__(self) -> Self:
        """Use as a context."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Close the file."""
        self._stream.close()

    def read(self, length: int) -> bytes:
        """The next bytes; fewer only at the end of the file.

        Raises:
            DataError: the storage fails.
        """
        try:
            data = self._stream.read(length)
        except OSError as error:
            raise DataError(
                "a shard cannot be read", got=error, where=f"{self.uri} at {self.position:,}"
            ) from error
        self.position += len(data)
        if self._hash is not None:
            self._hash.update(data)
        return data

    def seek_forward(self, position: int) -> None:
        """Go on to a later position."""
        if self._hash is None:
            self.position = self._stream.seek(position)
        while self.position < position and self.read(min(READ_BYTES, position - self.position)):
            pass

    @property
    def sha256(self) -> str:
        """Hash in hex of everything read so far."""
        return self._hash.hexdigest() if self._hash else ""
