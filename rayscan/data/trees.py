"""Looking into folders, many at once: what lies in one and below, and what matches a pattern."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path

from pyarrow import fs as pafs

from rayscan.data.addresses import MISSING, Found, fixed_folder, found_at, kind_of, local_path, locate, plain
from rayscan.errors import DataError

LISTERS = 16
"""Folders looked into at once."""
TOLD_EVERY = 1_000
"""Files after which whoever lists hears how many there are."""
Tell = Callable[[int], None]


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
                yield found_at(f"{address.rstrip('/')}/{name}{mark}{query}", info)


def matching(pattern: str, tell: Tell = silent) -> list[Found]:
    """Files that match a glob pattern, sorted by address; empty if the folder is not there."""
    folder, parts = fixed_folder(pattern)
    if kind_of(folder) != pafs.FileType.Directory:
        return []
    start = len(folder.partition("?")[0].rstrip("/")) + 1 if "://" in folder else len(folder.rstrip("/")) + 1
    files = tree(folder, recursive=len(parts) > 1 or parts[0] == "**", tell=tell)
    return [file for file in files if _fits(plain(file.uri)[start:].split("/"), parts)]


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    if not parts:
        return not names
    if parts[0] == "**":
        return any(_fits(names[skipped:], parts[1:] or ["*"]) for skipped in range(len(names)))
    return bool(names) and fnmatchcase(names[0], parts[0]) and _fits(names[1:], parts[1:])
