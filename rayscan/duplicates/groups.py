"""Groups of near-copies: stars around a medoid, so that no chain of likenesses joins different pictures.

The star cover of Aslam, Pelekhov, Rus, "The star clustering algorithm", JGAA 2004: of the images in no group
yet, that with the most near-copies takes all of them that are free. Every member is a copy of the medoid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rayscan.types import Ints


def stars(first: Ints, second: Ints, likeness: NDArray[np.float32], num_images: int) -> Ints:
    """Cover near-copies by stars.

    Args:
        first: One image of each pair, a row number [m]; a pair may occur in both orders.
        second: The other [m].
        likeness: Of each pair [m].
        num_images: N.

    Returns:
        The medoid of each image's group; the image itself for medoids and for images without a copy: [N].
    """
    medoid = np.arange(num_images)
    low, high = np.minimum(first, second), np.maximum(first, second)
    order = np.lexsort((high, low))
    low, high, likeness = low[order], high[order], likeness[order]
    is_new = np.ones(len(low), bool)
    is_new[1:] = (np.diff(low) != 0) | (np.diff(high) != 0)
    low, high, likeness = low[is_new], high[is_new], likeness[is_new]
    anchors, others = np.concatenate([low, high]), np.concatenate([high, low])
    values = np.concatenate([likeness, likeness])
    order = np.lexsort((others, -values, anchors))
    anchors, others, values = anchors[order], others[order], values[order]
    nodes, begins, degrees = np.unique(anchors, return_index=True, return_counts=True)
    if not len(nodes):
        return medoid
    mean = np.add.reduceat(values.astype(np.float64), begins) / degrees
    is_free = np.ones(num_images, bool)
    for at in np.lexsort((nodes, -mean, -degrees)).tolist():
        center = int(nodes[at])
        if not is_free[center]:
            continue
        near = others[begins[at] : begins[at] + degrees[at]]
        members = near[is_free[near]]
        is_free[center] = is_free[members] = False
        medoid[members] = center
    return medoid
