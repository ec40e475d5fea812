"""Scores against definitions written out, and at the edges where a score has a value by convention."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from rayscan.metrics import assignment, scores
from rayscan.metrics.calibration import calibration
from rayscan.metrics.consensus import consensus
from rayscan.metrics.contingency import Contingency
from rayscan.metrics.effective_rank import effective_rank
from rayscan.metrics.probes import linear_probe, weighted_knn


def test_rank_of_equal_directions_is_their_number() -> None:
    """k equal singular values: shares 1 / k, entropy log k."""
    rows = torch.eye(6)[:, :4].repeat(3, 1)
    assert effective_rank(rows) == pytest.approx(4, rel=1e-5)
    assert effective_rank(5 * rows) == pytest.approx(4, rel=1e-5)
    assert effective_rank(torch.ones(5, 3)) == pytest.approx(1, rel=1e-5)


def test_rank_is_eq_1_of_rankme() -> None:
    """p_k = s_k / sum s + 1e-7, exp of the entropy of p, which then no longer sums to 1."""
    rows = np.random.default_rng(0).normal(size=(30, 5)) * [1, 2, 4, 8, 1e-9]
    values = np.sqrt(np.linalg.eigvalsh(rows.T @ rows).clip(0))
    shares = [value / sum(values) + 1e-7 for value in values]
    expected = math.exp(-sum(p * math.log(p) for p in shares))
    assert effective_rank(torch.from_numpy(rows)) == pytest.approx(expected, rel=1e-9)


def test_rank_of_nothing_is_finite() -> None:
    """All singular values 0: three shares of 1e-7 alone."""
    assert effective_rank(torch.zeros(4, 3)) == pytest.approx(math.exp(-3 * 1e-7 * math.log(1e-7)), rel=1e-12)


def test_fowlkes_mallows_is_0_where_no_pair_shares_both() -> None:
    assert scores.fowlkes_mallows(Contingency.count(np.array([0, 0, 1]), np.array([0, 1, 1]), 2, 2)) == 0.0


@pytest.mark.parametrize("cells", [1, 300, 700])
def test_expected_information_in_blocks_is_the_whole(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """24 class sizes, one or a few at a time; the same sum."""
    classes = np.arange(1, 25)
    clusters = np.array([100, 100, 60, int(classes.sum()) - 260])
    whole = scores.expected_mutual_information(clusters, classes)
    monkeypatch.setattr(scores, "CELLS_AT_ONCE", cells)
    assert scores.expected_mutual_information(clusters, classes) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize(("swap_clusters", "swap_classes"), list(itertools.product((False, True), repeat=2)))
def test_sparse_matching_leaves_a_cluster_alone_where_that_is_better(
    swap_clusters: bool, swap_classes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 images in one cell weigh more than 5 and 4 in two, in each of five such blocks."""
    monkeypatch.setattr(assignment, "DENSE_CELLS", 0)
    found: list[int] = []
    labels: list[int] = []
    for block in range(5):
        for cluster, label, images in ((0, 0, 10), (0, 1, 5), (1, 0, 4)):
            found += [2 * block + (cluster ^ swap_clusters)] * images
            labels += [2 * block + (label ^ swap_classes)] * images
    table = Contingency.count(np.array(found), np.array(labels), 10, 10)
    mapping = assignment.hungarian(table)
    assert assignment.accuracy(table, mapping) == pytest.approx(10 / 19)
    assert sorted(mapping.tolist()) == list(range(10))  # those left alone take the classes left over


def slow_consensus(groupings: np.ndarray, num_clusters: int) -> tuple[list[int], list[float]]:
    """Every renumbering of every grouping is tried; the reference is replaced until it stays."""

    def renumbered(grouping: np.ndarray, reference: np.ndarray) -> np.ndarray:
        tried = [np.array(p)[grouping] for p in itertools.permutations(range(num_clusters))]
        return max(tried, key=lambda one: int((one == reference).sum()))

    alike = [np.mean([adjusted_rand_score(a, b) for b in groupings]) for a in groupings]
    reference = groupings[int(np.argmax(alike))]
    while True:
        rows = np.stack([renumbered(grouping, reference) for grouping in groupings])
        votes = [[int((image == c).sum()) for c in range(num_clusters)] for image in rows.T]
        voted = np.array([row.index(max(row)) for row in votes])
        if (voted == reference).all():
            return voted.tolist(), [max(row) / len(groupings) for row in votes]
        reference = voted


