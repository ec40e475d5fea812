"""Neighbor purity: how often an image and its mined neighbors are of one class.

Comes from the mined neighbors and the labels, goes to `stages.evaluate`. It bounds what SCAN can learn
from these neighbors (SCAN, arXiv 2005.12320, Fig. 2), before any clustering.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayscan.metrics.contingency import IntArray


def neighbor_purity(
    anchors: IntArray,
    ids: NDArray[np.int64],
    label_of: NDArray[Any],
    neighbors: Sequence[int],
    chosen: NDArray[np.bool_] | None = None,
) -> dict[int, float]:
    """Share of (anchor, neighbor) pairs with equal labels, among the first K neighbors of every anchor.

    Only pairs with both ends labelled count.

    Args:
        anchors: gid of each row, int64 [n].
        ids: gids of its neighbors, nearest first, int64 [n, K_max]; the anchor itself is not among them.
        label_of: Class by gid, integers [N], -1 where unlabelled.
        neighbors: The K asked for; those above K_max are left out of the answer.
        chosen: Neighbors that count, bool [n, K_max]; then the first K of these are meant, or as many as an
            anchor has. All count if none.

    Returns:
        K -> purity 0..1, rising K; a K without any labelled pair is left out.
    """
    stored = ids.shape[1]
    label = np.asarray(label_of)
    anchor_label = label[anchors]
    right, known = np.zeros(stored, np.int64), np.zeros(stored, np.int64)
    place = np.zeros(len(anchors), np.int64)  # of the next neighbor that counts
    for column in range(stored):  # one column at a time, so that the working memory is O(n)
        neighbor_label = label[ids[:, column]]
        is_known = (anchor_label >= 0) & (neighbor_label >= 0)
        if chosen is not None:
            is_known &= chosen[:, column]
        known += np.bincount(place[is_known], minlength=stored)
        right += np.bincount(place[is_known & (anchor_label == neighbor_label)], minlength=stored)
        place += 1 if chosen is None else chosen[:, column]
    rights, knowns = right.cumsum(), known.cumsum()
    return {
        k: float(rights[k - 1] / knowns[k - 1])
        for k in sorted(set(neighbors))
        if k <= stored and knowns[k - 1]
    }
