"""Scores of clusters on another set, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from rayscan.errors import DataError
from rayscan.metrics.contingency import Contingency
from rayscan.metrics.transfer import allowed_classes, transfer_scores

HOME = ["tabby", "siamese", "beagle", "truck"]
OTHER = ["cat", "dog", "spoon"]
MAP = {"cat": ["tabby", "siamese"], "dog": ["beagle", "unknown"]}


def test_a_class_may_stand_for_several() -> None:
    allowed = allowed_classes(OTHER, HOME, MAP)
    assert allowed.tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert allowed_classes(["beagle", "x"], HOME, None).tolist() == [[0, 0, 1, 0], [0, 0, 0, 0]]
    with pytest.raises(DataError, match="class-map"):
        allowed_classes(OTHER, HOME, None)


def test_scores_worked_by_hand() -> None:
    """Clusters 0..4: at home 0 is tabby, 1 siamese, 2 beagle, 3 truck, and 4, left over, is mostly beagle."""
    home = Contingency.count(
        np.array([0] * 9 + [1] * 9 + [2] * 9 + [3] * 9 + [4] * 5),
        np.array([0] * 9 + [1] * 9 + [2] * 9 + [3] * 9 + [2, 2, 2, 0, 0]),
        5,
        4,
    )
    clusters = np.array([0, 1, 2, 4, 3, 3, 3, 0, 2])
    labels = np.array([0, 0, 1, 1, 1, 1, 0, 2, -1])  # the spoon and the unlabelled take no part
    got = transfer_scores(clusters, labels, allowed_classes(OTHER, HOME, MAP), home)
    assert got["images"] == 7
    assert got["acc_tr"] == pytest.approx(4 / 7)  # clusters of trucks are wrong for cats and dogs
    # Fitted here: cat and dog get a cluster each (0 or 1 -> cat, 3 -> dog: 1 + 2), the rest goes greedily.
    assert got["acc_val"] == pytest.approx(6 / 7)
    x, y = clusters[:7], labels[:7]
    assert got["nmi"] == pytest.approx(sk.normalized_mutual_info_score(y, x), abs=1e-9)
    assert got["ami"] == pytest.approx(sk.adjusted_mutual_info_score(y, x), abs=1e-9)
    assert got["ari"] == pytest.approx(sk.adjusted_rand_score(y, x), abs=1e-9)
    with pytest.raises(DataError, match="no image"):
        transfer_scores(clusters, np.full(9, 2), allowed_classes(OTHER, HOME, MAP), home)
