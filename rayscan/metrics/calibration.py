"""Whether a confidence means what it says: expected calibration error (arXiv 1706.04599, Eq. 3)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15


def calibration(confidence: NDArray[Any], correct: NDArray[np.bool_], bins: int = BINS) -> dict[str, Any]:
    """ECE over equally wide bins of confidence.

    Args:
        confidence: Highest cluster probability of each image, 0..1, [n].
        correct: Whether its cluster stands for its class [n].
        bins: Number of bins; bin m holds ((m - 1) / bins, m / bins], 0 belongs to the first.

    Returns:
        ece: mean over the images of |accuracy - confidence| of their bin. overconfidence: mean confidence
        less accuracy. counts, accuracy, confidence: one value a bin, 0 where it is empty.
    """
    wide = np.asarray(confidence, np.float64)
    which = np.clip(np.ceil(wide * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(which, minlength=bins)
    sizes = np.maximum(counts, 1)
    accuracy = np.bincount(which, weights=correct, minlength=bins) / sizes
    mean = np.bincount(which, weights=wide, minlength=bins) / sizes
    return {
        "ece": float(np.abs(accuracy - mean) @ counts / len(wide)),
        "overconfidence": float(wide.mean() - np.mean(correct)),
        "counts": counts.tolist(),
        "accuracy": accuracy.tolist(),
        "confidence": mean.tolist(),
    }
