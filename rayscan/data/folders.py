"""The files in folders and below them, and those that match a pattern; many folders are listed at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path

from pyarrow import fs as pafs

from rayscan.data.addresses import fixed_folder, plain
from rayscan.errors import DataError
from rayscan.storage import MISSING, FileInfo, kind_of, local_path, locate, retry

LISTERS = 16
"""Folders listed at once."""
TOLD_EVERY = 1_000
"""Files after which a listener hears how many there are."""
Tell = Callable[[int], None]
"""Called with the number of files found so far."""


def silent(_: int) -> None:
    """Call nobody."""


def files_below(folder: str, *, recursive: bool = True, tell: Tell = silent) -> list[FileInfo]:
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


def _counted(found: Iterator[FileInfo], tell: Tell) -> Iterator[FileInfo]:
    for number, file in enumerate(found, start=1):
        if number % TOLD_EVERY == 0:
            tell(number)
        yield file


def _local_tree(top: Path, recursive: bool) -> Iterator[FileInfo]:
    todo, visited = [str(top)], {os.path.realpath(top)}
    with ThreadPoolExecutor(LISTERS, thread_name_prefix="rayscan-list") as pool:
        while todo:  # level by level: folders of a level are listed at once
            level, todo = todo, []
            for files, folders in pool.map(_listed, level):
                yield from files
                for path, real in folders if recursive else ():
                    if real not in visited:
                        visited.add(real)
                        todo.append(path)


def _listed(folder: str) -> tuple[list[FileInfo], list[tuple[str, str]]]:
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


def _local(entry: os.DirEntry[str]) -> FileInfo:
    try:
        facts = entry.stat()
    except FileNotFoundError:  # a dangling link: indexed as missing, so that it is not lost silently
        return FileInfo(entry.path, MISSING, 0)
    return FileInfo(entry.path, facts.st_size, facts.st_mtime_ns)


def _remote_tree(folder: str, recursive: bool) -> Iterator[FileInfo]:
    filesystem, path = locate(folder)
    address, mark, query = folder.partition("?")

    def listed(selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        return retry(lambda: list(filesystem.get_file_info(selector)))

    top = listed(pafs.FileSelector(path))
    below = [info.path for info in top if info.type == pafs.FileType.Directory] if recursive else []
    with ThreadPoolExecutor(LISTERS, thread_name_prefix="rayscan-list") as pool:
        selectors = [pafs.FileSelector(name, recursive=True) for name in below]
        for info in chain(top, chain.from_iterable(pool.map(listed, selectors))):
            name = info.path[len(path.rstrip("/")) + 1 :]
            if info.type == pafs.FileType.File and not any(part.startswith(".") for part in name.split("/")):
                yield FileInfo.of(f"{address.rstrip('/')}/{name}{mark}{query}", info)


def matching(pattern: str, tell: Tell = silent) -> list[FileInfo]:
    """Files that match a glob pattern, sorted by address; empty if its folder is not there."""
    folder, parts = fixed_folder(pattern)
    if kind_of(folder) != pafs.FileType.Directory:
        return []
    start = len(folder.partition("?")[0].rstrip("/")) + 1 if "://" in folder else len(folder.rstrip("/")) + 1
    files = files_below(folder, recursive=len(parts) > 1 or parts[0] == "**", tell=tell)
    return [file for file in files if _fits(plain(file.uri)[start:].split("/"), parts)]


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    if not parts:
        return not names
    if parts[0] == "**":
        return any(_fits(names[skipped:], parts[1:] or ["*"]) for skipped in range(len(names)))
    return bool(names) and fnmatchcase(names[0], parts[0]) and _fits(names[1:], parts[1:])
