"""The assignments of a run as a file, `assignments.parquet`: written by stage assign, read by all after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rayscan.artifacts import Artifact
from rayscan.tables import as_lists, as_rows, row_groups
from rayscan.types import Ints

FILE = "assignments.parquet"
SEEDS = "seeds.npy"
"""Clusters by every seed of a k-means beside it, int32 [seeds, rows]."""
CLUSTERS = "clusters.json"
"""The clusters beside it: number, name, size, mean confidence and prototypes of each."""
WASTE = -1
"""Cluster of images that a person marked as of no use (`rayscan.edits`); no method gives it."""
SCHEMA = pa.schema(
    {
        "gid": pa.int64(),
        "id": pa.string(),
        "source": pa.string(),
        "key": pa.string(),
        "split": pa.string(),
        "cluster": pa.int32(),
        "confidence": pa.float32(),
        "margin": pa.float32(),
        "second": pa.int32(),
        "second_confidence": pa.float32(),
        "top5": pa.list_(pa.int32()),
        "top5_probs": pa.list_(pa.float32()),
        "is_prototype": pa.bool_(),
        "duplicate_of": pa.int64(),
        "outlier": pa.float32(),
    }
)
"""One row per usable image, in gid order. `second` is the runner-up, -1 where there is but one cluster, and
not there in runs of earlier versions. `duplicate_of` is the gid that stands for a group of near-copies,
null for that one itself and for images without a copy; `outlier` the quantile of the distance to the farthest
mined neighbor, 0..1. Both are null where no neighbors were mined, as in the eval split, and are not there in
runs of earlier versions."""
MINED = ("duplicate_of", "outlier")
_COLUMNS = ["gid", "split", "top5", "confidence"]


@dataclass(frozen=True)
class Assignments:
    """What scores are computed from, of all usable images or of those of one row group."""

    gids: Ints
    """int64 [n]."""
    split: NDArray[np.object_]
    """eval or train, [n]."""
    best: Ints
    """The most probable clusters, best first, int64 [n, T] with T <= 5; in edited assignments WASTE is among
    them, and stands where there are fewer than T."""
    confidence: NDArray[np.float32]
    """Probability of the best [n]."""
    by_seed: Ints | None
    """Clusters by each of several fits of a k-means, int64 [seeds, n]; None where there is one."""

    @classmethod
    def read(cls, assign: Artifact) -> Assignments:
        """Read all of them into memory."""
        return cls._from(assign.read_table(FILE, columns=_COLUMNS), _by_seed(assign))

    @classmethod
    def pieces(cls, assign: Artifact) -> Iterator[Assignments]:
        """Read them one row group at a time, in order."""
        by_seed, first = _by_seed(assign), 0
        for group in row_groups(assign, FILE, _COLUMNS):
            stop = first + len(group)
            yield cls._from(group, None if by_seed is None else by_seed[:, first:stop])
            first = stop

    @classmethod
    def _from(cls, table: pa.Table, by_seed: NDArray[np.int32] | None) -> Assignments:
        return cls(
            table["gid"].to_numpy(),
            table["split"].to_numpy(),
            as_rows(table["top5"]).astype(np.int64),
            table["confidence"].to_numpy(),
            None if by_seed is None else by_seed.astype(np.int64),
        )

    @property
    def clusters(self) -> Ints:
        """Cluster of each image, int64 [n]."""
        return self.best[:, 0]

    @property
    def groupings(self) -> Ints:
        """Clusters by every seed, or the assigned ones where there is one fit: [seeds, n]."""
        return self.clusters[None] if self.by_seed is None else self.by_seed


def cluster_numbers(assign: Artifact) -> Ints:
    """Numbers of the clusters, rising, without waste; edited clusters may leave numbers out, int64 [C]."""
    numbers = sorted(int(row["cluster"]) for row in assign.read_json(CLUSTERS) if row["cluster"] != WASTE)
    return np.array(numbers, np.int64)


def _by_seed(assign: Artifact) -> NDArray[np.int32] | None:
    return assign.read_array(SEEDS) if SEEDS in assign.files else None


def assignment_tables(
    index: Artifact,
    gids: Ints,
    tops_of: Callable[[int, int], NDArray[Any]],
    prototypes: Iterable[Iterable[int]],
    mined: Mapping[str, pa.Array] | None = None,
) -> Iterator[pa.Table]:
    """The table of SCHEMA, in pieces.

    Args:
        index: Result of the index stage.
        gids: Usable images, rising [n].
        tops_of: Predictions of rows [first, stop): fields ids int32 [T] and probs float32 [T], best
            first, ids below 0 where there are fewer clusters than T.
        prototypes: Rows of the prototypes of each cluster.
        mined: Columns that come from mined neighbors, see MINED [n]; null without.
    """
    is_prototype = np.zeros(len(gids), bool)
    for rows in prototypes:
        is_prototype[list(rows)] = True
    begin = 0  # gid of the first image of a row group: the row of the index
    for group in row_groups(index, "images.parquet", ["id", "source", "key", "split"]):
        first, stop = np.searchsorted(gids, [begin, begin + len(group)])
        images = group.take(pa.array(gids[first:stop] - begin))
        begin += len(group)
        if first == stop:
            continue
        tops = tops_of(int(first), int(stop))
        count = int((tops["ids"][:1] >= 0).sum())
        ids, probs = (np.ascontiguousarray(tops[name][:, :count]) for name in ("ids", "probs"))
        second, second_probs = runner_up(ids, probs)
        columns = {
            "gid": pa.array(gids[first:stop]),
            **{name: images.column(name) for name in ("id", "source", "key", "split")},
            "cluster": pa.array(ids[:, 0].copy()),
            "confidence": pa.array(probs[:, 0].copy()),
            "margin": pa.array(probs[:, 0] - second_probs),
            "second": pa.array(second),
            "second_confidence": pa.array(second_probs),
            "top5": as_lists(ids),
            "top5_probs": as_lists(probs),
            "is_prototype": pa.array(is_prototype[first:stop]),
            **{name: _slice(mined, name, int(first), int(stop)) for name in MINED},
        }
        yield pa.table(columns, schema=SCHEMA)


def _slice(columns: Mapping[str, pa.Array] | None, name: str, first: int, stop: int) -> pa.Array:
    return pa.nulls(stop - first, SCHEMA.field(name).type) if columns is None else columns[name][first:stop]


def runner_up(ids: Ints, probs: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The likeliest other cluster of each image and its probability, [n]; -1 and 0 where there is but one."""
    if ids.shape[1] > 1:
        return ids[:, 1].astype(np.int32), probs[:, 1].copy()
    return np.full(len(ids), -1, np.int32), np.zeros(len(ids), np.float32)
