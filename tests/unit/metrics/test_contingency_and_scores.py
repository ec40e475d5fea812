"""Scores against scikit-learn, against values worked by hand, and against slow naive twins."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sklearn import metrics as sk

from rayscan.errors import DataError
from rayscan.metrics import assignment, scores
from rayscan.metrics.contingency import Contingency, entropy, mutual_information
from rayscan.metrics.method_scores import MethodCounts, top_accuracy
from rayscan.types import Ints

SHAPES = [(200, 4, 4), (500, 12, 5), (300, 3, 9), (64, 64, 7), (1000, 30, 30), (7, 2, 2)]


def draw(images: int, clusters: int, classes: int, *, seed: int = 0) -> tuple[Ints, Ints]:
    """Clusters that agree with the classes half of the time."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    found = np.where(rng.random(images) < 0.5, labels % clusters, rng.integers(0, clusters, images))
    return found.astype(np.int64), labels.astype(np.int64)


@pytest.mark.parametrize(("images", "clusters", "classes"), SHAPES)
def test_scores_equal_scikit_learn(images: int, clusters: int, classes: int) -> None:
    found, labels = draw(images, clusters, classes)
    table = Contingency.count(found, labels, clusters, classes)
    got = scores.partition_scores(table)
    assert got["nmi"] == pytest.approx(sk.normalized_mutual_info_score(labels, found), abs=1e-9)
    assert got["ami"] == pytest.approx(sk.adjusted_mutual_info_score(labels, found), abs=1e-9)
    assert got["ari"] == pytest.approx(sk.adjusted_rand_score(labels, found), abs=1e-9)
    assert mutual_information(table) == pytest.approx(sk.mutual_info_score(labels, found), abs=1e-9)
    purity = sk.cluster.contingency_matrix(found, labels).max(axis=1).sum() / images
    assert got["purity"] == got["many_to_one"] == pytest.approx(purity, abs=1e-12)


@pytest.mark.parametrize(
    ("found", "labels"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3]),
        ([0, 0, 0, 0], [0, 0, 0, 0]),
        ([0, 0, 0, 0], [0, 1, 2, 3]),
        ([0, 1, 2, 3], [0, 0, 0, 0]),
        ([1, 1, 0, 0], [0, 0, 3, 3]),
        ([0, 1, 0, 1], [0, 0, 1, 1]),
    ],
)
def test_borders_equal_scikit_learn(found: list[int], labels: list[int]) -> None:
    table = Contingency.count(np.array(found), np.array(labels), 4, 4)
    assert scores.nmi(table) == pytest.approx(sk.normalized_mutual_info_score(labels, found), abs=1e-9)
    assert scores.ami(table) == pytest.approx(sk.adjusted_mutual_info_score(labels, found), abs=1e-9)
    assert scores.ari(table) == pytest.approx(sk.adjusted_rand_score(labels, found), abs=1e-9)


@pytest.mark.parametrize("sizes", [([60_000, 40_000], [50_000, 30_000, 20_000]), ([900] * 5, [1500] * 3)])
def test_expected_information_in_its_window_equals_the_full_sum(sizes: tuple[list[int], list[int]]) -> None:
    a, b = (np.array(side, np.int64) for side in sizes)
    # scikit-learn sums over the whole range of n_ij; only the two margins of the table it is given matter
    margins = np.zeros((len(a), len(b)), np.int64)
    left, down = a.copy(), b.copy()
    for i, j in itertools.product(range(len(a)), range(len(b))):
        margins[i, j] = min(left[i], down[j])
        left[i] -= margins[i, j]
        down[j] -= margins[i, j]
    full = sk.cluster.expected_mutual_information(margins, int(a.sum()))
    assert scores.expected_mutual_information(a, b) == pytest.approx(full, rel=1e-7)


def test_expected_information_equals_the_mean_over_all_pairings() -> None:
    labels, found = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 1])
    every = [
        mutual_information(Contingency.count(np.array(pairing), labels, 2, 3))
        for pairing in itertools.permutations(found.tolist())
    ]
    got = scores.expected_mutual_information(np.bincount(found), np.bincount(labels))
    assert got == pytest.approx(float(np.mean(every)), abs=1e-12)


