"""Neighbor purity: how often an image and its mined neighbors are of one class.

Comes from the mined neighbors and the labels, goes to `stages.evaluate`. It bounds what SCAN can learn
from these neighbors (SCAN, arXiv 2005.12320, Fig. 2), before any clustering.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rayscan.types import Ints

Neighbors: TypeAlias = tuple[Ints, Ints, NDArray[np.bool_] | None]
"""Anchors [n], the gids of their neighbors [n, K_max] and which of them count [n, K_max]; all if None."""


def neighbor_purity(
    pieces: Iterable[Neighbors], label_of: NDArray[Any], neighbors: Sequence[int]
) -> dict[int, float]:
    """Share of (anchor, neighbor) pairs with equal labels, among the first K neighbors of every anchor.

    Only pairs with both ends labelled count.

    Args:
        pieces: All neighbor lists, nearest first, in pieces; the anchor itself is not among its neighbors.
            Of neighbors that count the first K are meant, or as many as an anchor has.
        label_of: Class by gid, integers [N], -1 where unlabelled.
        neighbors: The K asked for; those above K_max are left out of the answer.

    Returns:
        K -> purity 0..1, rising K; a K without any labelled pair is left out.
    """
    right = known = np.zeros(0, np.int64)
    for anchors, ids, chosen in pieces:
        here = _counts(anchors, ids, chosen, np.asarray(label_of))
        right, known = here if not len(right) else (right + here[0], known + here[1])
    rights, knowns = right.cumsum(), known.cumsum()
    return {
        k: float(rights[k - 1] / knowns[k - 1])
        for k in sorted(set(neighbors))
        if k <= len(knowns) and knowns[k - 1]
    }


def _counts(
    anchors: Ints, ids: Ints, chosen: NDArray[np.bool_] | None, label: NDArray[Any]
) -> tuple[Ints, Ints]:
    """Pairs with equal labels, and with any, by the place of the neighbor among those that count."""
    stored = ids.shape[1]
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
    return right, known
