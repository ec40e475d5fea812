"""Addresses as text: one spelling per file, lists between commas, brace and glob patterns. Opens nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from itertools import islice, takewhile
from pathlib import Path

from braceexpand import braceexpand

from rayscan.errors import DataError
from rayscan.storage import local_path, refuse_secrets, split_query, with_query

MAX_EXPANSIONS = 1_000_000
_RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)")
_WILD = re.compile(r"[*?\[]")


def absolute(uri: str) -> str:
    """One spelling per file: local ones as absolute paths."""
    path = local_path(uri)
    if path is not None:
        return str(path.expanduser().absolute())
    address, query = split_query(uri)
    return with_query(address.rstrip("/"), query)


def absolute_all(text: str) -> str:
    """What a user gives as data, with its local parts made absolute: a run is resumed from any directory.

    Raises:
        ConfigError: a part carries credentials, or lacks a slash of its scheme.
    """
    for part in split_commas(text):
        refuse_secrets(part)
    if local_path(text) is not None and os.path.lexists(os.path.expanduser(text)):  # noqa: PTH111
        return absolute(text)  # one name, which may hold commas and braces
    return ",".join(part if "://" in part else _absolute_pattern(part) for part in split_commas(text))


def _absolute_pattern(part: str) -> str:
    path = os.path.expanduser(part)  # noqa: PTH111
    return path if path.startswith("/") else f"{Path.cwd()}/{path.removeprefix('./')}"


def normalized(uri: str) -> str:
    """A local path without `..`, unless that would be another file because of a link; others as they are."""
    if "://" in uri or ".." not in uri.split("/"):
        return uri
    plainer = os.path.normpath(uri)
    try:
        return plainer if Path(plainer).parent.samefile(Path(uri).parent) else uri
    except OSError:  # not there: it will be told by the name that was written
        return uri


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
    """All names of a brace pattern, sorted: `{000..012}` counts with leading zeros, `{a,b}` lists; they nest.

    As in a shell, `{a}` and a brace without its partner stand for themselves.

    Raises:
        DataError: there are more than a million names.
    """
    longest = max((abs(int(stop) - int(start)) + 1 for start, stop in _RANGE.findall(pattern)), default=0)
    try:
        names = (
            list(islice(braceexpand(pattern, escape=False), MAX_EXPANSIONS + 1))
            if longest <= MAX_EXPANSIONS
            else []
        )
    except ValueError:  # a brace without its partner
        return [pattern]
    if not 0 < len(names) <= MAX_EXPANSIONS:
        raise DataError(
            "a brace pattern names too many files", expected=f"<= {MAX_EXPANSIONS:,}", got=pattern
        )
    return sorted(names)


def is_glob(uri: str) -> bool:
    """Whether an address has wildcards, before its query string."""
    return bool(_WILD.search(plain(uri)))


def parent(uri: str) -> str:
    """The folder a file is in; a query string is kept."""
    address, query = split_query(uri)
    folder = address.rstrip("/").rpartition("/")[0]
    return with_query(folder or "/", query) if not folder.endswith(":/") else uri


def fixed_folder(pattern: str) -> tuple[str, list[str]]:
    """The folder before the first wildcard of a glob pattern, and the parts from there on."""
    pattern, query = split_query(pattern)
    parts = pattern.split("/")
    first = next((n for n, part in enumerate(parts) if _WILD.search(part)), len(parts) - 1)
    return with_query("/".join(parts[:first]) or "/", query), parts[first:]


def plain(uri: str) -> str:
    """The address without its query string."""
    return split_query(uri)[0]


def common_folder(folders: Iterable[str]) -> str:
    """The longest folder that holds all of these."""
    split = [plain(folder).split("/") for folder in folders]
    same = takewhile(lambda level: len(set(level)) == 1, zip(*split, strict=False))
    return "/".join(level[0] for level in same)
