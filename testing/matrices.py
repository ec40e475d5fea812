"""Matrices with known difficulties, embed artifacts made of them, and the slow twin that knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rayscan.artifacts import Artifact, Draft, Step
from rayscan.storage import Place
from rayscan.vectors.duplicates import Copies, collapse, hash_rows
from rayscan.vectors.merge import MARGIN, IndexedRows, Proposal, blocks, neighbors_of
from rayscan.vectors.parts import EmbeddingRows, row_ranges
from rayscan.vectors.shard_search import ShardSearch

Rows = NDArray[np.float32]
Ids = NDArray[np.int64]


def unit(x: NDArray[np.floating]) -> Rows:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def planted(seed: int = 0) -> Rows:
    """617 rows [*, 12]: random ones, near-twins 1e-7 apart, 49 equal rows, twos and threes of others,
    and a lattice (entries 0, +-1/2) whose scores tie exactly by the hundred."""
    rng = np.random.default_rng(seed)
    free = rng.normal(size=(180, 12))
    twins = np.repeat(rng.normal(size=(20, 12)), 5, axis=0) + rng.normal(size=(100, 12)) * 1e-7
    lattice = np.zeros((200, 12))
    for row in lattice:
        row[rng.choice(12, 4, replace=False)] = rng.choice([-0.5, 0.5], 4)
    x = np.concatenate([unit(free), unit(twins), lattice.astype(np.float32)])
    x = np.concatenate([x, np.repeat(x[7:8], 48, axis=0), x[20:80], x[40:60], x[-9:]])
    return x[rng.permutation(len(x))]


def brute_force(x: Rows, k: int) -> tuple[Rows, Ids]:
    """Scores and ids [N, K] of every row: float64 product, rounded, sorted by (-score, id), less self."""
    scores = (x.astype(np.float64) @ x.astype(np.float64).T).astype(np.float32)
    ids = np.empty((len(x), k), np.int64)
    for row in range(len(x)):
        order = np.lexsort((np.arange(len(x)), -scores[row]))
        ids[row] = order[order != row][:k]
    return np.take_along_axis(scores, ids, axis=1), ids


def embedded(
    place: Place, x: Rows, *, rows_per_part: int = 100, num_eval: int = 0, gids: Ids | None = None
) -> Artifact:
    """An embed artifact of `x`, its last `num_eval` rows being the eval split."""
    draft = Draft(place, Step("embed", 1, {"of": "test", "rows": len(x)}))
    files, table = {}, {"part": [], "name": [], "first_row": [], "rows": []}
    for number, first in enumerate(range(0, len(x), rows_per_part)):
        part, name = x[first : first + rows_per_part], f"part-{number:05d}.npy"
        files[name] = draft.write_array(name, part)
        for column, value in zip(table, (number, name, first, len(part)), strict=True):
            table[column].append(value)
    files["parts.parquet"] = draft.write_table("parts.parquet", pa.table(table))
    files["gids.npy"] = draft.write_array("gids.npy", np.arange(len(x)) if gids is None else gids)
    facts = {"rows": len(x), "train_rows": len(x) - num_eval, "dim": x.shape[1], "num_views": 1}
    return draft.commit(files, facts=facts)


def collapsed(rows: EmbeddingRows, k: int) -> tuple[Ids, IndexedRows]:
    """What the mine stage hands to the search."""
    digests = np.concatenate([hash_rows(span) for span in row_ranges(rows, 64)])
    representatives, copies = collapse(digests, k + 1)
    return representatives, IndexedRows(
        rows, np.flatnonzero(representatives == np.arange(len(representatives))), copies
    )


class LocalShards:
    """The shards in this process, without Ray; notes every width asked for."""

    nprobe: int | None = None
    margin = MARGIN

    def exhaustive(self) -> LocalShards:
        return self

    def __init__(self, x: Rows, num_shards: int) -> None:
        self.shards = [
            ShardSearch(part, threads=1, use_gpu=False, where="test")
            for part in np.array_split(x, num_shards)
        ]
        self.sizes = [len(shard) for shard in self.shards]
        self.widths: list[int] = []

    def propose(self, queries: Rows, width: int) -> list[Proposal]:
        self.widths.append(width)
        return [shard.search(queries, width) for shard in self.shards]

    def score(self, queries: Rows, pairs: Sequence[tuple[Ids, Ids]]) -> list[Rows]:
        return [shard.score(queries, *pair) for shard, pair in zip(self.shards, pairs, strict=True)]


NO_COPIES = Copies(np.empty(0, np.int64), np.zeros(1, np.int64), np.empty(0, np.int64))


def mined_by(
    rows: EmbeddingRows, k: int, shards_of: Callable[[Ids], LocalShards], block: int = 100
) -> tuple[Rows, Ids]:
    """All the way as the stage goes, without Ray; `shards_of` is told which rows are searched."""
    representatives, indexed = collapsed(rows, k)
    shards = shards_of(indexed.uniques)
    found = [neighbors_of(one, indexed, shards, k) for one in blocks(representatives, block)]
    return np.concatenate([scores for scores, _ in found]), np.concatenate([ids for _, ids in found])
