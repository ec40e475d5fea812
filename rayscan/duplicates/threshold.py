"""From which likeness on two images are near-copies, from the distribution of likenesses; no label is asked.

A mined neighbor from the farther half of a list is hardly ever a copy. Fisher's transform z = artanh r (1915)
makes correlations of such pairs about normal; their median and their median absolute deviation are moved by
neither copies nor bursts. The threshold is the likeness that so few pairs would reach by chance as `ALARMS`
says, over all pairs compared: a contrario detection (Desolneux, Moisan, Morel, "Meaningful alignments", IJCV
2000). Tails are heavier than normal where many pictures share a scene, so it is never below a floor.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

ALARMS = 0.01
"""Expected number of false pairs in the whole collection, were the background normal."""
PIXELS_FLOOR = 0.55
"""Least threshold of `alignment.likeness`: above all different pictures, below nearly all copies, of
imagenet-sample, the set it was chosen on (docs/results/duplicates.md)."""
FEATURES_FLOOR = 0.9
"""Least threshold where there are features alone, by cosine: for precision, at the cost of copies, since
cosines of different pictures of one kind reach 0.99."""
MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


def threshold(background: NDArray[np.float64], num_pairs: int, floor: float) -> float:
    """The likeness from which on pairs are near-copies.

    Args:
        background: Likenesses of pairs that are hardly copies [m], at least one.
        num_pairs: Pairs that are compared.
        floor: Least threshold.

    Returns:
        `floor` to 1, rounded to 1e-4.
    """
    z = np.arctanh(np.clip(background, -0.9999, 0.9999))
    median = float(np.median(z))
    deviation = MAD * float(np.median(np.abs(z - median)))
    reached = np.tanh(median - deviation * NormalDist().inv_cdf(ALARMS / max(num_pairs, 1)))
    return round(float(max(floor, reached)), 4)
