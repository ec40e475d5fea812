"""Files of the user, local or remote: whether they are there, how large they are, and what is in them."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa
from pyarrow import fs as pafs

from rayscan.errors import ArtifactError, DataError
from rayscan.storage.filesystems import is_local, local_path, locate
from rayscan.storage.policy import ONCE, RetryPolicy, retry

T = TypeVar("T")

MISSING = -1
LOCAL_BUFFER = 1 << 20
REMOTE_BUFFER = 8 << 20


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file by its address."""

    uri: str
    size: int
    """Bytes; `MISSING` if no file is there."""
    mtime_ns: int
    """Time of the last change, ns; 0 where the store does not tell."""

    @classmethod
    def of(cls, uri: str, info: pafs.FileInfo) -> FileInfo:
        """What a filesystem tells of an address."""
        is_file = info.type == pafs.FileType.File
        return cls(uri, info.size, info.mtime_ns or 0) if is_file else cls(uri, MISSING, 0)


def policy_of(uri: str) -> RetryPolicy | None:
    """The retry policy for an address: a local disk is asked once."""
    return ONCE if is_local(uri) else None


def read(uri: str) -> bytes:
    """All bytes of a file.

    Raises:
        DataError: it is not there or cannot be read.
    """

    def ask() -> bytes:
        filesystem, path = locate(uri)
        with filesystem.open_input_stream(path, compression=None) as stream:
            return bytes(stream.read())

    try:
        return retry(ask, policy_of(uri))
    except (OSError, ArtifactError, pa.ArrowInvalid) as error:
        raise DataError("a file cannot be read", expected="a readable file", got=error, where=uri) from error


def kind_of(uri: str) -> pafs.FileType:
    """Whether a file, a folder or nothing is at an address.

    Raises:
        DataError: the storage does not answer.
    """

    def ask() -> pafs.FileType:
        filesystem, path = locate(uri)
        return filesystem.get_file_info(path).type

    return _answer(uri, ask)


def stat(uris: Sequence[str]) -> list[FileInfo]:
    """Size and time of files, in the order asked; many at once, because a remote answer takes tens of ms.

    Raises:
        DataError: the storage does not answer.
    """
    groups: dict[int, list[int]] = defaultdict(list)
    places = [locate(uri) for uri in uris]
    for number, (filesystem, _) in enumerate(places):
        groups[0 if isinstance(filesystem, pafs.LocalFileSystem) else id(filesystem)].append(number)
    found: dict[int, FileInfo] = {}
    for numbers in groups.values():
        filesystem, paths = places[numbers[0]][0], [places[n][1] for n in numbers]
        infos = _answer(uris[numbers[0]], partial(filesystem.get_file_info, paths))
        found |= {n: FileInfo.of(uris[n], info) for n, info in zip(numbers, infos, strict=True)}
    return [found[number] for number in range(len(uris))]


def names_in(folder: str) -> list[str]:
    """Names of everything directly in a folder, sorted; empty if it is not there.

    Raises:
        DataError: the storage does not answer.
    """

    def ask() -> list[str]:
        filesystem, path = locate(folder)
        infos = filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True))
        return sorted(info.base_name for info in infos)

    return _answer(folder, ask)


def _answer(uri: str, ask: Callable[[], T]) -> T:
    try:
        return retry(ask, policy_of(uri))
    except (OSError, ArtifactError, pa.ArrowInvalid) as error:
        raise DataError(
            "storage did not answer",
            expected="a file, a folder or nothing",
            got=error,
            where=uri,
            fix="check the address, your rights, and the storage",
        ) from error


class RemoteFile:
    """A remote file read by position; opened again when a request fails. Many threads may use it."""

    def __init__(self, uri: str, policy: RetryPolicy | None = None) -> None:
        """Nothing is opened yet.

        Args:
            uri: Address.
            policy: Deadline and waits; those of the environment if not given.
        """
        self.uri, self._policy = uri, policy
        self._opened: Any = None

    def size(self) -> int:
        """Bytes of the file.

        Raises:
            OSError: the store gives no answer, or no such object.
        """
        return self._asked(lambda file: int(file.size()))

    def read(self, first: int, stop: int) -> bytes:
        """Bytes first..stop; fewer at the end of the file.

        Raises:
            OSError: the store gives no answer, or no such object.
        """
        return self._asked(lambda file: bytes(file.read_at(stop - first, first)))

    def _asked(self, ask: Callable[[Any], T]) -> T:
        def request() -> T:
            try:
                if self._opened is None:
                    filesystem, path = locate(self.uri)
                    self._opened = filesystem.open_input_file(path)
                return ask(self._opened)
            except OSError:
                self._opened = None  # the next try begins with a new connection
                raise

        return retry(request, self._policy)


class RangeStream(io.RawIOBase):
    """A binary stream over something that is read by position."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        """Begin at the first byte.

        Args:
            read: Gives the bytes first..stop.
            size: Bytes in all.
        """
        self._read, self._size, self._position = read, size, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from here on; fewer bytes at the end."""
        stop = min(self._position + len(buffer), self._size)
        data = self._read(self._position, stop) if stop > self._position else b""
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def open_file(uri: str) -> BinaryIO:
    """A file to be read at any position, buffered.

    Raises:
        OSError: it cannot be opened.
    """
    if (path := local_path(uri)) is not None:
        return Path(path).open("rb", buffering=LOCAL_BUFFER)
    remote = RemoteFile(uri)
    return io.BufferedReader(RangeStream(remote.read, remote.size()), REMOTE_BUFFER)
