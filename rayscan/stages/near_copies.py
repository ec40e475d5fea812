"""The mined pairs that are alike, some rows of the neighbor table at a time: the work of stage duplicates.

What is compared are pixels, in the signatures of both images, or the cosines that were mined.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayscan.artifacts import Artifact, Draft
from rayscan.duplicates.alignment import COARSE, coarse_rows, likeness
from rayscan.parquet import ROW_GROUP
from rayscan.tables import as_rows, row_groups
from rayscan.types import Ints
from rayscan.vectors.neighbor_table import FILE
from rayscan.vectors.parts import EmbeddingRows

ROWS_PER_TASK = 16_384
ANCHORS_AT_ONCE = 512
"""Images whose neighbors are compared at a time; their signatures take 100 MB at K = 50."""
BACKGROUND_ANCHORS = 2000
"""About so many images give pairs of the background."""
BACKGROUND_PAIRS = 10
"""Neighbors of each of them, from the farther half of its list."""
PAIR = np.dtype([("first", np.int64), ("second", np.int64), ("likeness", np.float32)])


@dataclass(frozen=True)
class Part:
    """Rows [first, stop) of the neighbor table, for one worker."""

    mine: Artifact
    signatures: Artifact | None
    """None compares by the mined cosines."""
    draft: Draft
    num_rows: int
    least: float
    """Likeness from which on pairs are kept."""
    first: int
    stop: int

    @property
    def name(self) -> str:
        """Begins the names of the files of this part."""
        return f"{self.first:09d}"


@dataclass(frozen=True)
class Compared:
    """What comes out of a part, or of all."""

    pairs: NDArray[np.void]
    """Pairs that are alike, of dtype PAIR, by gid."""
    nearest: NDArray[np.float32]
    """Likeness of each image and the neighbor most like it, of those that were looked at closely [n]."""
    background: NDArray[np.float32]
    """Likeness of pairs that are hardly copies [m]."""

    @classmethod
    def read(cls, part: Part) -> Compared:
        """Read the result of a finished part."""
        finished = part.draft.finished_part(part.name)
        assert finished is not None
        pairs, nearest, background = (part.draft.read_part_array(finished[0][n]) for n in cls.__annotations__)
        return cls(pairs.view(PAIR).reshape(-1), nearest, background)


def compare_part(part: Part) -> None:
    """Compare the images of one part with their neighbors and note it as finished."""
    stored = None if part.signatures is None else EmbeddingRows(part.signatures)
    found = [_compared(part, stored, *piece) for piece in _pieces(part)]
    arrays = {
        name: np.concatenate([getattr(one, name) for one in found]) for name in Compared.__annotations__
    }
    arrays["pairs"] = arrays["pairs"].view(np.uint8)  # .npy of a plain type
    files = {name: part.draft.write_array(f"{part.name}-{name}.npy", array) for name, array in arrays.items()}
    part.draft.finish_part(part.name, files)


def _pieces(part: Part) -> Iterator[tuple[int, Ints, Ints, NDArray[np.float32]]]:
    """The rows of a part, some at a time: the first row's number, gids [n], ids [n, K] and scores [n, K]."""
    groups = range(part.first // ROW_GROUP, -(-part.stop // ROW_GROUP))
    tables = row_groups(part.mine, FILE, ["gid", "ids", "scores"], groups)
    for begin, group in zip((number * ROW_GROUP for number in groups), tables, strict=True):
        low, high = max(part.first, begin), min(part.stop, begin + len(group))
        for first in range(low, high, ANCHORS_AT_ONCE):
            rows = group.slice(first - begin, min(ANCHORS_AT_ONCE, high - first))
            yield first, rows["gid"].to_numpy(), as_rows(rows["ids"]), as_rows(rows["scores"])


def _compared(
    part: Part, stored: EmbeddingRows | None, first: int, gids: Ints, ids: Ints, scores: NDArray[np.float32]
) -> Compared:
    k = ids.shape[1]
    far = np.unique(np.linspace(k // 2, k - 1, BACKGROUND_PAIRS).astype(np.int64))
    stride = max(1, part.num_rows // BACKGROUND_ANCHORS)
    sampled = np.flatnonzero((first + np.arange(len(gids))) % stride == 0)
    if stored is None:
        alike = np.asarray(scores, np.float32).round(4)
        rows, places = np.nonzero(alike >= part.least)
        pairs = _pairs(gids[rows], ids[rows, places], alike[rows, places])
        return Compared(pairs, alike.max(axis=1), alike[np.ix_(sampled, far)].ravel())
    known, places = np.unique(np.concatenate([gids, ids.ravel()]), return_inverse=True)
    signatures = stored.take(np.searchsorted(stored.gids, known))
    anchors, others = places[: len(gids)], places[len(gids) :].reshape(ids.shape)
    coarse = coarse_rows(signatures)
    is_close = np.einsum("nd,nkd->nk", coarse[anchors], coarse[others]) >= COARSE
    is_close[:, 0] = True
    rows, columns = np.nonzero(is_close)
    alike = likeness(signatures, anchors[rows], others[rows, columns])
    nearest = np.full(len(gids), -1.0, np.float32)
    np.maximum.at(nearest, rows, alike)
    kept = alike >= part.least
    pairs = _pairs(gids[rows[kept]], ids[rows[kept], columns[kept]], alike[kept])
    background = likeness(
        signatures, np.repeat(anchors[sampled], len(far)), others[np.ix_(sampled, far)].ravel()
    )
    return Compared(pairs, nearest, background)


def _pairs(first: Ints, second: Ints, alike: NDArray[np.float32]) -> NDArray[np.void]:
    pairs = np.empty(len(first), PAIR)
    pairs["first"], pairs["second"], pairs["likeness"] = first, second, alike
    return pairs
