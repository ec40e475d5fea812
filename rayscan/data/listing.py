"""Where the images are: what the user passes as `--data` becomes a sorted list of files. The river's spring.

Understood: tar shards or images by name, glob (`*`, `?`, `[..]`, `**`), brace pattern (`{000..009}`, `{a,b}`)
or comma list; a folder, nested or flat; a `.parquet`, `.csv` or `.txt` list of paths or URIs. Local or on any
filesystem of `pyarrow.fs`. Nothing is opened except lists; commands and web addresses are refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from rayscan.artifacts import digest
from rayscan.data import addresses, trees
from rayscan.data.addresses import Found
from rayscan.errors import DataError
from rayscan.storage import join

IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"})
_LISTS = (".parquet", ".csv", ".txt")
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_COMMAND = re.compile(r"\s*(pipe|exec|cmd|sh):")
_SHELL = re.compile(r"[|`\n]|\$\(")
_WEB = re.compile(r"\s*(https?|ftp)://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A tar shard, or an image that is a file of its own."""

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
class Listing:
    """The files of one split, sorted by address."""

    kind: Literal["shards", "files"]
    entries: tuple[SourceFile, ...]
    root: str
    """Folder that keys are relative to."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(max(entry.size, 0) for entry in self.entries)

    @property
    def fingerprint(self) -> str:
        """Sha256 over addresses, sizes, times and ids: whether anything has changed since."""
        return digest([self.root, *([e.uri, e.size, e.mtime_ns, e.id] for e in self.entries)])


@dataclass(frozen=True)
class _Part:
    """What one part of the user's text came to."""

    files: Sequence[Found]
    root: str
    is_list: bool = False
    ids: Sequence[str | None] = ()


def list_sources(data: str, tell: trees.Tell = trees.silent) -> Listing:
    """Find the files that the user means.

    Args:
        data: Name, glob, brace pattern, comma list of those, folder, or list file; local or remote.
        tell: Hears how many files of a part of that list were found so far, now and then.

    Raises:
        DataError: nothing matches; named files are missing; tars and images are mixed; the text is a command
            or a web address; a list cannot be read.
    """
    _refuse(data)
    is_name = addresses.kind_of(addresses.absolute(data)) != pafs.FileType.NotFound  # it may hold , { |
    if not is_name and _SHELL.search(data):
        raise DataError(
            "this looks like a command", expected="paths or URIs", got=data, fix="rayscan runs no commands"
        )
    texts = [data] if is_name else addresses.split_commas(data)
    for text in texts:
        _refuse(text)
    parts = [_part(text, tell) for text in texts]
    root = addresses.common_folder(part.root for part in parts)
    entries: dict[str, SourceFile] = {}
    kinds: Counter[str] = Counter()
    others: list[str] = []
    for part in parts:
        for found, own_id in zip(part.files, part.ids or [None] * len(part.files), strict=True):
            if (kind := _kind(found.uri, is_listed=part.is_list)) == "other":
                others.append(found.uri)
                continue
            kinds[kind] += found.uri not in entries
            key = addresses.plain(found.uri)[len(root) :].lstrip("/")
            entries[found.uri] = SourceFile(found.uri, key, found.size, found.mtime_ns, own_id)
    _check(data, kinds, others)
    in_order = tuple(entries[uri] for uri in sorted(entries))
    return Listing("shards" if kinds["shards"] else "files", in_order, root)


def _refuse(uri: str) -> None:
    if not uri.strip() or "\0" in uri:
        raise DataError(
            "this is no path", expected="a path or URI", got=ascii(uri), where="--data or --eval-data"
        )
    if _COMMAND.match(uri):
        raise DataError(
            "commands are not data",
            expected="a path or URI",
            got=uri,
            fix="write the output to a file and name that",
        )
    if _WEB.match(uri):
        raise DataError(
            "web addresses cannot be read by position",
            expected="a local path, s3://, gs:// or another filesystem",
            got=uri,
            fix="download the files first, or mount them",
        )


def _kind(uri: str, *, is_listed: bool) -> str:
    name = addresses.plain(uri).rpartition("/")[2].lower()
    if name.endswith(".tar"):
        return "shards"
    if name.endswith(_PACKED):
        return "packed"
    _, dot, extension = name.rpartition(".")
    return "files" if is_listed or (dot and extension in IMAGE_EXTENSIONS) else "other"


def _check(data: str, kinds: Counter[str], others: Sequence[str]) -> None:
    if kinds["packed"]:
        raise DataError(
            "compressed tars cannot be read by position",
            expected="plain .tar",
            got=f"{kinds['packed']} compressed",
            where=data,
            fix="unpack them with gunzip, unxz or unzstd; images gain nothing from a second compression",
        )
    if kinds["shards"] and kinds["files"]:
        raise DataError(
            "tar shards and image files are mixed",
            expected="one kind",
            got=f"{kinds['shards']} tars and {kinds['files']} images",
            where=data,
            fix="name one of them by a pattern such as '*.tar' or '*.jpg', or give two splits",
        )
    if not kinds["shards"] and not kinds["files"]:
        raise DataError(
            "there are no images here",
            expected=f".tar shards, or {' '.join(sorted(IMAGE_EXTENSIONS))}",
            got=_names(others) if others else "no file",
            where=data,
        )


