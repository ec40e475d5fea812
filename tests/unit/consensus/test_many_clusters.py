"""More than a hundred clusters: what is found, how it is judged, and that new rows get the same."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from rayscan.consensus.cluster import consensus
from rayscan.consensus.kmeans import kmeans
from rayscan.consensus.neighbors import unit_rows
from rayscan.consensus.probe import DiscriminantProbe, Probe, RidgeProbe
from rayscan.consensus.result import Result
from rayscan.consensus.score import Score
from rayscan.consensus.space import make_space
from rayscan.consensus.weak import are_weak
from rayscan.metrics.assignment import accuracy, hungarian
from rayscan.metrics.contingency import Contingency
from rayscan.metrics.label_free import nmi_nn
from tests.unit.consensus.naive import blobs

GROUPS = 120


def acc(labels: np.ndarray, group: np.ndarray) -> float:
    """Share of rows in the right group under the best one-to-one match."""
    table = Contingency.count(labels, group, GROUPS, GROUPS)
    return accuracy(table, hungarian(table))


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows of 120 groups from 80 down to 40, with six nuisance directions; half of them kept as new rows."""
    sizes = tuple(np.geomspace(80, 40, GROUPS).astype(int))
    rows, group = blobs(sizes, 40, spread=1.0)
    rng = np.random.default_rng(1)
    rows += 2 * rng.normal(size=(len(rows), 6)) @ rng.normal(size=(6, 40)) / 6
    half = np.arange(len(rows)) % 2 == 0
    return rows[half], group[half], rows[~half], group[~half]


@pytest.fixture(scope="module")
def found(planted: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> Result:
    return consensus(planted[0], GROUPS, seed=0)


def test_many_uneven_groups_are_found(
    planted: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], found: Result
) -> None:
    rows, group, _, _ = planted
    assert acc(kmeans(unit_rows(rows), GROUPS, [0], starts=3), group) < 0.6
    assert acc(found.labels, group) > 0.93
    assert not found.is_plain
    assert (np.diff(np.bincount(found.labels, minlength=GROUPS)) <= 0).all()


def test_new_rows_get_the_cluster_of_their_group(
    planted: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], found: Result
) -> None:
    rows, _, new, new_group = planted
    again = found.ensemble.probabilities((rows,)).argmax(axis=1)
    assert (again == found.labels).mean() > 0.97
    assert acc(found.ensemble.probabilities((new,)).argmax(axis=1), new_group) > 0.93
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)


def test_candidates_are_ranked_and_the_best_is_the_result(found: Result) -> None:
    merits = [merit for _, merit in found.table]
    assert merits == sorted(merits, reverse=True)
    names = [name for name, _ in found.table]
    views = {re.fullmatch(r"0/([a-z_]+(?:_\d)?)(?:\+lda)?-[01]", name)[1] for name in names}  # type: ignore[index]
    assert views == {"whitened_twice", "diffused", "layout", "again_0", "again_1"}
    assert len(names) == len(set(names)) == 4 * len(views)
    assert [one.name for one in found.kept] == names[:6]
    best = Contingency.count(found.kept[0].labels, found.labels, GROUPS, GROUPS)
    assert accuracy(best, hungarian(best)) == 1
    assert len(found.groupings) == 6


def test_a_seed_repeats(
    planted: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], found: Result
) -> None:
    np.testing.assert_array_equal(consensus(planted[0], GROUPS, seed=0).labels, found.labels)


def test_noise_is_not_taken_for_k_means() -> None:
    """The bound of `weak` was chosen for few clusters: above a hundred it would call this plain."""
    rows = np.random.default_rng(6).normal(size=(700, 12)).astype(np.float32)
    found = consensus(rows, 110, seed=0)
    assert are_weak(found.score, found.labels, 110)
    assert not found.is_plain
    assert len(found.groupings) == 6


@pytest.mark.parametrize(("num_clusters", "probe"), [(100, RidgeProbe), (101, DiscriminantProbe)])
def test_above_a_hundred_clusters_the_score_foresees_by_discriminants(
    num_clusters: int, probe: type[Probe]
) -> None:
    rows, group = blobs((12,) * 90, 20, spread=0.8)
    space = make_space(unit_rows(rows))
    rng = np.random.default_rng([3, 13])
    rng.choice(len(rows), len(rows), replace=False)
    foreseen = probe(space.rows, rng.permutation(len(rows))).cv_mi([group], num_clusters)[0]
    agree = nmi_nn(group, np.arange(len(rows)), space.ids, num_clusters)
    assert Score(space, num_clusters, seed=3).of([group])[0] == pytest.approx(
        (2 * agree + foreseen) / 3, abs=1e-9
    )


def test_discriminant_probe_equals_gaussians_row_by_row() -> None:
    """Log densities of Gaussians with one covariance, shrunk by a tenth of its mean variance."""
    rows, group = blobs((50, 20, 10), 5, spread=0.7)
    order = np.random.default_rng(2).permutation(80)
    other = np.random.default_rng(3).integers(0, 3, 80)
    foreseen = DiscriminantProbe(rows, order).predict([group, other], 3)
    x = rows.astype(np.float64)
    for labels, one in zip((group, other), foreseen, strict=True):
        for i in range(80):
            seen = order % 5 != order[i] % 5
            means = [x[seen & (labels == c)].mean(axis=0) for c in range(3)]
            apart = x[seen] - np.stack(means)[labels[seen]]
            within = apart.T @ apart / seen.sum()
            within += 0.1 * np.trace(within) / 5 * np.eye(5)
            shares = [(labels[seen] == c).mean() for c in range(3)]
            scores = [
                np.log(s) + multivariate_normal(m, within).logpdf(x[i])
                for s, m in zip(shares, means, strict=True)
            ]
            assert one[i] == int(np.argmax(scores))


def test_small_groups_among_many_are_foreseen_by_discriminants_and_masked_for_indicators() -> None:
    sizes = tuple(np.geomspace(200, 8, 60).astype(int))
    rows, group = blobs(sizes, 24, spread=1.2)
    order = np.random.default_rng(0).permutation(len(rows))
    small = group >= 40
    hits = [
        float((probe(rows, order).predict([group], 60)[0][small] == group[small]).mean())
        for probe in (RidgeProbe, DiscriminantProbe)
    ]
    assert hits[0] < 0.5
    assert hits[1] > 0.9
