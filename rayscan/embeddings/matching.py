"""Which row of the vectors belongs to which image of an index: by order, id, source or key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import pyarrow as pa

from rayscan.artifacts import Artifact
from rayscan.data.table import IMAGES
from rayscan.embeddings import source_folders
from rayscan.embeddings.key_columns import KINDS, Kind
from rayscan.embeddings.text_digests import NONE, Digests, digests_of, find, first_repeated
from rayscan.embeddings.vectors import Vectors
from rayscan.errors import ConfigError, DataError
from rayscan.tables import row_groups
from rayscan.types import Ints

By = Literal["order", "id", "source", "key"]
LEAST_SHARE = 0.5
"""Share of the images that has to have a vector; fewer, and the keys are others."""
EXAMPLES = 3


@dataclass(frozen=True, eq=False)
class Match:
    """Rows of the vectors by image."""

    rows: Ints
    """Row of the vectors of each gid, -1 if it has none: int64 [N]."""
    by: By
    """How they were found."""
    unused: int
    """Vectors that belong to no image."""
    note: str = ""
    """How sources that are not equal were compared."""

    @property
    def missing(self) -> int:
        """Images without a vector."""
        return int(np.sum(self.rows == NONE))

    def told(self) -> str:
        """In words, for the user."""
        note = f", {self.note}" if self.note else ""
        parts = [f"{len(self.rows) - self.missing:,} images have a vector by {self.by}{note}"]
        parts += [f"{self.missing:,} have none"] if self.missing else []
        parts += [f"{self.unused:,} vectors belong to no image"] if self.unused else []
        return "; ".join(parts)


def match_rows(vectors: Vectors, index: Artifact, by: By | None = None) -> Match:
    """Find the vector of every image.

    Args:
        vectors: The vectors.
        index: Finished result of stage index.
        by: How; if left out, by the first of id, source and key that the files have and that finds the
            vectors of half of the images, else by order.

    Raises:
        ConfigError: the files have no such keys.
        DataError: the numbers differ (by order); keys repeat, or less than half of the images have a vector.
    """
    if by == "order":
        return _by_order(vectors, index)
    if by is not None:
        if not vectors.has_keys(by):
            raise ConfigError(
                f"the vectors have no column for {by}",
                expected="columns id, source (or uri, path, image_path, url) or key beside the vectors",
                got=", ".join(vectors.files[0].key_columns) or "none",
                where=vectors.spec,
                fix="match by order, or write them as Parquet with such a column",
            )
        match = _by_text(vectors, index, by)
        if match is None:
            raise _strangers(vectors, index, by)
        return match
    for kind in KINDS:
        if vectors.has_keys(kind) and (match := _by_text(vectors, index, kind)) is not None:
            return match
    return _by_order(vectors, index)


def _by_order(vectors: Vectors, index: Artifact) -> Match:
    """Row i is that of image i of the listing, or of the i-th usable one."""
    groups = (table["status"].combine_chunks() for table in row_groups(index, IMAGES, ["status"]))
    is_ok = np.concatenate([np.array([s == "ok" for s in g.to_pylist()], bool) for g in groups])
    usable = int(is_ok.sum())
    if vectors.rows == len(is_ok):
        return Match(np.arange(len(is_ok), dtype=np.int64), "order", 0)
    if vectors.rows == usable:
        return Match(np.where(is_ok, np.cumsum(is_ok) - 1, NONE), "order", 0)
    bad = f", or {usable:,} without those in quarantine" if usable < len(is_ok) else ""
    keys = (
        f" (its columns {', '.join(columns)} name others)"
        if (columns := vectors.files[0].key_columns)
        else ""
    )
    raise DataError(
        "there are not as many vectors as images",
        expected=f"{len(is_ok):,} images of the index{bad}, in its order: sorted by address",
        got=f"{vectors.rows:,} vectors",
        where=f"{vectors.spec}{keys}",
        fix="name the vectors of these images, or write Parquet with a column id, source or key",
    )


def _by_text(vectors: Vectors, index: Artifact, kind: Kind) -> Match | None:
    """The match by one kind of key; None if it finds less than half of the images.

    Raises:
        DataError: a key comes twice.
    """
    change = source_folders.plain_source if kind == "source" else None
    stored = digests_of(_keys(vectors, kind), change)
    wanted = digests_of(_texts(index, kind), change)
    rows, note = find(wanted, stored), ""
    if not _is_enough(rows) and kind == "source":
        sampled = source_folders.sample(_keys(vectors, kind), vectors.rows)
        folders = source_folders.replaced(sampled, _texts(index, kind))
        if folders is not None:
            plain, note = source_folders.plain_source, folders.told()
            stored = digests_of(_keys(vectors, kind), lambda text: folders.below_vectors(plain(text)))
            wanted = digests_of(_texts(index, kind), lambda text: folders.below_index(plain(text)))
            rows = find(wanted, stored)
    if not _is_enough(rows):
        return None
    _refuse_repeats(vectors, index, kind, stored, rows)
    return Match(rows, kind, vectors.rows - int(np.sum(rows != NONE)), note)


def _is_enough(rows: Ints) -> bool:
    return bool(np.sum(rows != NONE) >= max(1, LEAST_SHARE * len(rows)))


def _refuse_repeats(vectors: Vectors, index: Artifact, kind: Kind, stored: Digests, rows: Ints) -> None:
    """Refuse two vectors of one key, and two images of one vector."""
    if (twice := first_repeated(stored)) is not None:
        raise DataError(
            f"two vectors have the same {kind}",
            expected=f"each {kind} once",
            got=f"{_text_at(_keys(vectors, kind), twice[1])!a} in rows {twice[0]:,} and {twice[1]:,}",
            where=vectors.spec,
            fix=f"leave one of them out, or match by another column than {kind}",
        )
    gids = np.flatnonzero(rows != NONE)
    order = gids[np.argsort(rows[gids], kind="stable")]
    again = np.flatnonzero(rows[order][1:] == rows[order][:-1])
    if len(again):
        one, other = order[again[0] : again[0] + 2].tolist()
        raise DataError(
            f"two images have the same {kind}, so they would share a vector",
            expected=f"each {kind} once in the index",
            got=f"{_text_at(_texts(index, kind), one)!a} and {_text_at(_texts(index, kind), other)!a}",
            where=f"gids {one} and {other}",
            fix="match by another column, such as source",
        )


def _strangers(vectors: Vectors, index: Artifact, kind: Kind) -> DataError:
    theirs, ours = (
        ", ".join(repr(text) for array in islice(texts, 1) for text in array[:EXAMPLES].to_pylist())
        for texts in (_keys(vectors, kind), _texts(index, kind))
    )
    return DataError(
        f"less than half of the images have a vector by {kind}",
        expected=f"the {kind} of images, such as {ours}",
        got=f"{theirs} ...",
        where=vectors.spec,
        fix="match by another column, or by order; sources may differ in one leading folder",
    )


def _keys(vectors: Vectors, kind: Kind) -> Iterator[pa.StringArray]:
    keys = vectors.keys(kind)
    assert keys is not None, kind
    return keys


def _texts(index: Artifact, kind: Kind) -> Iterator[pa.StringArray]:
    """A column of the index, some rows at a time."""
    for table in row_groups(index, IMAGES, [kind]):
        yield table[kind].combine_chunks()


def _text_at(texts: Iterator[pa.StringArray], row: int) -> str:
    """The text of one row."""
    for array in texts:
        if row < len(array):
            return str(array[row].as_py())
        row -= len(array)
    raise IndexError(row)
