"""The label-free score against a naive twin: dense loops, normal equations written out, plain counting."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from rayscan.consensus.probe import FOLDS, RIDGE, RidgeProbe
from rayscan.search.trial_score import Judge, degenerate
from tests.unit.consensus.naive import mutual_information


def naive_predictions(x: np.ndarray, order: np.ndarray, clusters: np.ndarray, num: int) -> np.ndarray:
    """Ridge regression with an intercept, each fold solved as one dense system of D + 1 unknowns."""
    n, dim = x.shape
    predicted = np.full(n, -1)
    for fold in range(FOLDS):
        seen = [i for i in range(n) if order[i] % FOLDS != fold]
        mean = x[seen].mean(axis=0)
        variance = sum(((x[i] - mean) ** 2).sum() for i in seen) / dim
        design = np.concatenate([x[seen], np.ones((len(seen), 1))], axis=1)
        penalty = np.diag([RIDGE * variance] * dim + [0.0])  # the intercept is free
        targets = np.array([[float(clusters[i] == c) for c in range(num)] for i in seen])
        solved = np.linalg.solve(design.T @ design + penalty, design.T @ targets)
        for i in set(range(n)) - set(seen):
            predicted[i] = int(np.argmax(np.append(x[i], 1.0) @ solved))
    return predicted


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray]:
    """Four noisy groups of 25 unit rows in 6 dimensions, and their group."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(4), 25)
    x = rng.normal(size=(4, 6))[group] + 0.5 * rng.normal(size=(100, 6))
    return x / np.linalg.norm(x, axis=1, keepdims=True), group


def judge(x: np.ndarray, num: int) -> Judge:
    cosine = x @ x.T
    np.fill_diagonal(cosine, -2)
    ids = np.argsort(-cosine, axis=1, kind="stable")[:, :8]
    order = np.random.default_rng(3).permutation(len(x))
    rows = np.arange(len(x))
    return Judge(rows * 3, rows, ids, rows, RidgeProbe(x, order), num)


def test_probe_equals_the_dense_normal_equations(planted: tuple[np.ndarray, np.ndarray]) -> None:
    x, group = planted
    order = np.random.default_rng(1).permutation(len(x))
    shuffled = np.random.default_rng(2).integers(0, 3, len(x))
    for clusters, num in ((group, 4), (group, 7), (shuffled, 3)):
        expected = naive_predictions(x, order, clusters, num)
        probe = RidgeProbe(x, order)
        assert probe.predict([clusters], num)[0].tolist() == expected.tolist()
        value = mutual_information(clusters, expected, num) / math.log(num)
        assert probe.cv_mi([clusters], num)[0] == pytest.approx(value, abs=1e-12)


def test_probe_shrinks_where_there_are_more_features_than_images() -> None:
    """Without the ridge the normal equations have no solution here, and with another one another."""
    rng = np.random.default_rng(6)
    x, clusters, order = rng.normal(size=(60, 80)), rng.integers(0, 3, 60), rng.permutation(60)
    x *= np.geomspace(3, 0.01, 80)
    expected = naive_predictions(x, order, clusters, 3)
    assert RidgeProbe(x, order).predict([clusters], 3)[0].tolist() == expected.tolist()


def test_score_equals_a_loop_over_pairs(planted: tuple[np.ndarray, np.ndarray]) -> None:
    x, group = planted
    for clusters in (group, np.random.default_rng(4).integers(0, 4, len(x))):
        told = judge(x, 4)
        left, right = [], []
        for i in range(len(x)):
            for j in told.ids[i, :5]:
                left += [clusters[i], clusters[j]]
                right += [clusters[j], clusters[i]]
        agree = mutual_information(np.array(left), np.array(right), 4) / math.log(4)
        folds = np.random.default_rng(3).permutation(len(x))
        foreseen = naive_predictions(x, folds, clusters, 4)
        rule = mutual_information(clusters, foreseen, 4) / math.log(4)
        got = told.score(clusters)
        assert got["nmi_nn"] == pytest.approx(agree, abs=1e-12)
        assert got["cv_mi"] == pytest.approx(rule, abs=1e-12)
        assert got["score"] == pytest.approx((2 * agree + rule) / 3, abs=1e-12)


def test_score_orders_the_true_groups_a_half_wrong_and_a_random_grouping(
    planted: tuple[np.ndarray, np.ndarray],
) -> None:
    x, group = planted
    rng = np.random.default_rng(5)
    half = np.where(rng.random(len(x)) < 0.5, group, rng.integers(0, 4, len(x)))
    scores = [judge(x, 4).score(c)["score"] for c in (group, half, rng.integers(0, 4, len(x)))]
    assert scores[0] > scores[1] > scores[2]
    assert judge(x, 4).score(np.zeros(len(x), np.int64))["score"] == 0.0


def test_the_probe_asks_only_rows_it_was_given(planted: tuple[np.ndarray, np.ndarray]) -> None:
    x, group = planted
    whole = judge(x, 4)
    some = np.arange(0, 100, 2)
    part = replace(whole, probed=some, probe=RidgeProbe(x[some], np.arange(50)))
    expected = RidgeProbe(x[some], np.arange(50)).cv_mi([group[some]], 4)[0]
    assert part.score(group)["cv_mi"] == expected


def test_the_graph_of_a_sample_asks_only_the_clusters_of_the_sample(
    planted: tuple[np.ndarray, np.ndarray],
) -> None:
    """As if there were no other images; positions in the sample are no rows of the whole."""
    x, group = planted
    some = np.arange(1, 100, 2)
    alone = judge(x[some], 4)
    part = replace(judge(x, 4), judged=some, ids=alone.ids)
    noisy = np.where(np.arange(100) % 2, group, np.random.default_rng(7).integers(0, 4, 100))
    assert part.neighbors_agree(noisy) == alone.neighbors_agree(group[some])


@pytest.mark.parametrize(
    ("sizes", "num", "is_degenerate"),
    [
        ([100], 10, True),
        ([48, 48, 4], 10, True),  # 96 % in two of ten
        ([47, 47, 6], 10, False),
        ([10] * 10, 10, False),
        ([60, 20, 10, 5, 3, 1, 1], 10, False),  # a long tail is legitimate: 80 % in two
        ([96, 4], 2, True),
        ([94, 6], 2, False),
        ([50, 50], 4, False),  # one of four is the limit there
    ],
)
def test_only_nearly_all_in_very_few_is_degenerate(sizes: list[int], num: int, is_degenerate: bool) -> None:
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    reason = degenerate(clusters, num)
    assert bool(reason) == is_degenerate
    if is_degenerate:
        assert f"of {num} clusters" in reason
