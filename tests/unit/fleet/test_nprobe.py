"""How many lists approximate search reads: no fewer than the recall takes, hardly more, asked sparingly."""

from __future__ import annotations

import numpy as np
import pytest

from rayscan.fleet import shards
from rayscan.fleet.search_settings import IvfSettings
from rayscan.fleet.shards import ActorShards, tune_nprobe

NLIST, SAMPLED, K = 300, 50, 20


@pytest.mark.parametrize("needed", [*range(1, 40), 63, 64, 94, 141, 200, 285, 299, 300])
def test_as_few_lists_as_the_recall_takes(monkeypatch, needed):
    """One in 200 places is missed from `needed` lists on, one in 50 before: 0.995 is wanted."""
    asked = []

    def found(rows, _representatives, _searched, those, num_neighbors):
        asked.append(those.nprobe)
        scores = np.full((len(rows), num_neighbors), 0.9, np.float32)
        scores.ravel()[:: 200 if those.nprobe >= needed else 50] = 0.5
        return scores, None

    monkeypatch.setattr(shards, "neighbors_of_rows", found)
    ivf = IvfSettings(
        centroids=np.zeros((NLIST, 2), np.float32),
        codes="flat",
        sample=np.arange(SAMPLED),
        representatives=np.arange(SAMPLED),
        kth=np.full(SAMPLED, 0.9, np.float32),
        recall=0.995,
    )
    read = tune_nprobe(ActorShards([], [], nlist=NLIST), ivf, None, K).nprobe
    assert needed <= read <= needed + max(1, needed // 16)
    assert len(asked) <= 18
    assert len(set(asked)) == len(asked)
