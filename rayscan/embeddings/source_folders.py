"""Sources of images that were moved, or are named from another folder: which leading folder stands for which.

The rule: the sources of both sides are equal after one leading folder of the index is replaced by one of the
vectors, either of which may be empty. It is found from some vectors: each votes for the folders that are left
when the longest common end, in whole path parts, is cut off it and off the image that shares most of its end.
A vector that two images share an end with as long has no vote. The folders with most votes are taken; if
others have as many, none are. Bare names of files, without any folder, are compared with the last parts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile

import pyarrow as pa

from rayscan.data import addresses
from rayscan.storage import local_path

SAMPLED = 256
"""Vectors that vote."""


@dataclass(frozen=True)
class Folders:
    """Leading folder of the index, and the one that stands for it in the vectors; each ends with `/`."""

    index: str
    vectors: str
    is_bare: bool = False
    """Vectors name files without folders."""

    def below_index(self, source: str) -> str | None:
        """What is left of a source of the index; None for one outside the folder."""
        return source.rpartition("/")[2] if self.is_bare else _below(self.index, source)

    def below_vectors(self, source: str) -> str | None:
        """What is left of a source of the vectors; None for one outside the folder."""
        return _below(self.vectors, source)

    def told(self) -> str:
        """In words."""
        if self.is_bare:
            return "by the names of the files"
        return (
            f"{self.vectors or 'names'} standing for {self.index}..."
            if self.index
            else f"below {self.vectors}"
        )


def plain_source(source: str) -> str:
    """A source as it is compared: local files by path, URIs without query, no `./` before."""
    if "://" not in source:
        return source.removeprefix("./")
    path = local_path(source)
    return addresses.plain(source) if path is None else str(path)


def sample(sources: Iterable[pa.Array], rows: int) -> list[str]:
    """At most `SAMPLED` sources, evenly over all rows."""
    step, chosen, first = -(-rows // SAMPLED), [], 0
    for array in sources:
        chosen += array.take(pa.array(range(-first % step, len(array), step), pa.int64())).to_pylist()
        first += len(array)
    return [plain_source(source) for source in chosen if source]


def replaced(sampled: Iterable[str], index: Iterable[pa.Array]) -> Folders | None:
    """The folders that stand for each other; None if that is not clear.

    Args:
        sampled: Some sources of the vectors, as `plain_source` gives them.
        index: All sources of the index.
    """
    by_name: dict[str, list[str]] = defaultdict(list)
    for source in sampled:
        by_name[source.rpartition("/")[2]].append(source)
    if not any("/" in source for sources in by_name.values() for source in sources):
        return Folders("", "", is_bare=True)
    best: dict[str, tuple[int, Folders | None]] = {}
    for array in index:
        for text in array.to_pylist():
            image = plain_source(text or "")
            for vector in by_name.get(image.rpartition("/")[2], ()):
                length = _common_parts(image, vector)
                known = best.get(vector, (0, None))[0]
                if length >= known:
                    best[vector] = (length, _left(image, vector, length) if length > known else None)
    votes = Counter(folders for _, folders in best.values() if folders is not None).most_common(2)
    if not votes or (len(votes) == 2 and votes[0][1] == votes[1][1]):
        return None
    return votes[0][0]


def _common_parts(one: str, other: str) -> int:
    pairs = zip(reversed(one.split("/")), reversed(other.split("/")), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _left(image: str, vector: str, length: int) -> Folders:
    tail = len("/".join(image.split("/")[-length:]))
    return Folders(image[: len(image) - tail], vector[: len(vector) - tail])


def _below(folder: str, source: str) -> str | None:
    return source[len(folder) :] if source.startswith(folder) else None
