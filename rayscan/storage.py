"""Bytes in and out of local paths and object stores, through `pyarrow.fs`. Knows nothing of stages.

A local write goes to a temporary name, is fsynced and renamed; an object store's PUT is atomic by itself. So
a file that exists under its name is whole.
"""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
from pyarrow import fs as pafs

from rayscan.errors import ArtifactError, ConfigError

T = TypeVar("T")

PATIENCE = "RAYSCAN_STORE_PATIENCE_SECONDS"
"""Environment variable: how long a store may be away before what asks it ends; 120 s if not set."""

REFUSALS = (
    "ACCESS_DENIED",
    "NO_SUCH_BUCKET",
    "INVALID_ACCESS_KEY",
    "SIGNATURE_DOES_NOT_MATCH",
    "HTTP status 40",
)
"""Marks of an answer that would be the same the next time."""

SECRETS = ("access_key", "secret_key", "session_token", "password", "token", "sas_token", "account_key")


def is_local(uri: str) -> bool:
    """Whether `uri` names a path on this machine."""
    return urlsplit(uri).scheme in ("", "file")


def refuse_secrets(uri: str) -> None:
    """Refuse an address that carries credentials: addresses are written to results, logs and job records.

    Raises:
        ConfigError: naming the place and what was found, not the secret.
    """
    parts = urlsplit(uri) if "://" in uri else None
    if parts is None:
        return
    named = [name for name, _ in parse_qsl(parts.query) if name.lower() in SECRETS]
    if "@" in parts.netloc and parts.scheme in ("s3", "gs", "gcs", "http", "https", "abfs", "abfss"):
        is_container = parts.scheme.startswith("abfs") and ":" not in parts.netloc.partition("@")[0]
        named += [] if is_container else ["user:password@"]
    if named:
        raise ConfigError(
            "an address carries credentials",
            expected="an address alone; addresses are kept in results and logs",
            got=f"{', '.join(named)} in the address",
            where=f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}",
            fix="give them to every node by instance role or environment (AWS_ACCESS_KEY_ID and the like)",
        )


