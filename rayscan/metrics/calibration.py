"""Whether a confidence means what it says: expected calibration error (arXiv 1706.04599, Eq. 3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15


def calibration(pieces: Iterable[tuple[NDArray[Any], NDArray[np.bool_]]], bins: int = BINS) -> dict[str, Any]:
    """ECE over equally wide bins of confidence.

    Args:
        pieces: Of all images, in pieces: the highest cluster probability of each, 0..1, [n], and whether its
            cluster stands for its class [n].
        bins: Number of bins; bin m holds ((m - 1) / bins, m / bins], 0 belongs to the first.

    Returns:
        ece: mean over the images of |accuracy - confidence| of their bin. overconfidence: mean confidence
        less accuracy. counts, accuracy, confidence: one value a bin, 0 where it is empty.
    """
    counts, right, total = np.zeros(bins, np.int64), np.zeros(bins, np.int64), np.zeros(bins)
    for confidence, correct in pieces:
        wide = np.asarray(confidence, np.float64)
        which = np.clip(np.ceil(wide * bins).astype(np.int64) - 1, 0, bins - 1)
        counts += np.bincount(which, minlength=bins)
        right += np.bincount(which[correct], minlength=bins)
        total += np.bincount(which, weights=wide, minlength=bins)
    sizes, num_images = np.maximum(counts, 1), counts.sum()
    accuracy, mean = right / sizes, total / sizes
    return {
        "ece": float(np.abs(accuracy - mean) @ counts / num_images),
        "overconfidence": float(total.sum() / num_images - right.sum() / num_images),
        "counts": counts.tolist(),
        "accuracy": accuracy.tolist(),
        "confidence": mean.tolist(),
    }
