"""Stage baseline: done once for whatever a run makes of the same features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rayscan.config import EvaluateConfig, Recipe, ScanLossConfig
from rayscan.stages import baseline
from rayscan.vectors.kmeans import kmeans
from tests.unit.report.digits_run import DigitsRun

pytestmark = pytest.mark.usefixtures("local_pool")


@pytest.fixture
def run(tmp_path: Path) -> DigitsRun:
    run = DigitsRun(tmp_path)
    run.add_labels()
    return run


def fingerprint(recipe: Recipe, run: DigitsRun) -> str:
    return baseline.plan(recipe, run.done, run.context.sources).fingerprint


def test_the_centroids_are_those_of_one_process(run: DigitsRun) -> None:
    train, settings = int(run.done["embed"].facts["train_rows"]), run.recipe.evaluate
    expected, _ = kmeans(
        run.rows[:train], 10, seed=0, restarts=settings.kmeans_n_init, iterations=settings.kmeans_max_iter
    )
    np.testing.assert_allclose(baseline.centroids_of(run.done["baseline"]), expected, rtol=1e-5)


def test_k_means_is_no_rival_of_itself(run: DigitsRun) -> None:
    recipe = replace(run.recipe, method="kmeans")
    step = baseline.plan(recipe, run.done, run.context.sources)
    found = baseline.run(recipe, run.done, step, run.context)
    assert baseline.centroids_of(found) is None
    assert list(found.files) == [baseline.PROBES]


@pytest.mark.parametrize(
    "same",
    [
        {"scan": ScanLossConfig(entropy_weight=2.0)},
        {"method": "sela"},
        {"evaluate": EvaluateConfig(kmeans_n_init=2, kmeans_max_iter=15, purity_neighbors=(3,))},
    ],
    ids=list,
)
def test_what_it_does_not_read_leaves_it_alone(run: DigitsRun, same: dict) -> None:
    assert fingerprint(replace(run.recipe, **same), run) == fingerprint(run.recipe, run)


def test_other_assignments_leave_it_alone(run: DigitsRun) -> None:
    before = fingerprint(run.recipe, run)
    run.done["assign"] = run.done["mine"]
    assert fingerprint(run.recipe, run) == before


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 5},
        {"num_clusters": 11},
        {"method": "kmeans"},
        {"evaluate": EvaluateConfig(kmeans_n_init=3, kmeans_max_iter=15)},
        {"evaluate": EvaluateConfig(kmeans_n_init=2, kmeans_max_iter=15, probe_images=7)},
    ],
    ids=list,
)
def test_what_it_reads_makes_it_anew(run: DigitsRun, other: dict) -> None:
    assert fingerprint(replace(run.recipe, **other), run) != fingerprint(run.recipe, run)
