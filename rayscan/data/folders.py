"""The files in folders and below them, and those that match a pattern; many folders are listed at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path

import pyarrow as pa
from pyarrow import fs as pafs

from rayscan.data.addresses import fixed_folder, plain
from rayscan.data.left_out import LeftOut, is_system_folder
from rayscan.errors import ArtifactError, DataError
from rayscan.out_kinds import RECORD, is_made_here
from rayscan.storage import (
    MISSING,
    FileInfo,
    Place,
    kind_of,
    local_path,
    locate,
    retry,
    split_query,
    with_query,
)

LISTERS = 16
"""Folders listed at once."""
TOLD_EVERY = 1_000
"""Files after which a listener hears how many there are."""
Tell = Callable[[int], None]
"""Called with the number of files found so far."""


def silent(_: int) -> None:
    """Call nobody."""


def files_below(
    folder: str, *, recursive: bool = True, tell: Tell = silent, left_out: LeftOut | None = None
) -> list[FileInfo]:
    """Files in a folder and below, sorted by address, without hidden ones and folders of the system.

    Links are followed, once.

    Args:
        folder: Local or remote.
        recursive: Also what lies in the folders below.
        tell: Hears how many files were found so far, now and then.
        left_out: Takes down what is passed over.

    Raises:
        DataError: the folder cannot be read.
    """
    path, left = local_path(folder), LeftOut() if left_out is None else left_out
    try:
        tree = _remote_tree(folder, recursive, left) if path is None else _local_tree(path, recursive, left)
        return sorted(_counted(tree, tell), key=lambda file: file.uri)
    except (OSError, ArtifactError, pa.ArrowInvalid) as error:
        raise DataError(
            "a folder cannot be read",
            expected="a folder that may be read",
            got=error,
            where=folder,
            fix="check the address, your rights, and the storage",
        ) from error


def _counted(found: Iterator[FileInfo], tell: Tell) -> Iterator[FileInfo]:
    for number, file in enumerate(found, start=1):
        if number % TOLD_EVERY == 0:
            tell(number)
        yield file


def _local_tree(top: Path, recursive: bool, left: LeftOut) -> Iterator[FileInfo]:
    todo, visited = [str(top)], {os.path.realpath(top)}
    with ThreadPoolExecutor(LISTERS, thread_name_prefix="rayscan-list") as pool:
        while todo:  # level by level: folders of a level are listed at once
            level, todo = todo, []
            for number, found in enumerate(pool.map(_listed, level)):
                if isinstance(found, OSError):
                    if level == [str(top)]:
                        raise found
                    left.unreadable.append(f"{level[number]!a}: {found.strerror}")
                    continue
                if found.is_run and level != [str(top)]:
                    left.runs.append(level[number])
                    continue
                yield from found.files
                left.hidden += found.hidden
                left.unreadable += found.unreadable
                for name, path, real in found.folders if recursive else ():
                    if is_system_folder(name):
                        left.folders[name] += 1
                    elif real not in visited:
                        visited.add(real)
                        todo.append(path)


@dataclass
class _Folder:
    """What lies directly in one folder."""

    files: list[FileInfo] = field(default_factory=list)
    folders: list[tuple[str, str, str]] = field(default_factory=list)
    """Name, path, and where it really is."""
    hidden: int = 0
    unreadable: list[str] = field(default_factory=list)
    is_run: bool = False
    """Whether it is what a command of rayscan made of images."""


def _listed(folder: str) -> _Folder | OSError:
    """What is in a folder; or why it cannot be read."""
    found = _Folder()
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=lambda e: e.name)
    except OSError as error:
        return error
    for entry in entries:
        if not _is_utf8(entry.name):
            found.unreadable.append(ascii(os.fsencode(entry.path)))  # Parquet cannot hold it
        elif _is_folder(entry):
            found.folders.append((entry.name, entry.path, os.path.realpath(entry.path)))
        elif entry.name.startswith("."):
            found.hidden += 1
        else:
            found.files.append(_local(entry))
    found.is_run = any(entry.name == RECORD for entry in entries) and is_made_here(Place(folder))
    return found


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _local(entry: os.DirEntry[str]) -> FileInfo:
    try:
        facts = entry.stat()
    except OSError:  # a link to nothing or to itself: indexed as missing, so that it is not lost silently
        return FileInfo(entry.path, MISSING, 0)
    return FileInfo(entry.path, facts.st_size, facts.st_mtime_ns)


def _remote_tree(folder: str, recursive: bool, left: LeftOut) -> Iterator[FileInfo]:
    filesystem, path = locate(folder)

    def listed(selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        return retry(lambda: list(filesystem.get_file_info(selector)))

    top = listed(pafs.FileSelector(path))
    below = [info.path for info in top if info.type == pafs.FileType.Directory] if recursive else []
    with ThreadPoolExecutor(LISTERS, thread_name_prefix="rayscan-list") as pool:
        selectors = [pafs.FileSelector(name, recursive=True) for name in below]
        for found in chain([top], pool.map(listed, selectors)):
            yield from _remote_files(folder, len(path.rstrip("/")) + 1, found, left)


def _remote_files(
    folder: str, start: int, found: Sequence[pafs.FileInfo], left: LeftOut
) -> Iterator[FileInfo]:
    """Files of a listing; names below the folder begin at `start` of their paths."""
    address, query = split_query(folder)

    def uri_of(name: str) -> str:
        return with_query(f"{address.rstrip('/')}/{name}", query)

    records = (info.path[start:].rpartition("/")[0] for info in found if info.base_name == RECORD)
    runs = sorted(name for name in {*records} - {""} if is_made_here(Place(uri_of(name))))
    left.runs += map(uri_of, runs)
    for info in found:
        name = info.path[start:]
        if info.type != pafs.FileType.File:
            continue
        if "//" in info.path:  # a key that Arrow lists and cannot open
            left.unreadable.append(f"{info.path!a}: a part of the name is empty")
            continue
        *above, base = name.split("/")
        if (system := next((part for part in above if is_system_folder(part)), None)) is not None:
            left.folders[system] = 1
        elif base.startswith("."):
            left.hidden += 1
        elif not any(name.startswith(f"{run}/") for run in runs):
            yield FileInfo.of(uri_of(name), info)


def matching(pattern: str, tell: Tell = silent, left_out: LeftOut | None = None) -> list[FileInfo]:
    """Files that match a glob pattern, sorted by address; empty if its folder is not there."""
    folder, parts = fixed_folder(pattern)
    if kind_of(folder) != pafs.FileType.Directory:
        return []
    start = len(plain(folder).rstrip("/")) + 1
    is_deep = len(parts) > 1 or parts[0] == "**"
    files = files_below(folder, recursive=is_deep, tell=tell, left_out=left_out)
    return [file for file in files if _fits(plain(file.uri)[start:].split("/"), parts)]


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    if not parts:
        return not names
    if parts[0] == "**":
        return any(_fits(names[skipped:], parts[1:] or ["*"]) for skipped in range(len(names)))
    return bool(names) and fnmatchcase(names[0], parts[0]) and _fits(names[1:], parts[1:])