@pytest.mark.parametrize("seed", range(6))
def test_consensus_equals_trying_every_renumbering(seed: int) -> None:
    """Noisy copies of three groups of unequal sizes, the noisiest first, so that it is no reference."""
    rng = np.random.default_rng(seed)
    truth = np.repeat([0, 1, 2], [30, 20, 13])
    rows = []
    for noise in (0.45, 0.3, 0.1, 0.2, 0.25):
        row = np.where(rng.random(len(truth)) < noise, rng.integers(0, 3, len(truth)), truth)
        rows.append(rng.permutation(3)[row])
    groupings = np.stack(rows)
    found = consensus(groupings, 3)
    clusters, agreement = slow_consensus(groupings, 3)
    assert found.clusters.tolist() == clusters
    assert found.agreement.tolist() == pytest.approx(agreement)
    pairs = [adjusted_rand_score(a, b) for a, b in itertools.combinations(groupings, 2)]
    assert found.stability == pytest.approx(np.mean(pairs))
    assert consensus(groupings[:1], 3).stability == 1.0


def slow_probe(x: np.ndarray, y: np.ndarray, queries: np.ndarray, seed: int) -> np.ndarray:
    """SGD by hand: gradient of the mean cross-entropy, v <- 0.9 v + g, w <- w - rate v."""
    mean, deviation = x.mean(0), math.sqrt(x.var(0, ddof=1).mean())
    train, test = (x - mean) / deviation, (queries - mean) / deviation
    generator = torch.Generator().manual_seed(seed)
    weight = (torch.randn(3, x.shape[1], generator=generator) * 0.01).numpy().astype(np.float64)
    bias, dw, db = np.zeros(3), np.zeros_like(weight), np.zeros(3)
    for epoch in range(36):
        rate = 0.01 / (1 if epoch < 5 else 5 if epoch < 15 else 25 if epoch < 25 else 125)
        order = torch.randperm(len(x), generator=generator).numpy()
        for rows in (order[first : first + 16] for first in range(0, len(x), 16)):
            logits = train[rows] @ weight.T + bias
            p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            p[np.arange(len(rows)), y[rows]] -= 1
            dw, db = 0.9 * dw + p.T @ train[rows] / len(rows), 0.9 * db + p.mean(0)
            weight, bias = weight - rate * dw, bias - rate * db
    return (test @ weight.T + bias).argmax(1)


def test_linear_probe_equals_sgd_by_hand() -> None:
    """Labels that the features hardly tell, so that any other rate, order or weight shows."""
    rng = np.random.default_rng(0)
    x, queries = rng.normal(size=(50, 6)) + 3, rng.normal(size=(2000, 6)) + 3
    y = rng.choice(3, 50, p=[0.5, 0.3, 0.2])
    found = linear_probe(
        torch.from_numpy(x).float(),
        torch.from_numpy(y),
        torch.from_numpy(queries).float(),
        num_classes=3,
        seed=5,
    )
    assert (found.numpy() == slow_probe(x, y, queries, 5)).mean() > 0.998  # one in 500 for rounding


def test_votes_of_many_queries_are_those_of_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayscan.metrics.probes.QUERIES_AT_ONCE", 7)
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(60, 5, generator=generator), dim=1)
    labels = torch.randint(0, 4, (40,), generator=generator)
    whole = weighted_knn(rows[:40], labels, rows[40:], (3, 9), num_classes=4)
    for at in range(20):
        alone = weighted_knn(rows[:40], labels, rows[40 + at : 41 + at], (3, 9), num_classes=4)
        assert {k: int(v) for k, v in alone.items()} == {k: int(v[at]) for k, v in whole.items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_calibration_bin_by_bin(dtype: type) -> None:
    """ECE = sum over bins of |accuracy - confidence| of those inside, times their share; some hold one."""
    confidence = np.random.default_rng(0).random(40).astype(dtype) ** 0.25
    correct = np.random.default_rng(1).random(40) < 0.6
    found = calibration([(confidence, correct)], 10)
    values = [float(value) for value in confidence]  # no rounding but that of the values themselves
    inside = [[i for i, c in enumerate(values) if m / 10 < c <= (m + 1) / 10] for m in range(10)]
    assert found["counts"] == [len(rows) for rows in inside]
    assert 0 in found["counts"]
    assert 1 in found["counts"]
    accuracy = [sum(bool(correct[i]) for i in rows) / max(1, len(rows)) for rows in inside]
    mean = [sum(values[i] for i in rows) / max(1, len(rows)) for rows in inside]
    assert found["accuracy"] == pytest.approx(accuracy, abs=1e-12)
    assert found["confidence"] == pytest.approx(mean, abs=1e-12)
    gaps = [abs(a - c) * len(rows) / 40 for a, c, rows in zip(accuracy, mean, inside, strict=True)]
    assert found["ece"] == pytest.approx(sum(gaps), abs=1e-12)
    assert found["overconfidence"] == pytest.approx(sum(values) / 40 - correct.mean(), abs=1e-12)


def test_rows_of_no_cluster_are_none() -> None:
    table = Contingency.count(np.array([0, 1]), np.array([2, 0]), 2, 3)
    assert table.rows_of(np.empty(0, np.int64)).shape == (0, 3)
