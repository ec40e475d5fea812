"""Each loss against a slow twin written from its equation, or a value derived by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from rayscan.losses.confidence import class_thresholds, class_weights, confident, weighted_cross_entropy
from rayscan.losses.nt_xent import nt_xent
from rayscan.losses.pmi import pmi_loss
from rayscan.losses.scan import consistency, entropy, entropy_term, scan_loss


def naive_nt_xent(views: np.ndarray, temperature: float) -> float:
    """SimCLR Eq. 1, one pair at a time: views [2, B, P] of unit rows; mean over all 2B anchors."""
    z = views.reshape(-1, views.shape[-1])
    b = views.shape[1]
    total = 0.0
    for i in range(2 * b):
        positive = (i + b) % (2 * b)
        below = sum(math.exp(z[i] @ z[k] / temperature) for k in range(2 * b) if k != i)
        total -= math.log(math.exp(z[i] @ z[positive] / temperature) / below)
    return total / (2 * b)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_nt_xent_equals_naive(temperature: float) -> None:
    views = normalize(
        torch.randn(2, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    z, index = views.flatten(0, 1), torch.arange(14)
    mean = nt_xent(z, z, index, (index + 7) % 14, temperature) / 14
    assert float(mean) == pytest.approx(naive_nt_xent(views.numpy(), temperature), rel=1e-12)


def test_nt_xent_when_all_rows_are_equal_is_log_of_the_others() -> None:
    z = normalize(torch.ones(8, 3, dtype=torch.float64), dim=1)
    index = torch.arange(8)
    assert float(nt_xent(z, z, index, (index + 4) % 8, 0.5) / 8) == pytest.approx(math.log(7))


def test_nt_xent_gradient() -> None:
    z = torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    index = torch.arange(8)
    assert torch.autograd.gradcheck(lambda x: nt_xent(x, x, index, (index + 4) % 8, 0.5), z)


def naive_scan(anchors: np.ndarray, neighbors: np.ndarray, weight: float) -> float:
    """SCAN Eq. 2 with one neighbor per anchor, sample by sample; the entropy has the paper's sign."""
    p = [np.exp(row) / np.exp(row).sum() for row in anchors]
    q = [np.exp(row) / np.exp(row).sum() for row in neighbors]
    first = -sum(math.log(a @ b) for a, b in zip(p, q, strict=True)) / len(p)
    mean = sum(p) / len(p)
    return first + weight * sum(m * math.log(m) for m in mean)


def test_scan_equals_naive() -> None:
    rng = np.random.default_rng(0)
    anchors, neighbors = rng.normal(size=(2, 3, 9, 6)) * 3
    a, n = torch.from_numpy(anchors), torch.from_numpy(neighbors)
    ours = scan_loss(consistency(a, n) / 9, a.softmax(-1).mean(1), 5.0)
    for head in range(3):
        assert float(ours[head]) == pytest.approx(naive_scan(anchors[head], neighbors[head], 5.0), rel=1e-12)


def test_scan_at_uniform_is_log_c_times_one_minus_lambda() -> None:
    logits = torch.zeros(1, 4, 10, dtype=torch.float64)
    loss = scan_loss(consistency(logits, logits) / 4, logits.softmax(-1).mean(1), 5.0)
    assert float(loss) == pytest.approx((1 - 5) * math.log(10))


def test_scan_is_lowest_when_confident_consistent_and_balanced() -> None:
    logits = 200.0 * torch.eye(4, dtype=torch.float64).unsqueeze(0)
    loss = scan_loss(consistency(logits, logits) / 4, logits.softmax(-1).mean(1), 1.0)
    assert float(loss) == pytest.approx(-math.log(4))


def test_consistency_keeps_its_gradient_when_the_dot_product_vanishes() -> None:
    anchors = torch.tensor([[[400.0, 0.0]]], requires_grad=True)
    value = consistency(anchors, torch.tensor([[[0.0, 400.0]]]))
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert anchors.grad is not None
    assert anchors.grad.abs().sum() > 0.1


def test_entropy_of_one_cluster_is_zero() -> None:
    assert float(entropy(torch.tensor([[1.0, 0.0, 0.0]]))) == 0.0


def test_confident_is_strictly_above_the_threshold() -> None:
    probs = torch.tensor([[0.7, 0.3], [0.5, 0.5], [0.2, 0.8]], dtype=torch.float64)
    labels, mask = confident(probs.log(), 0.7 + 1e-9)
    assert labels.tolist() == [0, 0, 1]
    assert mask.tolist() == [False, False, True]


def test_class_weights_make_clusters_count_alike() -> None:
    counts = torch.tensor([6.0, 2.0, 0.0, 4.0])
    weights = class_weights(counts, is_balanced=True)
    assert (weights * counts).tolist() == pytest.approx([4.0, 4.0, 0.0, 4.0])
    assert class_weights(counts, is_balanced=False).tolist() == [1.0] * 4


def test_no_confident_sample_gives_zero_loss_and_zero_gradient() -> None:
    logits = torch.randn(5, 3, requires_grad=True)
    loss = weighted_cross_entropy(logits, torch.zeros(5, dtype=torch.int64), torch.zeros(5))
    loss.backward()
    assert float(loss) == 0.0
    assert logits.grad is not None
    assert logits.grad.abs().sum() == 0