@pytest.mark.parametrize(("clusters", "classes"), [(4, 4), (5, 3), (3, 5)])
def test_hungarian_is_the_best_of_all_one_to_one_mappings(clusters: int, classes: int) -> None:
    for seed in range(5):
        found, labels = draw(60, clusters, classes, seed=seed)
        table = Contingency.count(found, labels, clusters, classes)
        padded = max(clusters, classes)
        best = max(
            sum(pairing[cluster] == label for cluster, label in zip(found, labels, strict=True)) / 60
            for pairing in itertools.permutations(range(padded))
        )
        mapping = assignment.hungarian(table)
        named = mapping[mapping >= 0].tolist()
        assert len(named) == len(set(named)) == min(clusters, classes)
        assert assignment.accuracy(table, mapping) == pytest.approx(best, abs=1e-12)


def test_overclustering_worked_by_hand() -> None:
    # cluster 0: 3 cats 1 dog; cluster 1: 2 cats; cluster 2: 1 dog; cluster 3: nothing
    found = np.array([0, 0, 0, 0, 1, 1, 2])
    labels = np.array([0, 0, 0, 1, 0, 0, 1])
    table = Contingency.count(found, labels, 4, 2)
    got = scores.partition_scores(table)
    assert assignment.hungarian(table).tolist() == [0, -1, 1, -1]
    assert assignment.majority(table).tolist() == [0, 0, 1, -1]
    assert got["acc"] == pytest.approx(4 / 7)
    assert got["many_to_one"] == pytest.approx(6 / 7)
    assert got["hungarian_then_majority"] == pytest.approx(6 / 7)


def test_hungarian_then_majority_keeps_a_cluster_for_every_class() -> None:
    # by majority nothing stands for class 1; one-to-one gives it cluster 1, cluster 2 then takes its majority
    found = np.array([0] * 10 + [1] * 5 + [2] * 4)
    labels = np.array([0] * 9 + [1] + [0] * 3 + [1] * 2 + [0] * 4)
    table = Contingency.count(found, labels, 3, 2)
    assert assignment.majority(table).tolist() == [0, 0, 0]
    assert assignment.hungarian_then_majority(table).tolist() == [0, 1, 0]
    assert "hungarian_then_majority" not in scores.partition_scores(Contingency.count(found, labels, 3, 3))


def test_top_accuracy_counts_any_of_the_best_clusters() -> None:
    mapping = np.array([2, 0, -1])
    best = np.array([[0, 1], [2, 1], [2, 0], [1, 2]])
    labels = np.array([2, 0, 1, 0])
    for width, expected in ((2, 3 / 4), (1, 2 / 4)):
        table = Contingency.count(best[:, :width].ravel(), np.repeat(labels, width), 3, 3)
        assert top_accuracy(table, 4, mapping) == expected


def test_per_cluster_rows_worked_by_hand() -> None:
    table = Contingency.count(np.array([0, 0, 0, 0, 2]), np.array([1, 1, 0, 0, 1]), 3, 2)
    first, second, third = scores.per_cluster(table, np.array([6, 2, 1]))
    assert (first["size"], first["labelled"], first["majority"], first["purity"]) == (6, 4, 0, 0.5)
    assert first["entropy"] == pytest.approx(math.log(2))
    assert (second["size"], second["labelled"], second["majority"], second["purity"]) == (2, 0, None, None)
    assert (third["matched"], third["purity"], third["entropy"]) == (1, 1.0, 0.0)


def test_table_is_sparse_and_adds_up() -> None:
    found, labels = draw(1000, 50, 20)
    table = Contingency.count(found, labels, 10_000_000, 1_000_000)
    assert len(table.counts) <= 1000
    assert table.total == 1000
    small = Contingency.count(found, labels, 50, 20)
    assert np.array_equal(small.dense(), sk.cluster.contingency_matrix(found, labels))
    assert np.array_equal(small.cluster_sizes, np.bincount(found, minlength=50))
    assert np.array_equal(small.class_sizes, np.bincount(labels, minlength=20))


def test_entropy_of_equal_groups_is_the_logarithm_of_their_number() -> None:
    assert entropy(np.array([5, 5, 0, 5, 5])) == pytest.approx(math.log(4))
    assert entropy(np.array([7, 0])) == 0.0


