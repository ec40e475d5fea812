"""What a format of stored images has to do: say which files are its own, scan one, read images from it.

A new format is one file in this folder with a class below `Format`, and one line in the table `FORMATS` of
this package. A format that names images which lie elsewhere is a `ListFormat`, in the table `LISTS`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, Protocol

import pyarrow as pa

from rayscan.data import addresses
from rayscan.data.table import IMAGE_SCHEMA
from rayscan.data.tones import PLAIN, Decoding
from rayscan.errors import ConfigError
from rayscan.types import Ints

ROWS = pa.schema([IMAGE_SCHEMA.field(n) for n in IMAGE_SCHEMA.names if n not in ("gid", "split", "shard")])
"""What a scan tells of each image; the index stage adds gid, split and shard."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that holds one image or many."""

    uri: str
    """Absolute path or URI."""
    key: str
    """Name below `Listing.root`: it stays when the whole set moves."""
    size: int
    """Bytes; -1 if a list names it and it is not there."""
    mtime_ns: int
    """Time of the last change, ns; 0 where the store does not tell."""
    id: str | None = None
    """The user's own name of the image, from a list."""


@dataclass(frozen=True)
class Scan:
    """What one file holds."""

    uri: str
    size: int
    """Bytes of the file."""
    sha256: str
    """Hash of the whole file, in hex; empty if the file is one image, which its crc32 covers."""
    rows: Sequence[Mapping[str, Any]]
    """One per image, by the names of `ROWS`, in the order of the file; what is left out is null. `TONES`
    may be beside them."""
    members: Mapping[str, int]
    """How many members have the extensions `cls` and `json`, how many are `other`; and how many samples have
    no image, as `imageless`. Empty if the file is one image."""
    metadata: pa.Table | None = None
    """Further columns that the file has of its images, a row each; None if it has none."""

    @property
    def table(self) -> pa.Table:
        """The rows, by schema `ROWS`."""
        return pa.Table.from_pylist(list(self.rows), ROWS)


class Rows(NamedTuple):
    """Images to be read, all from files of one format."""

    shard: Ints
    """Number of the file of each image [n]."""
    offset: Ints
    """As the scan told it [n]."""
    length: Ints
    """As the scan told it [n]."""


class Images(NamedTuple):
    """Images as they came from storage, not yet compared with the index."""

    data: list[bytes]
    """Encoded images [n]."""
    openings: Ints
    """Which opening of its file each came from [n]; 0 where every read has to be compared."""


class Files(Protocol):
    """Access to the files of an index by their numbers. `stored_files` and `verification` implement it."""

    def ranges(self, rows: Rows) -> Images:
        """Bytes offset..offset + length of each row, in the order asked; fewer where a file ends before.

        Raises:
            DataError: a file cannot be read.
        """

    def open(self, shard: int) -> tuple[BinaryIO, int]:
        """A file to be read at any position and closed by the caller, and the number of its opening.

        Raises:
            DataError: it cannot be opened.
        """


class SideFile(NamedTuple):
    """A small file beside an image."""

    key: str
    """Key of the image."""
    extension: str
    """In lower case, without a dot."""
    data: bytes


class Format(Protocol):
    """A format of files that hold images. Without state: it travels to workers."""

    name: str
    """What its files are called in messages, in the plural, and in the settings of an index."""
    suffixes: tuple[str, ...]
    """Ends of the names of its files, in lower case."""
    has_many: bool
    """Whether a file holds many images. Then it is scanned by a task of its own, is hashed as a whole, may be
    kept in the node's cache, and is not packed into shards, unless `is_unpacked`."""
    is_unpacked: bool = False
    """Whether images of a file of many may be packed into shards all the same."""
    gives_way: bool = False
    """Whether its files in a folder are no images of that folder where it has files of other formats."""

    def claims(self, uri: str) -> bool:
        """Whether a file of this name is of this format; nothing is opened."""
        return addresses.plain(uri).lower().endswith(self.suffixes)

    def with_column(self, column: str) -> Format:
        """The format for files whose images are in this column.

        Raises:
            ConfigError: its files have no columns.
        """
        raise ConfigError(
            "there are no columns to choose from",
            expected="Parquet files with images",
            got=f"{self.name}, --image-column {column}",
        )

    def with_member(self, extension: str) -> Format:
        """The format for files whose images are the members with this extension, of several in a sample.

        Raises:
            ConfigError: its files have no samples of several members.
        """
        raise ConfigError(
            "there are no members to choose from",
            expected="tars with samples",
            got=f"{self.name}, --image-member {extension}",
        )

    def holding(self, uris: Sequence[str]) -> Sequence[str]:
        """Those of the files it claims that hold images: all, unless other files have such names too.

        Raises:
            DataError: a file cannot be read.
        """
        return uris

    def refuse(self, uris: Sequence[str]) -> None:
        """Refuse what can be told from the names of its files alone.

        Raises:
            DataError: naming what cannot be used, and why.
        """
        return

    def scan(self, entry: SourceFile, *, max_pixels: int, how: Decoding = PLAIN) -> Scan:
        """Read a file through once: find, checksum and decode its images.

        Args:
            entry: The file.
            max_pixels: Images with more pixels are decoded reduced, or noted as bad, undecoded.
            how: See `decode`.

        Raises:
            DataError: the file is damaged, or cannot be read now.
        """
        ...

    def read(self, files: Files, rows: Rows) -> Images:
        """The images of some rows, in the order asked. Offset and length mean what the scan made them mean.

        Raises:
            DataError: a file cannot be read.
        """
        return files.ranges(rows)

    def side_files(self, uri: str, extensions: Collection[str]) -> Iterator[SideFile]:
        """Small files with these extensions beside the images of a file; none unless a format has them.

        Raises:
            DataError: the file is damaged, or cannot be read.
        """
        yield from ()


class ListFormat(Protocol):
    """A format of files that name images which lie elsewhere."""

    suffixes: tuple[str, ...]
    """Ends of the names of its files, in lower case."""

    def claims(self, uri: str) -> bool:
        """Whether a file of this name, given by the user, is of this format."""
        return addresses.plain(uri).lower().endswith(self.suffixes)

    def names(self, uri: str) -> tuple[list[str | None], list[str | None]]:
        """Paths or URIs of the images as the file has them, and the user's own id of each or None.

        Raises:
            DataError: the file cannot be read, or names no images.
        """
        ...

    def columns(self, uri: str) -> pa.Table | None:
        """What else the file has, a row per image; None if nothing.

        Raises:
            DataError: the file cannot be read.
        """
        return None
