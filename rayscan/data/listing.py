"""Where the images are: what the user passes as `--data` becomes a sorted list of files.

Understood: shards or images by name, glob (`*`, `?`, `[..]`, `**`), brace pattern (`{000..009}`, `{a,b}`) or
comma list; a folder, nested or flat; a `.parquet`, `.csv` or `.txt` list of paths or URIs. Local or on any
filesystem of `pyarrow.fs`. Nothing is opened except lists, and Parquet files to see whether they hold images;
commands and web addresses are refused.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pyarrow import fs as pafs

from rayscan import storage
from rayscan.artifacts import digest
from rayscan.data import addresses, folders, metadata, sources
from rayscan.data.left_out import LeftOut
from rayscan.data.metadata_columns import flat
from rayscan.data.sources import format_of, list_of, named_format
from rayscan.data.sources.base import Format, ListFormat, SourceFile
from rayscan.errors import DataError
from rayscan.storage import FileInfo, join

FILES_PER_TASK = 512
Map = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]
"""`[fn(item) for item in items]`, here or on the fleet."""
_COMMAND = re.compile(r"\s*(pipe|exec|cmd|sh):")
_SHELL = re.compile(r"[|`\n]|\$\(")
_WEB = re.compile(r"\s*(https?|ftp)://", re.IGNORECASE)


@dataclass(frozen=True)
class Listing:
    """The files of one split, sorted by address."""

    format: Format
    """What all of them are."""
    entries: tuple[SourceFile, ...]
    root: str
    """Folder that keys are relative to."""
    left_out: LeftOut = field(default_factory=LeftOut, compare=False)
    """What was found beside them and not taken."""
    metadata: pa.Table | None = field(default=None, compare=False)
    """What lists and metadata files of folders say of images that are files: `uri`, and their columns."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(max(entry.size, 0) for entry in self.entries)

    def batches(self) -> list[tuple[SourceFile, ...]]:
        """The files in their order, cut into tasks: each that holds many images, or some that hold one."""
        size = 1 if self.format.has_many else FILES_PER_TASK
        return [self.entries[start : start + size] for start in range(0, len(self.entries), size)]

    @property
    def fingerprint(self) -> str:
        """Sha256 over addresses, sizes, times and ids: whether anything has changed since."""
        return digest([self.root, *([e.uri, e.size, e.mtime_ns, e.id] for e in self.entries)])


@dataclass(frozen=True)
class _Part:
    """What one part of the user's text came to."""

    files: Sequence[FileInfo]
    root: str
    is_list: bool = False
    ids: Sequence[str | None] = ()
    metadata: pa.Table | None = None
    """Column `uri`, and what else a list has."""
    is_named: bool = False
    """Whether the user named each file, so that all of them are meant."""


def list_sources(
    data: str,
    tell: folders.Tell = folders.silent,
    image_column: str | None = None,
    image_member: str | None = None,
) -> Listing:
    """Find the files that the user means.

    Args:
        data: Name, glob, brace pattern, comma list of those, folder, or list file; local or remote.
        tell: Hears how many files of a part of that list were found so far, now and then.
        image_column: The column with the images, where they are in Parquet files.
        image_member: The extension of the members that are the images, where samples of shards have several.

    Raises:
        ConfigError: a column or member was named, and the files have none.
        DataError: nothing matches; named files are missing; tars and images are mixed; the text is a command
            or a web address; a list cannot be read.
    """
    left = LeftOut()
    parts = [_part(text, tell, left, image_column) for text in _texts(data)]
    root = addresses.common_folder(part.root for part in parts)
    entries: dict[str, SourceFile] = {}
    by_format: dict[Format | None, list[str]] = defaultdict(list)
    for part in parts:
        for found, own_id in zip(part.files, part.ids or [None] * len(part.files), strict=True):
            known = named_format(found.uri) if part.is_list else format_of(found.uri)
            if known is None or found.uri not in entries:
                by_format[known].append(found.uri)
            if known is not None:
                key = addresses.plain(found.uri)[len(root) :].lstrip("/")
                entries[found.uri] = SourceFile(found.uri, key, found.size, found.mtime_ns, own_id)
    others = by_format.pop(None, [])
    named = {found.uri for part in parts if part.is_named for found in part.files}
    usable, without = sources.usable(
        {one: uris for one, uris in by_format.items() if one}, named, image_column
    )
    others += without
    listed = [part.metadata for part in parts if part.metadata is not None]
    told = metadata.of_folders(others) if any(not one.has_many for one in usable) else {}
    left.add([uri for uri in others if uri not in told])
    chosen = _only_format(data, usable, left)
    in_order = tuple(entries[uri] for uri in sorted(usable[chosen]))
    if image_member is not None:
        chosen = chosen.with_member(image_member)
    return Listing(chosen, in_order, root, left, metadata.of_pictures([*listed, *told.values()]))


