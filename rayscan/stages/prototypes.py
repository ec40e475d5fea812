"""Prototypes and tables of the assign stage: pure functions of the predictions."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from rayscan.artifacts import Artifact
from rayscan.data.equal_lists import as_lists
from rayscan.vectors.parts import EmbeddingRows

Gids = np.ndarray[Any, np.dtype[np.int64]]
Tops = np.ndarray[Any, Any]

CANDIDATES_PER_PROTOTYPE = 4


def find_prototypes(tops: Tops, embed: Artifact, num_prototypes: int) -> dict[int, list[int]]:
    """Rows of each cluster's prototypes: of its most confident images, those nearest to their mean feature.

    Nearest first; ties by row. SCAN Sec. 3.5 shows the most confident images nearest to the mean of the
    confident ones.

    Args:
        tops: [n] predictions, see `assign.top_dtype`.
        embed: Embeddings of the same n rows.
        num_prototypes: At most this many per cluster.
    """
    clusters, confidence = tops["ids"][:, 0], tops["probs"][:, 0]
    order = np.lexsort((np.arange(len(tops)), -confidence, clusters))
    starts = np.searchsorted(clusters[order], np.arange(clusters.max(initial=-1) + 2))
    candidates = {
        c: np.sort(order[a : min(b, a + CANDIDATES_PER_PROTOTYPE * num_prototypes)])
        for c, (a, b) in enumerate(pairwise(starts))
        if b > a
    }
    wanted = np.unique(np.concatenate(list(candidates.values()))) if candidates else np.empty(0, np.int64)
    features = _rows(EmbeddingRows(embed), wanted)
    chosen = {}
    for cluster, rows in candidates.items():
        mine = features[np.searchsorted(wanted, rows)].astype(np.float64)
        closeness = mine @ mine.mean(0)
        chosen[cluster] = rows[np.lexsort((rows, -closeness))][:num_prototypes].tolist()
    return chosen


def _rows(embeddings: EmbeddingRows, rows: Gids, block: int = 16_384) -> np.ndarray[Any, Any]:
    """Features of sorted `rows`, read block by block so that memory stays bounded."""
    found = []
    for first in range(0, int(rows[-1]) + 1 if len(rows) else 0, block):
        inside = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + block)]
        if len(inside):
            stop = int(inside[-1]) + 1
            found.append(np.asarray(embeddings.read(first, stop))[inside - first])
    return np.concatenate(found) if found else np.empty((0, 1), np.float32)


def assignments_table(index: Artifact, gids: Gids, tops: Tops, prototypes: dict[int, list[int]]) -> pa.Table:
    """One row per usable image, in gid order."""
    images = index.read_table("images.parquet", columns=["gid", "id", "source", "key", "split"]).take(
        pa.array(gids)
    )
    is_prototype = np.zeros(len(gids), bool)
    for rows in prototypes.values():
        is_prototype[rows] = True
    count = int((tops["ids"][:1] >= 0).sum()) if len(tops) else 1
    top_ids = np.ascontiguousarray(tops["ids"][:, :count])
    top_probs = np.ascontiguousarray(tops["probs"][:, :count])
    second = top_probs[:, 1] if count > 1 else np.zeros(len(tops), np.float32)
    columns = {
        "gid": pa.array(gids),
        "id": images.column("id"),
        "source": images.column("source"),
        "key": images.column("key"),
        "split": images.column("split"),
        "cluster": pa.array(top_ids[:, 0].copy()),
        "confidence": pa.array(top_probs[:, 0].copy()),
        "margin": pa.array(top_probs[:, 0] - second),
        "top5": as_lists(top_ids),
        "top5_probs": as_lists(top_probs),
        "is_prototype": pa.array(is_prototype),
    }
    return pa.table(columns)


def cluster_list(
    tops: Tops, gids: Gids, prototypes: dict[int, list[int]], num_clusters: int
) -> list[dict[str, Any]]:
    """Every cluster with its size, mean confidence, prototypes and a name for the user to edit."""
    clusters = tops["ids"][:, 0]
    sizes = np.bincount(clusters, minlength=num_clusters)
    sums = np.bincount(clusters, weights=tops["probs"][:, 0].astype(np.float64), minlength=num_clusters)
    return [
        {
            "cluster": c,
            "name": f"cluster {c}",
            "size": int(sizes[c]),
            "mean_confidence": round(float(sums[c] / sizes[c]), 6) if sizes[c] else 0.0,
            "prototypes": [int(gids[row]) for row in prototypes.get(c, [])],
        }
        for c in range(num_clusters)
    ]