def test_weighted_cross_entropy_equals_naive() -> None:
    rng = np.random.default_rng(2)
    logits, labels, weights = rng.normal(size=(6, 4)), rng.integers(0, 4, 6), rng.random(6)
    naive = sum(
        w * (math.log(np.exp(row).sum()) - row[y]) for row, y, w in zip(logits, labels, weights, strict=True)
    )
    ours = weighted_cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(labels), torch.from_numpy(weights)
    )
    assert float(ours) == pytest.approx(naive, rel=1e-12)


@pytest.mark.parametrize("weight", [0.0, 1.0, 5.0])
def test_scan_at_one_hot_predictions(weight: float) -> None:
    """Pairs that agree cost nothing; clusters of shares 1/2, 1/4, 1/4 have an entropy of 1.5 log 2."""
    logits = 200.0 * torch.eye(3, dtype=torch.float64)[[0, 0, 1, 2]].unsqueeze(0)
    loss = scan_loss(consistency(logits, logits) / 4, logits.softmax(-1).mean(1), weight)
    assert float(loss) == pytest.approx(-weight * 1.5 * math.log(2), abs=1e-12)


def test_scan_with_all_neighbors_is_the_mean_over_them() -> None:
    """Broadcast over K neighbors equals one pair at a time."""
    rng = np.random.default_rng(4)
    anchors, neighbors = rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 5, 4, 3))
    ours = consistency(torch.from_numpy(anchors).unsqueeze(2), torch.from_numpy(neighbors)) / 20
    for head in range(2):
        naive = [
            naive_scan(anchors[head, b : b + 1], neighbors[head, b, k : k + 1], 0.0)
            for b in range(5)
            for k in range(4)
        ]
        assert float(ours[head]) == pytest.approx(sum(naive) / 20, rel=1e-12)


def test_spread_with_a_prior_is_minus_the_kl_divergence() -> None:
    """0 where the mean is the prior; entropy less log C for the uniform prior; else term by term."""
    prior = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    mean = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]], dtype=torch.float64)
    kl = sum(m * math.log(m / r) for m, r in zip([0.2, 0.2, 0.6], [0.5, 0.3, 0.2], strict=True))
    assert entropy_term(mean, prior).tolist() == pytest.approx([0.0, -kl], abs=1e-12)
    uniform = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert entropy_term(mean, uniform).tolist() == pytest.approx((entropy(mean) - math.log(3)).tolist())


def naive_pmi_loss(s: np.ndarray, t: np.ndarray, marginal: np.ndarray, beta: float) -> float:
    """TEMI, one pair at a time: s, t [2, H, B, C] probabilities; mean over pairs, summed over heads."""
    _, num_heads, b, c = s.shape
    total = 0.0
    for i in range(b):
        weight = sum(t[0, h, i] @ t[1, h, i] for h in range(num_heads)) / num_heads
        for h in range(num_heads):
            for x, y in ((0, 1), (1, 0)):
                inside = sum((s[x, h, i, k] * t[y, h, i, k]) ** beta / marginal[h, k] for k in range(c))
                total -= 0.5 * weight * math.log(inside)
    return total / b


@pytest.mark.parametrize("beta", [0.6, 1.0])
def test_pmi_equals_naive(beta: float) -> None:
    rng = np.random.default_rng(7)
    s, t = (torch.from_numpy(rng.normal(size=(2, 3, 6, 4)) * 2) for _ in range(2))
    marginal = torch.from_numpy(rng.dirichlet(np.ones(4), size=3))
    ours = pmi_loss((s[0], s[1]), (t[0], t[1]), marginal, beta).sum() / 6
    naive = naive_pmi_loss(s.softmax(-1).numpy(), t.softmax(-1).numpy(), marginal.numpy(), beta)
    assert float(ours) == pytest.approx(naive, rel=1e-12)


def test_pmi_at_uniform_and_at_one_hot() -> None:
    """Uniform, beta 1: sum_c C^-2 * C = 1, so 0. One-hot and equal: -log of the cluster's share, weight 1."""
    uniform, shares = torch.zeros(1, 4, 5, dtype=torch.float64), torch.full((1, 5), 0.2, dtype=torch.float64)
    assert float(pmi_loss((uniform,) * 2, (uniform,) * 2, shares, 1.0)) == pytest.approx(0, abs=1e-12)
    one_hot = 200.0 * torch.eye(5, dtype=torch.float64).unsqueeze(0)
    assert float(pmi_loss((one_hot,) * 2, (one_hot,) * 2, shares, 0.6) / 5) == pytest.approx(-math.log(5))


def test_class_thresholds() -> None:
    """FlexMatch by hand: 40 confident in the best cluster, b = 1, 1/2, 0 -> T, T / 3, the floor."""
    counts = torch.tensor([40.0, 20.0, 0.0], dtype=torch.float64)
    found = class_thresholds(counts, num_images=70, threshold=0.9, floor=0.2)
    assert found.tolist() == pytest.approx([0.9, 0.3, 0.2])
    few = class_thresholds(counts, num_images=160, threshold=0.9, floor=0.01)  # 100 are not confident
    assert few.tolist() == pytest.approx([0.9 * 0.4 / 1.6, 0.9 * 0.2 / 1.8, 0.01])


def test_confident_with_one_threshold_per_cluster() -> None:
    probs = torch.tensor([[0.7, 0.3], [0.35, 0.65]], dtype=torch.float64)
    _, mask = confident(probs.log(), torch.tensor([0.8, 0.6], dtype=torch.float64))
    assert mask.tolist() == [False, True]
