"""The mined lists as others read them, and the column that says which neighbors an image is paired with.

`neighbors.parquet`: gid, ids (K, nearest first), scores (K) and, where `mine.mutual` or `mine.adaptive` ask
for a choice, chosen (K booleans). The ids are the K nearest in any case, so the fixed graph of five neighbors
is the same under every rule, and no rule mines again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rayscan.artifacts import Artifact, Draft
from rayscan.config import MineConfig
from rayscan.storage import resolve
from rayscan.vectors.choose import Ends, Rule, choose, chosen_first

FILE = "neighbors.parquet"
CHOSEN = "chosen"


def neighbor_ids(mine: Artifact, num_neighbors: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Gids [N] and their nearest `num_neighbors` [N, K], whatever was chosen of them."""
    table = mine.read_table(FILE, columns=["gid", "ids"])
    return table.column("gid").to_numpy(), np.ascontiguousarray(_rows(table, "ids")[:, :num_neighbors])


def chosen_mask(mine: Artifact) -> NDArray[np.bool_] | None:
    """Which neighbors are chosen: bool [N, K]; None if all are."""
    if mine.facts.get(CHOSEN) is None:
        return None
    return _rows(mine.read_table(FILE, columns=["gid", CHOSEN]), CHOSEN)


def chosen_ids(
    mine: Artifact, num_neighbors: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64] | None]:
    """Gids [N], their first `num_neighbors` chosen neighbors [N, K], and how many of these each has [N].

    The counts are None where no choice was asked for: every image then has K.
    """
    mask = chosen_mask(mine)
    if mask is None:
        return *neighbor_ids(mine, num_neighbors), None
    gids, ids = neighbor_ids(mine, mask.shape[1])
    return gids, *chosen_first(ids, mask, num_neighbors)


def rule_of(settings: MineConfig) -> Rule:
    """The rule that the settings ask for."""
    return Rule(settings.mutual, settings.adaptive, settings.scale_neighbor)


def write_chosen(mined: Artifact, draft: Draft, rule: Rule) -> Artifact:
    """The same lists with the column `chosen`; row group by row group, in two passes.

    Args:
        mined: Result of the stage mine without a choice.
        draft: Where this result goes.
        rule: What is asked of a neighbor.
    """
    gids = mined.read_table(FILE, columns=["gid"]).column("gid").to_numpy()
    ends = Ends.of(((_rows(piece, "ids"), _rows(piece, "scores")) for piece in _pieces(mined)), rule)
    sink = pa.BufferOutputStream()
    writer: pq.ParquetWriter | None = None
    first = total = alone = 0
    for piece in _pieces(mined):
        ids = _rows(piece, "ids")
        at = np.arange(first, first + len(ids))
        mask = choose((gids[at], at), (ids, np.searchsorted(gids, ids)), _rows(piece, "scores"), ends, rule)
        table = piece.append_column(CHOSEN, _lists(mask))
        writer = writer or pq.ParquetWriter(sink, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=len(table))
        first, total, alone = first + len(ids), total + int(mask.sum()), alone + int((mask.sum(1) == 1).sum())
    assert writer is not None  # there are more images than neighbors
    writer.close()
    entry = draft.write(FILE, memoryview(sink.getvalue()))
    facts = {**mined.facts, CHOSEN: {"mean": total / first, "one_only": alone}}
    return draft.commit({FILE: entry}, facts=facts)


def _pieces(mined: Artifact) -> Iterator[pa.Table]:
    """Row groups of the lists."""
    filesystem, path = resolve(mined.uri_of(FILE))
    with filesystem.open_input_file(path) as source:
        file = pq.ParquetFile(source)
        for number in range(file.num_row_groups):
            yield file.read_row_group(number)


def _rows(table: pa.Table, name: str) -> NDArray[Any]:
    """A column of equally long lists: [N, K]."""
    flat = table.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False)
    rows: NDArray[Any] = flat.reshape(len(table), -1)
    return rows


def _lists(rows: NDArray[np.bool_]) -> pa.ListArray:
    offsets = np.arange(0, rows.size + 1, rows.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.ravel()))
