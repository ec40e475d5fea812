"""The rivals of benchmarks.clustering that train heads find what anyone would find; no Ray is started."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.clusterers import grouped

MEANS = np.random.default_rng(0).normal(size=(3, 24)).astype(np.float32)


@pytest.mark.parametrize("method", ["scan", "pmi", "sela"])
def test_three_groups_far_apart_are_found(method: str) -> None:
    classes = np.arange(300) % 3
    rows = MEANS[classes] + 0.1 * np.random.default_rng(1).normal(size=(300, 24)).astype(np.float32)
    ((_, clusters),) = grouped(method, rows, 3, 0).items()
    table = np.zeros((3, 3), int)
    np.add.at(table, (clusters, classes), 1)
    assert sorted(table.argmax(axis=1)) == [0, 1, 2]
    assert table.max(axis=1).sum() == 300
