"""Addresses as text: one spelling per file, lists between commas, brace and glob patterns. Opens nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from itertools import islice, takewhile
from pathlib import Path

from braceexpand import braceexpand

from rayscan.errors import DataError
from rayscan.storage import local_path

MAX_EXPANSIONS = 1_000_000
_RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)")
_WILD = re.compile(r"[*?\[]")


def absolute(uri: str) -> str:
    """One spelling per file: local ones as absolute paths."""
    path = local_path(uri)
    return uri.rstrip("/") if path is None else str(path.expanduser().absolute())


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
    """Whether an address has wildcards. In a URI `?` is none: it begins the query."""
    return bool(_WILD.search(plain(uri)))


def parent(uri: str) -> str:
    """The folder a file is in; a query string is kept."""
    address, mark, query = uri.partition("?") if "://" in uri else (uri, "", "")
    folder = address.rstrip("/").rpartition("/")[0]
    return (folder or "/") + mark + query if not folder.endswith(":/") else uri


def fixed_folder(pattern: str) -> tuple[str, list[str]]:
    """The folder before the first wildcard of a glob pattern, and the parts from there on."""
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
