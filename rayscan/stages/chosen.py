"""The mined lists as others read them, and the column that says which neighbors an image is paired with.

`neighbors.parquet`: gid, ids (K, nearest first), scores (K) and, where `mine.mutual` or `mine.adaptive` ask
for a choice, chosen (K booleans). The ids are the K nearest in any case, so the fixed graph of five neighbors
is the same under every rule, and no rule mines again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rayscan.artifacts import Artifact, Draft
from rayscan.config import MineConfig
from rayscan.data.equal_lists import as_lists, as_rows
from rayscan.storage import resolve
from rayscan.vectors.choose import Ends, Rule, choose, chosen_first

FILE = "neighbors.parquet"
CHOSEN = "chosen"


@dataclass(frozen=True)
class Lists:
    """All lists in memory, read once."""

    gids: NDArray[np.int64]
    """Images [N]."""
    ids: NDArray[np.int64]
    """Their neighbors, nearest first, whatever was chosen of them [N, K]."""
    chosen: NDArray[np.bool_] | None
    """Which of them are chosen [N, K]; None where no choice was asked for."""

    @classmethod
    def read(cls, mine: Artifact) -> Lists:
        """From the result of the stage mine."""
        is_ruled = mine.facts.get(CHOSEN) is not None
        table = mine.read_table(FILE, columns=["gid", "ids", *[CHOSEN] * is_ruled])
        mask = as_rows(table.column(CHOSEN)) if is_ruled else None
        return cls(table.column("gid").to_numpy(), as_rows(table.column("ids")), mask)

    def nearest(self, num_neighbors: int) -> NDArray[np.int64]:
        """The nearest neighbors of each image [N, K], in memory of their own."""
        return self.ids[:, :num_neighbors].copy()

    def paired(self, num_neighbors: int) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """The first chosen neighbors [N, K], and how many of these each image has [N]; None if all have K."""
        if self.chosen is None:
            return self.nearest(num_neighbors), None
        return chosen_first(self.ids, self.chosen, num_neighbors)


def neighbor_ids(mine: Artifact, num_neighbors: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Gids [N] and their nearest `num_neighbors` [N, K], whatever was chosen of them."""
    lists = Lists.read(mine)
    return lists.gids, lists.nearest(num_neighbors)


def rule_of(settings: MineConfig) -> Rule:
    """The rule that the settings ask for."""
    return Rule(settings.mutual, settings.adaptive, settings.scale_neighbor)


def write_chosen(mined: Artifact, draft: Draft, rule: Rule) -> Artifact:
    """Write the mined lists with the column `chosen`; row group by row group, in two passes.

    Args:
        mined: Result of the stage mine without a choice.
        draft: Where this result goes.
        rule: What is asked of a neighbor.
    """
    gids = mined.read_table(FILE, columns=["gid"]).column("gid").to_numpy()
    ends = Ends.of(((as_rows(piece["ids"]), as_rows(piece["scores"])) for piece in _pieces(mined)), rule)
    sink = pa.BufferOutputStream()
    writer: pq.ParquetWriter | None = None
    first = total = alone = 0
    for piece in _pieces(mined):
        ids = as_rows(piece["ids"])
        at = np.arange(first, first + len(ids))
        mask = choose((gids[at], at), (ids, np.searchsorted(gids, ids)), as_rows(piece["scores"]), ends, rule)
        table = piece.append_column(CHOSEN, as_lists(mask))
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
