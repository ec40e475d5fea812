"""The mined neighbors as a file, `neighbors.parquet`, and the column that says which of them count.

Columns: gid, ids (K, nearest first), scores (K) and, where `mine.mutual` asks for a choice, chosen (K
booleans). The ids are the K nearest in any case, so the fixed graph of five neighbors is the same with and
without, and nothing is mined again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rayscan.artifacts import Artifact, Draft
from rayscan.tables import as_lists, as_rows, row_groups, write_tables
from rayscan.types import Ints
from rayscan.vectors.mutual import chosen_first, mth_neighbors, mutual_neighbors

FILE = "neighbors.parquet"
CHOSEN = "chosen"
SCHEMA = pa.schema([("gid", pa.int64()), ("ids", pa.list_(pa.int64())), ("scores", pa.list_(pa.float32()))])


@dataclass(frozen=True)
class NeighborTable:
    """The neighbors of all images, or of those of one row group."""

    gids: Ints
    """Images [N]."""
    ids: Ints
    """Their neighbors, nearest first, whether they count or not [N, K]."""
    chosen: NDArray[np.bool_] | None
    """Which of them count [N, K]; None where no choice was asked for."""

    @classmethod
    def read(cls, mine: Artifact) -> NeighborTable:
        """Read all of them into memory, from the result of the stage mine."""
        return cls._from(mine.read_table(FILE, columns=cls._columns(mine)))

    @classmethod
    def pieces(cls, mine: Artifact) -> Iterator[NeighborTable]:
        """Read them one row group at a time, in order."""
        yield from map(cls._from, row_groups(mine, FILE, cls._columns(mine)))

    @staticmethod
    def _columns(mine: Artifact) -> list[str]:
        return ["gid", "ids", *[CHOSEN] * (mine.facts.get(CHOSEN) is not None)]

    @classmethod
    def _from(cls, table: pa.Table) -> NeighborTable:
        chosen = as_rows(table[CHOSEN]) if CHOSEN in table.column_names else None
        return cls(table["gid"].to_numpy(), as_rows(table["ids"]), chosen)

    def nearest(self, num_neighbors: int) -> Ints:
        """The nearest neighbors of each image [N, K], in memory of their own."""
        return self.ids[:, :num_neighbors].copy()

    def paired(self, num_neighbors: int) -> tuple[Ints, Ints | None]:
        """The first chosen neighbors [N, K], and how many of these each image has [N]; None if all have K."""
        if self.chosen is None:
            return self.nearest(num_neighbors), None
        return chosen_first(self.ids, self.chosen, num_neighbors)


def neighbor_ids(mine: Artifact, num_neighbors: int) -> tuple[Ints, Ints]:
    """Gids [N] and their nearest `num_neighbors` [N, K], whichever count."""
    table = NeighborTable.read(mine)
    return table.gids, table.nearest(num_neighbors)


def write_mutual(mined: Artifact, draft: Draft, m: int) -> Artifact:
    """Write the same table with the column `chosen`, row group by row group, in two passes.

    Args:
        mined: Result of the stage mine without a choice.
        draft: Where this result goes.
        m: Neighbors count that are among the first m of each other.
    """
    gids = np.concatenate([group["gid"].to_numpy() for group in row_groups(mined, FILE, ["gid"])])
    lists = ((as_rows(group["ids"]), as_rows(group["scores"])) for group in row_groups(mined, FILE))
    mth = mth_neighbors(lists, m)
    counted: list[tuple[int, int]] = []

    def tables() -> Iterator[pa.Table]:
        counted.clear()
        for group in row_groups(mined, FILE):
            ids, scores = as_rows(group["ids"]), as_rows(group["scores"])
            chosen = mutual_neighbors(group["gid"].to_numpy(), np.searchsorted(gids, ids), scores, mth, m)
            counted.append((int(chosen.sum()), int((chosen.sum(axis=1) == 1).sum())))
            yield group.append_column(CHOSEN, as_lists(chosen))

    entry = write_tables(draft, FILE, SCHEMA.append(pa.field(CHOSEN, pa.list_(pa.bool_()))), tables)
    total, alone = (sum(column) for column in zip(*counted, strict=True))
    return draft.commit(
        {FILE: entry}, facts={**mined.facts, CHOSEN: {"mean": total / len(gids), "one_only": alone}}
    )