def _texts(data: str) -> list[str]:
    """The addresses, patterns and names that the user's text is made of."""
    _refuse(data)
    # What exists is a name, whatever it holds: , { | or a wildcard.
    is_name = data.count("://") <= 1 and storage.kind_of(addresses.absolute(data)) != pafs.FileType.NotFound
    if not is_name and _SHELL.search(data):
        raise DataError(
            "this looks like a command", expected="paths or URIs", got=data, fix="rayscan runs no commands"
        )
    texts = [data] if is_name else addresses.split_commas(data)
    for text in texts:
        _refuse(text)
    return texts


def _refuse(uri: str) -> None:
    if not uri.strip() or "\0" in uri:
        raise DataError(
            "this is no path", expected="a path or URI", got=ascii(uri[:80]), where="--data or a list"
        )
    if uri.count("://") <= 1:
        storage.refuse_malformed(uri)
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


def _only_format(data: str, known: Mapping[Format, Sequence[str]], left: LeftOut) -> Format:
    """The format of all files, which are sorted by it here."""
    for one, uris in known.items():
        one.refuse(uris)
    if len(known) > 1:
        raise DataError(
            "files of several formats are mixed",
            expected="one kind",
            got=" and ".join(f"{len(uris)} {one.name}" for one, uris in known.items()),
            where=data,
            fix="name one of them by a pattern such as '*.tar' or '*.jpg', or give two splits",
        )
    if not known:
        raise DataError(
            f"there are no images here that can be read yet: {left.advice}"
            if left.advice
            else "there are no images here",
            expected=" ".join(suffix for one in sources.FORMATS for suffix in one.suffixes),
            got="; ".join(left.lines()) or "no file",
            where=data,
        )
    return next(iter(known))


def _names(uris: Sequence[str], limit: int = 6) -> str:
    more = f" and {len(uris) - limit:,} more" if len(uris) > limit else ""
    return ", ".join(uri.rpartition("/")[2] for uri in uris[:limit]) + more


def _part(text: str, tell: folders.Tell, left: LeftOut, image_column: str | None) -> _Part:
    uri = addresses.absolute(text)
    kind = storage.kind_of(uri)
    if kind == pafs.FileType.Directory:
        return _Part(folders.files_below(uri, tell=tell, left_out=left), addresses.plain(uri))
    if kind == pafs.FileType.File:
        if (known := list_of(uri)) is not None and not sources.holds_images(uri, image_column):
            return _listed(uri, known)
        return _Part(storage.stat([uri]), addresses.parent(uri), is_named=True)
    names = addresses.expand_braces(uri)
    found = _named([name for name in names if not addresses.is_glob(name)], tell, left)
    found += [
        file for name in names if addresses.is_glob(name) for file in folders.matching(name, tell, left)
    ]
    tops = {addresses.fixed_folder(name)[0] for name in names}
    if not found:
        raise DataError(
            "nothing matches", expected=text, got=_around(min(tops)), where="--data or --eval-data"
        )
    return _Part(found, addresses.common_folder(tops), is_named=not any(map(addresses.is_glob, names)))


def _named(uris: Sequence[str], tell: folders.Tell, left: LeftOut) -> list[FileInfo]:
    """Files and folders that are named one by one; all of them have to be there."""
    files: list[FileInfo] = []
    missing: list[str] = []
    for file in storage.stat(uris):
        if file.size != storage.MISSING:
            files.append(file)
        elif storage.kind_of(file.uri) == pafs.FileType.Directory:
            files += folders.files_below(file.uri, tell=tell, left_out=left)
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
    while not (names := storage.names_in(folder)) and addresses.parent(folder) not in ("", folder):
        folder = addresses.parent(folder)
    return f"{folder} holds {_names(names) if names else 'nothing'}"


def _listed(uri: str, known: ListFormat) -> _Part:
    """Files that a list names. Relative ones are meant from the list's own folder."""
    names, ids = known.names(uri)
    folder = addresses.parent(uri)
    uris = []
    for number, name in enumerate(names):
        if not name:
            raise DataError(
                "a list has an empty row", expected="a path or URI", got=name, where=f"{uri} row {number}"
            )
        _refuse(name)
        is_whole = "://" in name or name.startswith(("/", "~/"))
        uris.append(addresses.normalized(addresses.absolute(name if is_whole else join(folder, name))))
    twice = [name for name, count in Counter(uris).items() if count > 1]
    if twice:
        raise DataError("a list names files twice", expected="each once", got=_names(twice), where=uri)
    root = addresses.common_folder({addresses.plain(addresses.parent(name)) for name in uris})
    files = storage.stat(uris)
    if files and all(file.size == storage.MISSING for file in files):
        raise DataError(
            "not one file of a list is there",
            expected=f"paths from the folder of the list, {folder}, or absolute ones",
            got=f"{names[0]}, which is {uris[0]}",
            where=uri,
            fix="put the list beside the pictures, or write absolute paths",
        )
    further = known.columns(uri)
    told = None if further is None else flat(further)
    if told is not None:
        told = told.append_column("uri", pa.array(uris)) if told.num_columns else None
    return _Part(files, root, is_list=True, ids=ids, metadata=told, is_named=True)