def resolve(uri: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem of a path or URI, and the path inside it.

    Args:
        uri: A local path, or file:// s3:// gs:// hdfs://, or any scheme that fsspec knows.

    Raises:
        ArtifactError: the scheme is unknown or its client cannot start.
    """
    if "://" not in uri:
        return pafs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    try:
        filesystem, path = pafs.FileSystem.from_uri(uri)
        return filesystem, path
    except pa.ArrowInvalid as unknown:
        return _through_fsspec(uri, unknown)
    except OSError as error:
        raise ArtifactError(
            "storage cannot be opened", got=error, where=uri, fix="check the address and your credentials"
        ) from error


def _through_fsspec(uri: str, unknown: Exception) -> tuple[pafs.FileSystem, str]:
    import fsspec  # only for schemes that Arrow does not know itself

    try:
        filesystem, path = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError) as error:
        raise ArtifactError(
            "storage address is not understood",
            expected="a local path, file://, s3://, gs://, or a scheme of an installed fsspec filesystem",
            got=unknown,
            where=uri,
            fix="check the part before ://",
        ) from error
    return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), path


def join(uri: str, *names: str) -> str:
    """`uri` with path parts appended; a query string (endpoint and the like) stays at the end."""
    head, mark, query = uri.partition("?")
    return "/".join([head.rstrip("/"), *[n.strip("/") for n in names]]) + mark + query


def split_uri(uri: str) -> tuple[Place, str]:
    """Return the directory that a file lies in, and the file's name."""
    head, mark, query = uri.partition("?") if "://" in uri else (uri, "", "")
    folder, slash, name = head.rpartition("/")
    return Place((folder or slash or ".") + mark + query), name


class Place:
    """A directory, local or remote. Cheap to make, travels between processes as its URI."""

    def __init__(self, uri: str) -> None:
        """Remember where; nothing is opened or made yet.

        Args:
            uri: Path or URI. A relative local path is made absolute, so that workers agree on it.

        Raises:
            ConfigError: it carries credentials.
        """
        refuse_secrets(uri)
        self.uri = str(Path(uri).expanduser().absolute()) if "://" not in uri else uri

    def __reduce__(self) -> tuple[object, ...]:
        """Travel as the URI: filesystem clients do not survive pickling everywhere."""
        return (Place, (self.uri,))

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
            filesystem, path = resolve(join(self.uri, name))
            if isinstance(filesystem, pafs.LocalFileSystem):
                _write_local(Path(path), lambda stream: stream.write(data))
                return
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            with filesystem.open_output_stream(path) as stream:
                stream.write(data)

        self.patiently(put, name)

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
            filesystem, path = resolve(join(self.uri, name))
            if isinstance(filesystem, pafs.LocalFileSystem):
                _write_local(Path(path), produce)
                return
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            with filesystem.open_output_stream(path) as stream:
                produce(stream)

        self.patiently(put, name, is_long=True)

    def read(self, name: str) -> bytes:
        """All bytes of a file.

        Raises:
            FileNotFoundError: it is not there.
            ArtifactError: the store refused or stayed away too long.
        """

        def get() -> bytes:
            filesystem, path = resolve(join(self.uri, name))
            with filesystem.open_input_stream(path, compression=None) as stream:
                return bytes(stream.read())

        return self.patiently(get, name)

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""

        def look() -> int | None:
            filesystem, path = resolve(join(self.uri, name))
            info = filesystem.get_file_info(path)
            return info.size if info.type == pafs.FileType.File else None

        return self.patiently(look, name)

    def names(self) -> list[str]:
        """Names of everything directly in here, sorted; empty if the place does not exist."""

        def look() -> list[str]:
            filesystem, path = resolve(self.uri)
            selector = pafs.FileSelector(path.rstrip("/"), allow_not_found=True)
            return sorted(info.base_name for info in filesystem.get_file_info(selector))

        return self.patiently(look, "")

    def delete(self, name: str) -> None:
        """Remove a file or a directory tree in here; nothing happens if it is not there."""

        def remove() -> None:
            filesystem, path = resolve(join(self.uri, name))
            kind = filesystem.get_file_info(path).type
            if kind == pafs.FileType.File:
                filesystem.delete_file(path)
            elif kind == pafs.FileType.Directory:
                filesystem.delete_dir(path)

        self.patiently(remove, name)

    def patiently(self, ask: Callable[[], T], name: str, *, is_long: bool = False) -> T:
        """Call a function that uses the store; again, after longer and longer waits, while the store is away.

        A local disk is asked once: what it refuses it would refuse again.

        Args:
            ask: Reads or writes; may be called several times.
            name: Of the file, for the message.
            is_long: It may work for longer than patience lasts: that begins at the first failure.

        Raises:
            ArtifactError: the store refused or stayed away too long.
        """
        patience = 0.0 if is_local(self.uri) else float(os.environ.get(PATIENCE, "120"))
        deadline, wait = time.monotonic() + patience, 0.5
        while True:
            try:
                return ask()
            except (FileNotFoundError, NotADirectoryError):
                raise
            except (OSError, ArtifactError) as error:
                if isinstance(error, ArtifactError) and not isinstance(error.__cause__, OSError):
                    raise
                if is_long:
                    deadline, is_long = time.monotonic() + patience, False
                is_final = any(mark in str(error) for mark in REFUSALS)
                if is_final or time.monotonic() + wait > deadline:
                    raise self._unwilling(name, error, patience) from error
            time.sleep(wait * random.uniform(0.5, 1.0))  # not all workers at once
            wait = min(2 * wait, 15.0)

    def _unwilling(self, name: str, error: Exception, patience: float) -> ArtifactError:
        return ArtifactError(
            "storage did not do what was asked",
            expected=f"an answer within {patience:g} s"
            if patience
            else "a disk with room, and the right to it",
            got=error,
            where=join(self.uri, name) if name else self.uri,
            fix="look at the storage; the same command goes on from what is whole",
        )


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
