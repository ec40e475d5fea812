r"""Names in a labels file -> gids of the images they mean.

Names mean the same in any form of Unicode; paths also with `./`, `..` and `//`, with the `\` of Windows,
through other links, and cut to their last parts.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from functools import lru_cache

import pyarrow as pa

from rayscan.data.addresses import plain
from rayscan.data.sources import with_folders
from rayscan.storage import local_path, split_query
from rayscan.text import composed

AMBIGUOUS = -2
"""Instead of a gid: several images fit."""


def match(
    names: Sequence[str | None], splits: Sequence[str | None], images: pa.Table, column: str
) -> list[int | None]:
    """The gid of each row: AMBIGUOUS if several images fit, None if none does.

    A source fits whole, or else by as many of its last parts as the row has.
    """
    is_path = column == "source"
    wanted = [None if name is None else spelled(name, column) for name in names]
    otherwise = [_from_windows(name, column) for name in names]
    depths = {name.count("/") + 1 for name in (*wanted, *otherwise) if name is not None} if is_path else set()
    whole: dict[tuple[str | None, str], int] = {}
    tails: dict[tuple[str | None, str], int] = {}
    ways: tuple[None, ...] | tuple[None, str]
    rows = list(zip(*(images[name].to_pylist() for name in ("gid", "split", column)), strict=True))
    for gid, split, value in rows:
        if value is None:
            continue
        ways = (None, split) if any(splits) else (None,)
        text = spelled(value, column)
        parts = text.split("/") if is_path else [text]
        for way in ways:
            key = (way, text)
            whole[key] = AMBIGUOUS if key in whole else gid
            for depth in depths:
                if depth < len(parts):
                    key = (way, "/".join(parts[-depth:]))
                    tails[key] = AMBIGUOUS if key in tails else gid

    def gid_of(name: str | None, split: str | None) -> int | None:
        return None if name is None else whole.get((split, name), tails.get((split, name)))

    found = [
        gid_of(other, split) if (gid := gid_of(name, split)) is None else gid
        for name, other, split in zip(wanted, otherwise, splits, strict=True)
    ]
    return _through_links(wanted, found, rows) if is_path else found


def _from_windows(name: str | None, column: str) -> str | None:
    r"""A path with `\` as it would be spelled here; None for all others."""
    is_one = name is not None and "\\" in name and "/" not in name and column != "id"
    return spelled(name.replace("\\", "/"), column) if is_one and name is not None else None


def _through_links(
    names: Sequence[str | None], found: Sequence[int | None], rows: Sequence[tuple[int, str, str | None]]
) -> list[int | None]:
    """Also join absolute paths that lead to an image by other links."""
    lost = [n for n, name in enumerate(names) if found[n] is None and name is not None and name[0] == "/"]
    if not lost:
        return list(found)
    real: dict[str, int] = {}
    for gid, _, source in rows:
        if source is not None and source.startswith("/"):
            path = _real(spelled(source, "source"))
            real[path] = AMBIGUOUS if path in real else gid
    joined = list(found)
    for row in lost:
        joined[row] = real.get(_real(names[row] or ""))
    return joined


def _real(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{_real_folder(folder)}/{name}"


@lru_cache(maxsize=1 << 16)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def spelled(name: str, column: str) -> str:
    """One spelling for names that mean the same: Unicode form NFC; paths also have no `./` or `..`.

    Args:
        name: As it stands in the index or in a labels file.
        column: Where it stands: id, source or key. A source is a path: a shard and its member are folder and
            file, and the query of an address is no part of it.
    """
    name = composed(name)
    if column == "id":
        return name
    if column == "source":
        name = with_folders(_without_query(name))
    return posixpath.normpath(name) if name else name


def _without_query(source: str) -> str:
    """A source without what belongs to a client: a query stands at the end, or before the `#` of a member."""
    if "://" not in source:
        return source
    if source.startswith("file://"):
        path, mark, member = source.partition("#")
        return f"{local_path(path)}{mark}{member}"
    address, query = split_query(source)
    if query:
        return address
    path, mark, member = address.partition("#")
    return plain(path) + mark + member