def _names(uris: Sequence[str], limit: int = 6) -> str:
    more = f" and {len(uris) - limit:,} more" if len(uris) > limit else ""
    return ", ".join(uri.rpartition("/")[2] for uri in uris[:limit]) + more


def _part(text: str, tell: trees.Tell) -> _Part:
    uri = addresses.absolute(text)
    kind = addresses.kind_of(uri)
    if kind == pafs.FileType.Directory:
        return _Part(trees.tree(uri, tell=tell), addresses.plain(uri))
    if kind == pafs.FileType.File and addresses.plain(uri).lower().endswith(_LISTS):
        return _listed(uri)
    if kind == pafs.FileType.File:
        return _Part(addresses.stat([uri]), addresses.parent(uri))
    names = addresses.expand_braces(uri)
    found = _named([name for name in names if not addresses.is_glob(name)], tell)
    found += [file for name in names if addresses.is_glob(name) for file in trees.matching(name, tell)]
    folders = {addresses.fixed_folder(name)[0] for name in names}
    if not found:
        raise DataError(
            "nothing matches", expected=text, got=_around(min(folders)), where="--data or --eval-data"
        )
    return _Part(found, addresses.common_folder(folders))


def _named(uris: Sequence[str], tell: trees.Tell) -> list[Found]:
    """Files and folders that are named one by one; all of them have to be there."""
    files: list[Found] = []
    missing: list[str] = []
    for file in addresses.stat(uris):
        if file.size != addresses.MISSING:
            files.append(file)
        elif addresses.kind_of(file.uri) == pafs.FileType.Directory:
            files += trees.tree(file.uri, tell=tell)
        else:
            missing.append(file.uri)
    if missing:
        raise DataError(
            "named files are missing",
            expected=f"{len(uris):,} files",
            got=f"{len(missing):,} not there: {_names(missing)}",
            where=_around(addresses.fixed_folder(missing[0])[0]),
            fix="correct the pattern, or use * for whatever is there",
        )
    return files


def _around(folder: str) -> str:
    """What is in a folder, or in the nearest one above that exists."""
    while not (names := addresses.names_in(folder)) and addresses.parent(folder) not in ("", folder):
        folder = addresses.parent(folder)
    return f"{folder} holds {_names(names) if names else 'nothing'}"


def _listed(uri: str) -> _Part:
    """Files that a list names. Relative ones are meant from the list's own folder."""
    names, ids = _columns(uri)
    folder = addresses.parent(uri)
    uris = []
    for number, name in enumerate(names):
        if not name:
            raise DataError(
                "a list has an empty row", expected="a path or URI", got=name, where=f"{uri} row {number}"
            )
        _refuse(name)
        uris.append(addresses.absolute(name if "://" in name or name.startswith("/") else join(folder, name)))
    twice = [name for name, count in Counter(uris).items() if count > 1]
    if twice:
        raise DataError("a list names files twice", expected="each once", got=_names(twice), where=uri)
    root = addresses.common_folder({addresses.plain(addresses.parent(name)) for name in uris})
    return _Part(addresses.stat(uris), root, is_list=True, ids=ids)


def _columns(uri: str) -> tuple[list[str | None], list[str | None]]:
    """Names and ids of a list file."""
    name, data = addresses.plain(uri), addresses.read(uri)
    try:
        if name.lower().endswith(".txt"):
            lines = [line.strip() for line in data.decode().splitlines() if line.strip()]
            return list(lines), [None] * len(lines)
        table = read_rows(name, data)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise DataError("a list cannot be read", expected=" ".join(_LISTS), got=error, where=uri) from error
    column = next((c for c in ("uri", "path") if c in table.column_names), None)
    if column is None:
        raise DataError(
            "a list has no addresses", expected="a column uri or path", got=table.column_names, where=uri
        )
    ids = table["id"].cast(pa.string()).to_pylist() if "id" in table.column_names else [None] * len(table)
    return table[column].cast(pa.string()).to_pylist(), ids


def read_rows(name: str, data: bytes) -> pa.Table:
    """Rows of a CSV or Parquet file; names, ids and labels of a CSV stay text, so that 007 is not 7.

    Raises:
        pa.ArrowInvalid: the bytes are neither.
    """
    if name.lower().endswith(".parquet"):
        return pq.read_table(pa.BufferReader(data))
    as_text = {
        column: pa.string() for column in ("uri", "path", "id", "source", "key", "split", "label", "class")
    }
    return pa_csv.read_csv(pa.BufferReader(data), convert_options=pa_csv.ConvertOptions(column_types=as_text))
