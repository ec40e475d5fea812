"""Paths and URIs of images: expand patterns, ask sizes. `trees`, `listing` and readers build on it.

A local file is named by its absolute path, a remote one by its URI; a query string (`?region=...`) belongs to
the filesystem and stays at the end. Filesystem clients are made once per process, bucket and query.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pyarrow import fs as pafs

from rayscan.data.patience import impatient
from rayscan.errors import DataError
from rayscan.storage import resolve

MAX_EXPANSIONS = 1_000_000
MISSING = -1
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Found:
    """A file by its address."""

    uri: str
    size: int
    """Bytes; `MISSING` if no file is there."""
    mtime_ns: int
    """Time of the last change, ns; 0 where the store does not tell."""


def local_path(uri: str) -> Path | None:
    """The path of a local address, None for a remote one."""
    if "://" not in uri:
        return Path(uri)
    return Path(unquote(urlsplit(uri).path)) if uri.startswith("file://") else None


def is_remote(uri: str) -> bool:
    """Whether reading goes through a client instead of the operating system."""
    return "://" in uri and not uri.startswith("file://")


def locate(uri: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem of an address, and the path inside it. Names need no escaping beyond the bucket."""
    if (path := local_path(uri)) is not None:
        return pafs.LocalFileSystem(), str(path)
    address, mark, query = uri.partition("?")
    scheme, _, tail = address.partition("://")
    host, _, name = tail.partition("/")
    filesystem, root = _bucket(f"{scheme}://{host}{mark}{query}", os.getpid())
    return filesystem, f"{root.rstrip('/')}/{name}" if name else root


def read(uri: str) -> bytes:
    """All bytes of a file.

    Raises:
        DataError: it is not there or cannot be read.
    """
    filesystem, path = locate(uri)
    try:
        with filesystem.open_input_stream(path, compression=None) as stream:
            return bytes(stream.read())
    except OSError as error:
        raise DataError("a file cannot be read", expected="a readable file", got=error, where=uri) from error


@lru_cache(maxsize=32)
def _bucket(uri: str, _process: int) -> tuple[pafs.FileSystem, str]:
    filesystem, root = resolve(uri)  # per process: clients do not survive a fork
    return impatient(filesystem), root


def absolute(uri: str) -> str:
    """One spelling per file: local ones as absolute paths."""
    path = local_path(uri)
    return uri.rstrip("/") if path is None else str(path.expanduser().absolute())


def split_commas(text: str) -> list[str]:
    """Parts between commas that are not inside braces."""
    parts, depth, start = [], 0, 0
    for at, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [part.strip() for part in [*parts, text[start:]] if part.strip()]


def expand_braces(pattern: str) -> list[str]:
    """All names of a brace pattern: `{000..012}` counts with leading zeros, `{a,b}` lists; braces nest.

    Raises:
        DataError: a range runs backwards, or there are more than a million names.
    """
    names, todo = [], [pattern]
    while todo:
        text = todo.pop()
        start, stop = _braces(text)
        if stop < 0:
            names.append(text)
        else:
            todo += [
                text[:start] + item + text[stop + 1 :] for item in _items(text[start + 1 : stop], pattern)
            ]
        if len(names) + len(todo) > MAX_EXPANSIONS:
            raise DataError(
                "a brace pattern names too many files", expected=f"<= {MAX_EXPANSIONS:,}", got=pattern
            )
    return sorted(names)


def _braces(text: str) -> tuple[int, int]:
    """Positions of the first outermost pair of braces; (.., -1) if there is none."""
    start, depth = text.find("{"), 0
    for at in range(max(start, 0), len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if start >= 0 and depth == 0:
            return start, at
    return start, -1


def _items(inside: str, pattern: str) -> list[str]:
    if (found := _RANGE.fullmatch(inside)) is None:
        return split_commas(inside)
    first, last = int(found[1]), int(found[2])
    if not first <= last < first + MAX_EXPANSIONS:
        raise DataError("a brace range is not usable", expected="{first..last}, rising", got=pattern)
    width = max(len(found[1]), len(found[2])) if found[1].startswith("0") or found[2].startswith("0") else 0
    return [f"{number:0{width}d}" for number in range(first, last + 1)]


def kind_of(uri: str) -> pafs.FileType:
    """Whether a file, a folder or nothing is at an address."""
    filesystem, path = locate(uri)
    return filesystem.get_file_info(path).type


def stat(uris: Sequence[str]) -> list[Found]:
    """Size and time of files, in the order asked; many at once, because a remote answer takes tens of ms."""
    groups: dict[int, list[int]] = defaultdict(list)
    places = [locate(uri) for uri in uris]
    for number, (filesystem, _) in enumerate(places):
        groups[0 if isinstance(filesystem, pafs.LocalFileSystem) else id(filesystem)].append(number)
    found: dict[int, Found] = {}
    for numbers in groups.values():
        infos = places[numbers[0]][0].get_file_info([places[n][1] for n in numbers])
        found |= {n: found_at(uris[n], info) for n, info in zip(numbers, infos, strict=True)}
    return [found[number] for number in range(len(uris))]


def found_at(uri: str, info: pafs.FileInfo) -> Found:
    """What a filesystem tells of an address."""
    if info.type != pafs.FileType.File:
        return Found(uri, MISSING, 0)
    return Found(uri, info.size, info.mtime_ns or 0)


def names_in(folder: str) -> list[str]:
    """Names of everything directly in a folder, sorted; empty if it is not there."""
    filesystem, path = locate(folder)
    infos = filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    return sorted(info.base_name for info in infos)


def is_glob(uri: str) -> bool:
    """Whether an address has wildcards. In a URI `?` is none: it begins the query."""
    return bool(_WILD.search(plain(uri)))


def parent(uri: str) -> str:
    """The folder a file is in; a query string is kept."""
    address, mark, query = uri.partition("?") if "://" in uri else (uri, "", "")
    folder = address.rstrip("/").rpartition("/")[0]
    return (folder or "/") + mark + query if not folder.endswith(":/") else uri


def fixed_folder(pattern: str) -> tuple[str, list[str]]:
    """Split a glob pattern: the folder before the first wildcard, and the parts from there on."""
    mark, query = "", ""
    if "://" in pattern:
        pattern, mark, query = pattern.partition("?")  # in a URI, `?` begins the query
    parts = pattern.split("/")
    first = next((n for n, part in enumerate(parts) if _WILD.search(part)), len(parts) - 1)
    return ("/".join(parts[:first]) or "/") + mark + query, parts[first:]


def plain(uri: str) -> str:
    """The address without its query string."""
    return uri.partition("?")[0] if "://" in uri else uri


def common_folder(folders: Iterable[str]) -> str:
    """The longest folder that holds all of these."""
    split = [plain(folder).split("/") for folder in folders]
    same = takewhile(lambda level: len(set(level)) == 1, zip(*split, strict=False))
    return "/".join(level[0] for level in same)
