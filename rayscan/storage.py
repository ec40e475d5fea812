"""Bytes in and out of local paths and object stores, through `pyarrow.fs`. Knows nothing of stages.

A local write goes to a temporary name, is fsynced and renamed; an object store's PUT is atomic by itself. So
a file that exists under its name is whole.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs as pafs

from rayscan.errors import ArtifactError


def is_local(uri: str) -> bool:
    """Whether `uri` names a path on this machine."""
    return urlsplit(uri).scheme in ("", "file")


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


class Place:
    """A directory, local or remote. Cheap to make, travels between processes as its URI."""

    def __init__(self, uri: str) -> None:
        """Remember where; nothing is opened or made yet.

        Args:
            uri: Path or URI. A relative local path is made absolute, so that workers agree on it.
        """
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
        """Write a file whole; readers see the old one, none, or the new one."""
        filesystem, path = resolve(join(self.uri, name))
        if isinstance(filesystem, pafs.LocalFileSystem):
            _write_local(Path(path), data)
            return
        filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        with filesystem.open_output_stream(path) as stream:
            stream.write(data)

    def read(self, name: str) -> bytes:
        """All bytes of a file.

        Raises:
            FileNotFoundError: it is not there.
        """
        filesystem, path = resolve(join(self.uri, name))
        with filesystem.open_input_stream(path, compression=None) as stream:
            return bytes(stream.read())

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""
        filesystem, path = resolve(join(self.uri, name))
        info = filesystem.get_file_info(path)
        return info.size if info.type == pafs.FileType.File else None

    def names(self) -> list[str]:
        """Names of everything directly in here, sorted; empty if the place does not exist."""
        filesystem, path = resolve(self.uri)
        selector = pafs.FileSelector(path.rstrip("/"), allow_not_found=True)
        return sorted(info.base_name for info in filesystem.get_file_info(selector))

    def delete(self, name: str) -> None:
        """Remove a file or a directory tree in here; nothing happens if it is not there."""
        filesystem, path = resolve(join(self.uri, name))
        kind = filesystem.get_file_info(path).type
        if kind == pafs.FileType.File:
            filesystem.delete_file(path)
        elif kind == pafs.FileType.Directory:
            filesystem.delete_dir(path)


def _write_local(path: Path, data: bytes | memoryview) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
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
