"""Paths and URIs of images: expand patterns, look into folders, ask sizes. `listing` and readers build on it.

A local file is named by its absolute path, a remote one by its URI; a query string (`?region=...`) belongs to
the filesystem and stays at the end. Filesystem clients are made once per process, bucket and query.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import chain, takewhile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pyarrow import fs as pafs

from rayscan.data.patience import impatient
from rayscan.errors import DataError
from rayscan.storage import resolve

MAX_EXPANSIONS = 1_000_000
MISSING = -1
LISTERS = 16
"""Folders looked into at once."""
TOLD_EVERY = 1_000
"""Files after which whoever lists hears how many there are."""
Tell = Callable[[int], None]
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
        found |= {n: _found(uris[n], info) for n, info in zip(numbers, infos, strict=True)}
    return [found[number] for number in range(len(uris))]


def _found(uri: str, info: pafs.FileInfo) -> Found:
    if info.type != pafs.FileType.File:
        return Found(uri, MISSING, 0)
    return Found(uri, info.size, info.mtime_ns or 0)


def silent(_: int) -> None:
    """Tells nobody."""


def tree(folder: str, *, recursive: bool = True, tell: Tell = silent) -> list[Found]:
    """Files in a folder and below, hidden ones left out, sorted by address. Links are followed, once.

    Args:
        folder: Local or remote.
        recursive: Also what lies in the folders below.
        tell: Hears how many files were found so far, now and then.

    Raises:
        DataError: the folder cannot be read, or a name in it is not UTF-8.
    """
    path = local_path(folder)
    try:
        found = _local_tree(path, recursive) if path is not None else _remote_tree(folder, recursive)
        return sorted(_counted(found, tell), key=lambda file: file.uri)
    except (OSError, UnicodeError) as error:
        raise DataError(
            "a folder cannot be read", expected="readable, names in UTF-8", got=error, where=folder
        ) from error


def _counted(found: Iterator[Found], tell: Tell) -> Iterator[Found]:
    for number, file in enumerate(found, start=1):
        if number % TOLD_EVERY == 0:
            tell(number)
        yield file


def _local_tree(top: Path, recursive: bool) -> Iterator[Found]:
    todo, visited = [str(top)], {os.path.realpath(top)}
    with ThreadPoolExecutor(LISTERS, thread_name_prefix="rayscan-list") as pool:
        while todo:  # level by level: folders of a level are looked into at once
            level, todo = todo, []
            for files, folders in pool.map(_look_into, level):
                yield from files
                for path, real in folders if recursive else ():
                    if real not in visited:
                        visited.add(real)
                        todo.append(path)


def _look_into(folder: str) -> tuple[list[Found], list[tuple[str, str]]]:
    """Files of a folder; and the folders in it, each with where it really is. Hidden ones are left out."""
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append((entry.path, os.path.realpath(entry.path)))
            else:
                entry.path.encode()  # a name that is not UTF-8 cannot be stored in Parquet
                files.append(_local(entry))
    return files, folders


def _local(entry: os.DirEntry[str]) -> Found:
    try:
        facts = entry.stat()
    except FileNotFoundError:  # a dangling link: indexed as missing, so that it is not lost silently
        return Found(entry.path, MISSING, 0)
    return Found(entry.path, facts.st_size, facts.st_mtime_ns)


def _remote_tree(folder: str, recursive: bool) -> Iterator[Found]:
    filesystem, path = locate(folder)
    address, mark, query = folder.partition("?")
    top = filesystem.get_file_info(pafs.FileSelector(path))
    below = [info.path for info in top if info.type == pafs.FileType.Directory] if recursive else []
    with ThreadPoolExecutor(LISTERS, thread_name_prefix="rayscan-list") as pool:
        selectors = [pafs.FileSelector(name, recursive=True) for name in below]
        for info in chain(top, chain.from_iterable(pool.map(filesystem.get_file_info, selectors))):
            name = info.path[len(path.rstrip("/")) + 1 :]
            if info.type == pafs.FileType.File and not any(part.startswith(".") for part in name.split("/")):
                yield _found(f"{address.rstrip('/')}/{name}{mark}{query}", info)


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


def matching(pattern: str, tell: Tell = silent) -> list[Found]:
    """Files that match a glob pattern, sorted by address; empty if the folder is not there."""
    folder, parts = fixed_folder(pattern)
    if kind_of(folder) != pafs.FileType.Directory:
        return []
    start = len(folder.partition("?")[0].rstrip("/")) + 1 if "://" in folder else len(folder.rstrip("/")) + 1
    files = tree(folder, recursive=len(parts) > 1 or parts[0] == "**", tell=tell)
    return [file for file in files if _fits(plain(file.uri)[start:].split("/"), parts)]


def plain(uri: str) -> str:
    """The address without its query string."""
    return uri.partition("?")[0] if "://" in uri else uri


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    if not parts:
        return not names
    if parts[0] == "**":
        return any(_fits(names[skipped:], parts[1:] or ["*"]) for skipped in range(len(names)))
    return bool(names) and fnmatchcase(names[0], parts[0]) and _fits(names[1:], parts[1:])


def common_folder(folders: Iterable[str]) -> str:
    """The longest folder that holds all of these."""
    split = [plain(folder).split("/") for folder in folders]
    same = takewhile(lambda level: len(set(level)) == 1, zip(*split, strict=False))
    return "/".join(level[0] for level in same)
