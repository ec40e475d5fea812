"""What the trials of a search are worth, by labels that are read when all have ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.search_criteria import SIGNS, Floats
from rayscan.artifacts import load
from rayscan.metrics.contingency import Contingency
from rayscan.metrics.scores import partition_scores
from rayscan.search import stored_trials
from rayscan.search.trial import CLUSTERS, SearchSetup, prepared


def measure(
    setup: SearchSetup, trials: Sequence[stored_trials.Trial], classes: NDArray[np.int64]
) -> dict[str, Floats]:
    """ACC and every criterion of each trial; nan where a trial has none."""
    from sklearn.metrics import silhouette_score

    features, _ = prepared(setup)
    x = features.plain(features.gids).numpy()
    columns: dict[str, list[float]] = {name: [] for name in ("acc", *SIGNS)}
    for trial in trials:
        clusters = load(setup.out.child(trial.name)).read_array(CLUSTERS)
        columns["acc"].append(accuracy(clusters, classes, setup))
        several = len(np.unique(clusters)) > 1
        shape = (
            silhouette_score(x, clusters, sample_size=min(len(x), 3000), random_state=0) if several else -1
        )
        facts = {**trial.facts, "silhouette": shape}
        for name in SIGNS:
            columns[name].append(float(facts[name]))
    return {name: np.array(values) for name, values in columns.items()}


def accuracy(clusters: NDArray[Any], classes: NDArray[np.int64], setup: SearchSetup) -> float:
    """ACC of the labelled train images, one to one."""
    known, count = classes >= 0, setup.space.base.num_clusters
    assert count is not None
    table = Contingency.count(clusters[known], classes[known], count, int(classes.max()) + 1)
    return partition_scores(table)["acc"]
