"""Information heads, probe, score, vote and confidence against loops and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rayscan.consensus.adam import CosineAdam
from rayscan.consensus.confidence import agreement, translation
from rayscan.consensus.information_heads import information_gradient, information_loss, joint, trained_heads
from rayscan.consensus.kmeans import kmeans
from rayscan.consensus.neighbors import unit_rows
from rayscan.consensus.probe import RidgeProbe
from rayscan.consensus.result import by_size
from rayscan.consensus.score import JointScore, Score
from rayscan.consensus.space import Space, make_space
from rayscan.consensus.vote import vote, vote_rows, weights_by_merit
from rayscan.metrics.assignment import accuracy, hungarian
from rayscan.metrics.contingency import Contingency
from tests.unit.consensus.naive import blobs, mutual_information, same_partition


@pytest.fixture(scope="module")
def planted() -> tuple[Space, np.ndarray]:
    """Three groups of different sizes and their whitened space."""
    rows, group = blobs((60, 40, 20), 10, spread=1.2)
    return make_space(unit_rows(rows)), group


def test_loss_is_the_negative_mutual_information_of_the_symmetric_joint() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(4), (2, 30)).astype(np.float64)
    table = np.zeros((4, 4))
    for a, b in zip(p, q, strict=True):
        table += (np.outer(a, b) + np.outer(b, a)) / 60
    expected = 0.0
    for i in range(4):
        for j in range(4):
            expected += table[i, j] * math.log(table[i, j] / table[i].sum() / table[j].sum())
    found = joint(torch.tensor(p.T[:, None]), torch.tensor(q.T[:, None])) / 30
    assert float(information_loss(found)) == pytest.approx(-expected, abs=1e-9)


def test_joint_tables_of_row_ranges_add_up() -> None:
    p, q = torch.rand(2, 4, 3, 20, dtype=torch.float64)
    first, rest = (joint(p[..., some], q[..., some]) for some in (slice(7), slice(7, None)))
    np.testing.assert_allclose(first + rest, joint(p, q), atol=1e-12)


def test_gradient_is_that_of_autograd() -> None:
    """Of four heads side by side, the neighbours' means taken as constants."""
    drawn = torch.Generator().manual_seed(0)
    outputs = torch.randn(5, 4, 30, dtype=torch.float64, generator=drawn, requires_grad=True)
    probabilities = outputs.softmax(dim=0)
    neighbors = torch.randn(5, 4, 30, dtype=torch.float64, generator=drawn).softmax(dim=0)
    table = torch.einsum("chn,khn->hck", probabilities, neighbors) / 30
    information_loss(table).sum().backward()
    found = information_gradient(probabilities.detach(), neighbors)
    assert outputs.grad is not None
    torch.testing.assert_close(found, outputs.grad, rtol=0, atol=1e-14)


