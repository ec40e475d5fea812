"""Clusters that an earlier run found, as first labels for SeLa: label transfer (arXiv 1911.05371)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rayscan import storage
from rayscan.config import Recipe
from rayscan.errors import DataError
from rayscan.types import Ints


def read_labels(recipe: Recipe, gids: Ints) -> NDArray[np.int32]:
    """Labels of the train images, int32 [T, N]: columns head_0, head_1 ... of a table, else its `cluster`.

    A table with fewer columns than there are heads is used again from the first.

    Raises:
        DataError: the table has no such column, lacks an image, or a label is no cluster.
    """
    path = recipe.sela.first_labels
    assert path is not None
    table = pq.ParquetFile(pa.BufferReader(storage.read(path))).read(use_threads=False)
    names = [n for n in table.column_names if n.startswith("head_")] or ["cluster"]
    if "gid" not in table.column_names or names[0] not in table.column_names:
        raise DataError(
            "the first labels cannot be used",
            expected="columns gid and cluster, or gid and head_0",
            got=", ".join(table.column_names),
            where=path,
            fix="pass the assignments.parquet of a run, or the labels.parquet of its sela stage",
        )
    order = np.argsort(known := table["gid"].to_numpy())
    rows = np.searchsorted(known[order], gids)
    found = known[order][np.minimum(rows, len(known) - 1)] == gids
    if not found.all():
        raise DataError(
            "an image has no first label",
            expected=f"all {len(gids):,} train images",
            got=f"{int((~found).sum()):,} without, such as gid {int(gids[~found][0])}",
            where=path,
            fix="take the table of a run on the same --data",
        )
    columns = [table[name].to_numpy()[order][rows] for name in names]
    labels = np.stack([columns[head % len(columns)] for head in range(recipe.sela.num_heads)])
    if labels.min() < 0 or labels.max() >= recipe.clusters:
        raise DataError(
            "a first label is no cluster",
            expected=f"0..{recipe.clusters - 1}, as num_clusters",
            got=f"{int(labels.min())}..{int(labels.max())}",
            where=path,
            fix="pass the --num-clusters of that run",
        )
    return labels.astype(np.int32)
