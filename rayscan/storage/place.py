"""A directory of results, local or on an object store, whose files are whole or not there.

A local write goes to a temporary name, is fsynced and renamed; an object store's PUT is atomic by itself. So
a file that exists under its name is whole.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from pyarrow import fs as pafs

from rayscan.errors import ArtifactError, ConfigError
from rayscan.storage.files import policy_of
from rayscan.storage.filesystems import join, locate, refuse_secrets, split_query, with_query
from rayscan.storage.policy import default_policy, retry

T = TypeVar("T")


def split_uri(uri: str) -> tuple[Place, str]:
    """Return the directory that a file lies in, and the file's name."""
    head, query = split_query(uri)
    folder, slash, name = head.rpartition("/")
    return Place(with_query(folder or slash or ".", query)), name


class Place:
    """A directory, local or remote. Cheap to make, travels between processes as its URI."""

    def __init__(self, uri: str) -> None:
        """Name a directory; nothing is opened or made yet.

        Args:
            uri: Path or URI. A relative local path is made absolute, so that workers agree on it.

        Raises:
            ConfigError: it is empty or carries credentials.
        """
        if not uri.strip():
            raise ConfigError(
                "an address is empty", expected="a folder or a prefix of a store", got=ascii(uri)
            )
        refuse_secrets(uri)
        self.uri = str(Path(uri).expanduser().absolute()) if "://" not in uri else uri

    def __reduce__(self) -> tuple[object, ...]:
        """Travel as the URI: filesystem clients do not survive pickling everywhere."""
        return (Place, (self.uri,))

    def __eq__(self, other: object) -> bool:
        """Whether both name the same directory."""
        return isinstance(other, Place) and self.uri == other.uri

    def __hash__(self) -> int:
        """Hash of the address, so that what is made of a place can be cached."""
        return hash(self.uri)

    def __repr__(self) -> str:
        """For messages."""
        return f"Place({self.uri!r})"

    def child(self, *names: str) -> Place:
        """The directory below."""
        return Place(join(self.uri, *names))

    def uri_of(self, name: str) -> str:
        """Full address of a file in here, for messages and readers."""
        return join(self.uri, name)

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Write a file whole; readers see the old one, none, or the new one.

        Raises:
            ArtifactError: the disk is full, or the store refused or stayed away too long.
        """

        def put() -> None:
            filesystem, path = locate(join(self.uri, name))
            if isinstance(filesystem, pafs.LocalFileSystem):
                _write_local(Path(path), lambda stream: stream.write(data))
                return
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            with filesystem.open_output_stream(path) as stream:
                stream.write(data)

        self.retried(put, name)

    def write_stream(self, name: str, produce: Callable[[BinaryIO], None]) -> None:
        """Write a file that never is in memory as a whole.

        A store makes an object of what a broken stream had sent, so only a name that nobody reads before this
        returns will do: unlike `write`, this is no atomic replacement.

        Args:
            name: Below this place, unique to one attempt.
            produce: Writes the content; called again from the start if the store goes away meanwhile.

        Raises:
            ArtifactError: the disk is full, or the store refused or stayed away too long.
        """

        def put() -> None:
            filesystem, path = locate(join(self.uri, name))
            if isinstance(filesystem, pafs.LocalFileSystem):
                _write_local(Path(path), produce)
                return
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            with filesystem.open_output_stream(path) as stream:
                produce(stream)

        self.retried(put, name, is_long=True)

    def read(self, name: str) -> bytes:
        """All bytes of a file.

        Raises:
            FileNotFoundError: it is not there.
            ArtifactError: the store refused or stayed away too long.
        """

        def get() -> bytes:
            filesystem, path = locate(join(self.uri, name))
            with filesystem.open_input_stream(path, compression=None) as stream:
                return bytes(stream.read())

        return self.retried(get, name)

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""

        def ask() -> int | None:
            filesystem, path = locate(join(self.uri, name))
            info = filesystem.get_file_info(path)
            return info.size if info.type == pafs.FileType.File else None

        return self.retried(ask, name)

    def names(self) -> list[str]:
        """Names of everything directly in here, sorted; empty if the place does not exist."""

        def ask() -> list[str]:
            filesystem, path = locate(self.uri)
            selector = pafs.FileSelector(path.rstrip("/"), allow_not_found=True)
            return sorted(info.base_name for info in filesystem.get_file_info(selector))

        return self.retried(ask, "")

    def delete(self, name: str) -> None:
        """Remove a file or a directory tree in here; nothing happens if it is not there."""

        def remove() -> None:
            filesystem, path = locate(join(self.uri, name))
            kind = filesystem.get_file_info(path).type
            if kind == pafs.FileType.File:
                filesystem.delete_file(path)
            elif kind == pafs.FileType.Directory:
                filesystem.delete_dir(path)

        self.retried(remove, name)

    def retried(self, ask: Callable[[], T], name: str, *, is_long: bool = False) -> T:
        """The answer of the store, within the deadline of the retry policy.

        Args:
            ask: Reads or writes; may be called several times.
            name: Of the file, for the message.
            is_long: It may work for longer than the deadline, which then begins at the first failure.

        Raises:
            ArtifactError: the store refused or stayed away too long.
        """
        try:
            return retry(ask, policy_of(self.uri), from_first_failure=is_long)
        except (FileNotFoundError, NotADirectoryError):
            raise
        except (OSError, ArtifactError) as error:
            if isinstance(error, ArtifactError) and not isinstance(error.__cause__, OSError):
                raise
            deadline = (policy_of(self.uri) or default_policy()).deadline_s
            raise ArtifactError(
                "storage did not do what was asked",
                expected=f"an answer within {deadline:g} s"
                if deadline
                else "a disk with room, and the right to it",
                got=error,
                where=join(self.uri, name) if name else self.uri,
                fix="check the storage; the same command goes on from what is whole",
            ) from error


def _write_local(path: Path, produce: Callable[[BinaryIO], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("wb") as stream:
            produce(stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)  # so that the rename itself survives a power cut
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