def test_heads_do_not_hang_on_how_many_are_trained_at_once(
    planted: tuple[Space, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    space, group = planted
    starts = [group, (group + np.arange(120) // 60) % 3, np.arange(120) % 3]
    together = trained_heads(space.twice, space.ids, starts, 3)
    monkeypatch.setattr("rayscan.consensus.information_heads.HELD_OUTPUTS", 2 * 120 * 3)
    for one, other in zip(together, trained_heads(space.twice, space.ids, starts, 3), strict=True):
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-3)
        np.testing.assert_allclose(one.bias, other.bias, atol=1e-3)


def test_steps_are_those_of_torch_optim() -> None:
    starts = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    ours, theirs = ([one.clone().requires_grad_() for one in starts] for _ in range(2))
    optimizer = torch.optim.Adam(theirs, lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    own = CosineAdam(ours, 0.05, 20)
    for _ in range(20):
        for a, b in (ours, theirs):
            ((a - 2 * b) ** 4 + torch.cos(3 * a)).sum().backward()
        own.step()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    for one, other, start in zip(ours, theirs, starts, strict=True):
        np.testing.assert_allclose(one.detach(), other.detach(), atol=1e-5)
        assert float((one - start).detach().abs().max()) > 0.1


def test_heads_raise_the_information_and_do_not_depend_on_each_other(
    planted: tuple[Space, np.ndarray],
) -> None:
    space, group = planted
    noisy = np.where(np.random.default_rng(1).random(120) < 0.25, (group + 1) % 3, group)
    other = np.arange(120) % 3
    both = trained_heads(space.twice, space.ids, [noisy, other], 3)
    alone = trained_heads(space.twice, space.ids, [noisy], 3)
    np.testing.assert_allclose(both[0].weights, alone[0].weights, atol=1e-3)
    labels = both[0].outputs(space.twice).argmax(axis=1)
    neighbors = labels[space.ids[:, :5]].ravel()
    before, after = (
        mutual_information(np.repeat(c, 5), c[space.ids[:, :5]].ravel(), 3) for c in (noisy, labels)
    )
    assert after > before + 0.2
    assert len(neighbors) == 600
    assert (labels == group).mean() > 0.97


def test_groupings_beside_a_grouping_change_nothing() -> None:
    """Rules for many are found together; those for one equal dense systems (search/test_trial_score.py)."""
    rows, group = blobs((50, 40, 30), 9, spread=0.7)
    probe = RidgeProbe(rows, np.random.default_rng(2).permutation(120))
    groupings = [group, (group + 1) % 3, np.random.default_rng(3).integers(0, 3, 120), group // 2]
    for labels, found in zip(groupings, probe.predict(groupings, 3), strict=True):
        assert found.tolist() == probe.predict([labels], 3)[0].tolist()
    expected = [probe.cv_mi([labels], 3)[0] for labels in groupings]
    np.testing.assert_allclose(probe.cv_mi(groupings, 3), expected, atol=1e-12)


def test_score_equals_its_formula(planted: tuple[Space, np.ndarray]) -> None:
    space, group = planted
    score = Score(space, 3, seed=5)
    rng = np.random.default_rng([5, 13])
    rng.choice(120, 120, replace=False)
    probe = RidgeProbe(space.rows, rng.permutation(120))
    left, right = [], []
    for i in range(120):
        for j in space.ids[i, :5]:
            left += [group[i], group[j]]
            right += [group[j], group[i]]
    agree = mutual_information(np.array(left), np.array(right), 3) / math.log(3)
    assert score.of([group])[0] == pytest.approx((2 * agree + probe.cv_mi([group], 3)[0]) / 3, abs=1e-9)


def test_score_does_not_see_numbers_and_falls_for_random_and_collapsed(
    planted: tuple[Space, np.ndarray],
) -> None:
    """Acceptance test 4."""
    space, _ = planted
    found = kmeans(unit_rows(space.twice), 3, [0])
    chance = np.random.default_rng(0).integers(0, 3, 120)
    collapsed = np.zeros(120, np.int64)
    plain, renamed, random, single = Score(space, 3, 0).of([found, (found + 1) % 3, chance, collapsed])
    assert renamed == pytest.approx(plain, abs=1e-9)
    assert plain > random + 0.3
    assert single == 0.0


def test_clean_uneven_groups_have_more_merit_than_a_cut_through_the_largest() -> None:
    """Groups of 600, 60 and 60 far apart, or the large one halved and the small ones joined."""
    rows, group = blobs((600, 60, 60), 30, spread=1.5)
    space = make_space(unit_rows(rows))
    large = space.rows[group == 0] - space.rows[group == 0].mean(axis=0)
    along = space.rows @ np.linalg.svd(large, full_matrices=False)[2][0]
    halved = np.where(group == 0, (along > np.median(along[group == 0])).astype(np.int64), 2)
    score = Score(space, 3, 0)
    plain, cut = score.of([group, halved])
    assert cut > plain  # S alone is misled
    plain, cut = score.merit([group, halved])
    assert plain > cut


def test_merit_equals_its_formula(planted: tuple[Space, np.ndarray]) -> None:
    space, group = planted
    shares = np.bincount(group) / 120
    balance = -sum(p * math.log(p) for p in shares) / math.log(3)
    score = Score(space, 3, 0)
    assert score.merit([group])[0] == pytest.approx(score.of([group])[0] - 0.1 * balance, abs=1e-12)


def test_joint_scores_are_means_over_the_spaces(planted: tuple[Space, np.ndarray]) -> None:
    """Two readings of one source and one of another, which weighs less the less merit is reached in it."""
    space, group = planted
    rng = np.random.default_rng(0)
    noise, noisy = (make_space(unit_rows(rng.normal(size=(120, 6)).astype(np.float32))) for _ in range(2))
    joined = JointScore([space, noise, noisy], [0, 0, 1], 3, 0)
    alone = [Score(one, 3, 0) for one in (space, noise, noisy)]
    groupings = [group, np.arange(120) % 3]
    scores, merits = (np.array([getattr(one, what)(groupings) for one in alone]) for what in ("of", "merit"))
    np.testing.assert_allclose(joined.of(groupings), scores.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(joined.merit(groupings), merits.mean(axis=0), atol=1e-12)
    best = merits.max(axis=1)
    behind = math.exp((best[2] - max(best[0], best[1])) / 0.05)
    expected = (merits[0] / 2 + merits[1] / 2 + behind * merits[2]) / (1 + behind)
    np.testing.assert_allclose(joined.weigh(groupings), expected, atol=1e-12)
    np.testing.assert_allclose(joined.merit(groupings), expected, atol=1e-12)
    assert joined.weights.sum() == pytest.approx(1)


def test_votes_have_the_inner_products_of_shared_clusters() -> None:
    rng = np.random.default_rng(1)
    groupings = [rng.integers(0, 3, 40) for _ in range(4)]
    weights = np.array([0.4, 0.3, 0.2, 0.1])
    columns = [
        math.sqrt(w) * (labels == c) for labels, w in zip(groupings, weights, strict=True) for c in range(3)
    ]
    dense = np.stack(columns, axis=1)
    left, values, _ = np.linalg.svd(dense - dense.mean(axis=0), full_matrices=False)
    expected = left[:, :6] * values[:6]
    found = vote_rows(groupings, weights, 3)
    assert found.shape == (40, 6)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-5)


def test_one_clear_winner_is_the_consensus_and_a_majority_outvotes() -> None:
    rng = np.random.default_rng(2)
    truth = np.arange(90) % 3
    noise = [rng.integers(0, 3, 90) for _ in range(3)]
    weights = weights_by_merit([0.9, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(weights, [1, 0, 0, 0], atol=1e-12)
    assert same_partition(vote([truth, *noise], weights, 3, [0]), truth)
    renamed = [(truth + k) % 3 for k in range(5)]
    for number, labels in enumerate(renamed):  # each is wrong on rows of its own
        labels[number * 9 : number * 9 + 9] = rng.integers(0, 3, 9)
    assert same_partition(vote(renamed, np.full(5, 0.2), 3, [0]), truth)


def test_weights_are_those_of_the_formula() -> None:
    raw = [math.exp((s - 0.52) / 0.01) for s in (0.5, 0.52, 0.51)]
    np.testing.assert_allclose(weights_by_merit([0.5, 0.52, 0.51]), np.array(raw) / sum(raw))


def test_confidence_by_hand() -> None:
    """Two heads of two clusters on four rows: one agrees throughout, one is wrong on the last row."""
    labels = np.array([0, 0, 1, 1])
    same, other = np.array([1, 1, 0, 0]), np.array([0, 0, 1, 0])
    np.testing.assert_allclose(translation(same, labels, 2), [[0, 1], [1, 0]])
    np.testing.assert_allclose(translation(other, labels, 2), [[2 / 3, 1 / 3], [0, 1]])
    found = agreement([same, other], labels, 2)
    np.testing.assert_allclose(found, [5 / 6, 5 / 6, 1, 2 / 3], atol=1e-6)


def test_numbers_follow_size_whatever_they_were() -> None:
    labels = np.array([2, 2, 0, 0, 0, 1, 3, 3])
    assert by_size(labels, 5).tolist() == [1, 1, 0, 0, 0, 3, 2, 2]
    assert by_size((labels + 2) % 5, 5).tolist() == by_size(labels, 5).tolist()


def test_a_vote_over_many_clusters_is_nearer_the_truth_than_k_means_from_ten_starts() -> None:
    """Five voters: each joins two clusters, halves a third, and has a fifth of all rows anywhere."""
    truth, voters = np.repeat(np.arange(110), 12), []
    for v in range(5):
        rng = np.random.default_rng(v)
        labels = truth.copy()
        labels[truth == 3 * v + 1] = 3 * v
        labels[np.flatnonzero(truth == 3 * v + 2)[:6]] = 3 * v + 1
        wrong = rng.random(len(labels)) < 0.2
        labels[wrong] = rng.integers(0, 110, wrong.sum())
        voters.append(rng.permutation(110)[labels])
    weights = np.full(5, 0.2)
    started = kmeans(vote_rows(voters, weights, 110), 110, [0], starts=10)
    found = vote(voters, weights, 110, [0])
    shares = []
    for labels in (started, found):
        table = Contingency.count(labels, truth, 110, 110)
        shares.append(accuracy(table, hungarian(table)))
    assert shares[0] < 0.98
    assert shares[1] > 0.99