@pytest.mark.parametrize(("found", "labels"), [([0, 1], [0]), ([], []), ([0, 4], [0, 0]), ([0, 1], [0, -1])])
def test_what_cannot_be_counted_is_refused(found: list[int], labels: list[int]) -> None:
    with pytest.raises(DataError):
        Contingency.count(np.array(found, np.int64), np.array(labels, np.int64), 4, 4)


@pytest.mark.parametrize(("images", "clusters", "classes"), SHAPES)
def test_fowlkes_mallows_equals_scikit_learn(images: int, clusters: int, classes: int) -> None:
    found, labels = draw(images, clusters, classes)
    table = Contingency.count(found, labels, clusters, classes)
    assert scores.fowlkes_mallows(table) == pytest.approx(sk.fowlkes_mallows_score(labels, found), abs=1e-9)


@pytest.mark.parametrize(("images", "clusters", "classes"), SHAPES)
def test_tables_of_parts_join_to_the_table_of_all(images: int, clusters: int, classes: int) -> None:
    found, labels = draw(images, clusters, classes)
    whole = Contingency.count(found, labels, clusters, classes)
    parts = [
        Contingency.count(f, y, clusters, classes)
        for f, y in zip(np.array_split(found, 4), np.array_split(labels, 4), strict=True)
        if len(f)
    ]
    joined = Contingency.joined(parts[::-1])
    assert np.array_equal(joined.dense(), whole.dense())
    assert np.array_equal(joined.clusters, whole.clusters)
    some = np.arange(0, clusters, 2)
    assert np.array_equal(whole.rows_of(some), whole.dense()[some])


@pytest.mark.parametrize(("images", "clusters", "classes"), SHAPES)
def test_sparse_matching_is_as_good_as_the_dense_one(
    monkeypatch: pytest.MonkeyPatch, images: int, clusters: int, classes: int
) -> None:
    found, labels = draw(images, clusters, classes, seed=3)
    table = Contingency.count(found, labels, clusters, classes)
    dense = assignment.hungarian(table)
    monkeypatch.setattr(assignment, "DENSE_CELLS", 0)
    sparse = assignment.hungarian(table)
    assert assignment.accuracy(table, sparse) == assignment.accuracy(table, dense)
    used = sparse[sparse >= 0]
    assert len(used) == len(set(used.tolist())) == min(clusters, classes)


def test_counts_in_pieces_are_those_of_all_images() -> None:
    """Two fits, four best clusters and the other mapping from the train split, against the definitions."""
    rng = np.random.default_rng(4)
    best = np.argsort(rng.random((300, 7)), axis=1)[:, :4]
    labels, by_seed = rng.integers(0, 5, 300), rng.integers(0, 7, (2, 300))
    labels[:200] = best[:200, 1] % 5
    whole, train = MethodCounts(7, 5, 2), MethodCounts(7, 5, 2)
    for some in np.array_split(np.arange(300), 7):
        (train if some[0] < 150 else whole).add(best[some], labels[some], by_seed[:, some])
    at = whole.first.table.total
    mine, theirs = slice(300 - at, 300), slice(0, 300 - at)
    found = whole.scores(train)
    table = Contingency.count(best[mine, 0], labels[mine], 7, 5)
    learnt = Contingency.count(best[theirs, 0], labels[theirs], 7, 5)
    mapping = assignment.hungarian(table)
    assert {k: v for k, v in found.items() if k in scores.partition_scores(table)} == scores.partition_scores(
        table
    )
    assert found["acc_tr"] == assignment.accuracy(table, assignment.hungarian_then_majority(learnt))
    hits = [labels[row] in mapping[best[row]] for row in range(300 - at, 300)]
    assert found["top5"] == np.mean(hits)
    for clusters, seed in zip(by_seed, found["seeds"], strict=True):
        one = Contingency.count(clusters[mine], labels[mine], 7, 5)
        assert seed["nmi"] == scores.nmi(one) and "top5" not in seed
    assert "acc_tr" not in whole.scores(None) and "acc_tr" not in whole.scores(MethodCounts(7, 5, 2))
