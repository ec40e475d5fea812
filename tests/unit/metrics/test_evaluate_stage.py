"""The evaluate stage over real artifacts, against scikit-learn on the same clusters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

from rayscan.config import EvaluateConfig, ReportConfig
from rayscan.errors import DataError
from rayscan.stages import evaluate
from rayscan.vectors.kmeans import kmeans
from tests.unit.report.digits_run import DigitsRun

pytestmark = pytest.mark.usefixtures("local_pool")


def scored(run: DigitsRun) -> dict:
    step = evaluate.plan(run.recipe, run.done, run.context.sources)
    return evaluate.run(run.recipe, run.done, step, run.context).read_json("scores.json")


def test_scores_equal_scikit_learn_on_the_stored_assignments(tmp_path: Path) -> None:
    run = DigitsRun(tmp_path)
    run.add_labels()
    scores = scored(run)
    assert list(scores["splits"]) == ["eval", "train"]
    table = run.done["assign"].read_table("assignments.parquet").to_pydict()
    for split, part in scores["splits"].items():
        rows = [i for i, s in enumerate(table["split"]) if s == split]
        found = np.array(table["cluster"])[rows]
        labels = run.labels[np.array(table["gid"])[rows]]
        scan = part["methods"]["scan"]
        assert part["images"] == part["labelled"] == len(rows)
        assert scan["nmi"] == pytest.approx(sk.normalized_mutual_info_score(labels, found), abs=1e-9)
        assert scan["ami"] == pytest.approx(sk.adjusted_mutual_info_score(labels, found), abs=1e-9)
        assert scan["ari"] == pytest.approx(sk.adjusted_rand_score(labels, found), abs=1e-9)
        assert scan["acc"] <= scan["top5"] <= 1
        matched = {row["cluster"]: row["matched"] for row in part["per_cluster"]}
        assert scan["acc"] == pytest.approx(
            np.mean([matched[c] == y for c, y in zip(found, labels, strict=True)])
        )
        top = np.array(table["top5"])[rows]
        hits = [y in [matched[c] for c in best] for best, y in zip(top, labels, strict=True)]
        assert scan["top5"] == pytest.approx(np.mean(hits))
        assert np.sum(part["confusion"]["counts"]) == len(rows)
        assert sum(row["size"] for row in part["per_cluster"]) == len(rows)


def test_kmeans_is_fitted_on_train_rows_and_scored_on_both_splits(tmp_path: Path) -> None:
    run = DigitsRun(tmp_path)
    run.add_labels()
    scores = scored(run)
    train = int(run.done["embed"].facts["train_rows"])
    settings = run.recipe.evaluate
    centroids, _ = kmeans(
        run.rows[:train], 10, seed=0, restarts=settings.kmeans_n_init, iterations=settings.kmeans_max_iter
    )
    distances = np.linalg.norm(run.rows[:, None].astype(np.float64) - centroids[None], axis=2)
    for split, rows in (("train", slice(0, train)), ("eval", slice(train, None))):
        labels, found = run.labels[run.gids[rows]], distances[rows].argmin(axis=1)
        expected = sk.normalized_mutual_info_score(labels, found)
        assert scores["splits"][split]["methods"]["kmeans"]["nmi"] == pytest.approx(expected, abs=1e-9)
        assert "top5" in scores["splits"][split]["methods"]["kmeans"]


def test_neighbor_purity_and_label_free_facts_are_those_of_the_train_split(tmp_path: Path) -> None:
    run = DigitsRun(tmp_path)
    run.add_labels()
    scores = scored(run)
    train = run.labels[run.gids[: len(run.neighbors)]]
    naive = (run.labels[run.neighbors[:, :5]] == train[:, None]).mean()
    assert scores["neighbor_purity"]["5"] == pytest.approx(naive, abs=1e-12)
    assert sorted(scores["neighbor_purity"], key=int) == ["1", "5", "20"]
    clusters = np.array(run.done["assign"].read_table("assignments.parquet")["cluster"])[: len(train)]
    assert scores["label_free"]["largest_share"] == pytest.approx(np.bincount(clusters).max() / len(train))


def test_partly_labelled_runs_count_what_is_labelled(tmp_path: Path) -> None:
    run = DigitsRun(tmp_path)
    run.add_labels(share=0.5)
    scores = scored(run)
    assert list(scores["splits"]) == ["train"]
    assert scores["splits"]["train"]["labelled"] == 150
    assert scores["splits"]["train"]["images"] == 248


def test_more_clusters_than_classes_are_scored_many_to_one(tmp_path: Path) -> None:
    run = DigitsRun(tmp_path, num_clusters=25)
    run.add_labels()
    scan = scored(run)["splits"]["train"]["methods"]["scan"]
    assert scan["acc"] < scan["hungarian_then_majority"] <= scan["many_to_one"] == scan["purity"]


def test_labels_of_other_images_are_refused(tmp_path: Path) -> None:
    run = DigitsRun(tmp_path)
    run.add_labels(share=0.0)
    with pytest.raises(DataError, match="no assigned image has a label"):
        scored(run)


def test_the_plan_follows_settings_seed_and_inputs(tmp_path: Path) -> None:
    run = DigitsRun(tmp_path)
    run.add_labels()
    plan = evaluate.plan(run.recipe, run.done, run.context.sources)
    assert plan.inputs == {
        name: run.done[name].identity for name in ("assign", "labels", "baseline", "mine", "embed")
    }
    for other in (
        replace(run.recipe, num_clusters=11),
        replace(run.recipe, evaluate=EvaluateConfig(purity_neighbors=(3,))),
    ):
        assert evaluate.plan(other, run.done, run.context.sources).fingerprint != plan.fingerprint
    same = evaluate.plan(
        replace(run.recipe, report=ReportConfig(images="none")), run.done, run.context.sources
    )
    assert same.fingerprint == plan.fingerprint
