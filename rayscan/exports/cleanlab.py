"""Export as arrays for cleanlab's Datalab: features, predicted probabilities, and the neighbor graph.

OUT/
  features.npy      float32 [N, D], of unit length
  pred_probs.npy    float32 [N, C], of the clusters that have images
  labels.npy        int64 [N], 0..C - 1: row of classes.json
  classes.json      cluster and name of each of them
  knn_graph.npz     scipy CSR [N, N] of cosine distances
  rows.parquet      assignments of each row, in the order of all the others
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, save_npz

from rayscan.exports.described import described
from rayscan.exports.rows import columns_of, gids_and_clusters, named_rows, require_embeddings
from rayscan.exports.whole_folder import whole_folder
from rayscan.run import Run
from rayscan.tables import regrouped
from rayscan.training.space_rows import rows_of
from rayscan.types import Ints
from rayscan.vectors.parts import EmbeddingRows

if TYPE_CHECKING:
    from rayscan.exports.graph import Graph

ROWS_AT_ONCE = 8192


def export_cleanlab(run: Run, out: str) -> str:
    """Features, probabilities and the neighbor graph as arrays for cleanlab's Datalab.

    Args:
        run: A run with assignments and embeddings.
        out: The folder.

    Returns:
        A line that says how many rows were written.

    Raises:
        ArtifactError: the run has no assignments or embeddings, or clusters.json lacks one of the clusters.
        DataError: an image has no embedding.
    """
    from rayscan.exports.graph import neighbor_graph

    rows = EmbeddingRows(run.artifact("embed"))
    gids, used = gids_and_clusters(run)
    require_embeddings(rows, gids)
    facts = {"assign": run.artifact("assign").identity, "rows": len(gids)}
    with whole_folder(out, "cleanlab", facts) as folder:
        _write_rows(run, folder)
        _write_arrays(run, folder, rows, gids, used)
        names = run.cluster_names
        classes = [{"cluster": number, "name": names[number]} for number in used.tolist()]
        (folder / "classes.json").write_text(json.dumps(classes, indent=1, ensure_ascii=False), "utf-8")
        save_npz(folder / "knn_graph.npz", as_csr(neighbor_graph(run, rows, gids)))
    return f"{len(gids):,} rows x {len(used)} clusters: {out}"


def as_csr(graph: Graph) -> csr_matrix:
    """The graph as scikit-learn has neighbors: rows of distances, ascending, at their columns."""
    is_there = np.isfinite(graph.distances)
    bounds = np.append(0, np.cumsum(is_there.sum(axis=1)))
    shape = (len(bounds) - 1, len(bounds) - 1)
    return csr_matrix((graph.distances[is_there], graph.ids[is_there], bounds), shape)


def _write_rows(run: Run, folder: Path) -> None:
    writer: pq.ParquetWriter | None = None
    for table in described(run, named_rows(run, columns_of(run))):
        writer = writer or pq.ParquetWriter(folder / "rows.parquet", table.schema, compression="zstd")
        writer.write_table(table)
    assert writer is not None  # a run has images
    writer.close()


def _write_arrays(run: Run, folder: Path, rows: EmbeddingRows, gids: Ints, used: Ints) -> None:
    """Features, probabilities and labels, some rows at a time."""
    from rayscan.exports.probabilities import model_of, probabilities

    def opened(name: str, dtype: type, *shape: int) -> NDArray[np.generic]:
        return open_memmap(folder / f"{name}.npy", "w+", np.dtype(dtype), (len(gids), *shape))

    features = opened("features", np.float32, rows.dim)
    probs = opened("pred_probs", np.float32, len(used))
    labels = opened("labels", np.int64)
    compute, first, at = model_of(run), 0, rows_of(rows, gids)
    columns = ["gid", "cluster", "confidence", "top5", "top5_probs"]
    for table in regrouped(named_rows(run, columns), ROWS_AT_ONCE):
        some: pa.Table = table
        here = slice(first, first + len(some))
        features[here] = taken = rows.take(at[here])
        probs[here] = probabilities(compute, some, taken, used)
        labels[here] = np.searchsorted(used, some["cluster"].to_numpy())
        first = here.stop
