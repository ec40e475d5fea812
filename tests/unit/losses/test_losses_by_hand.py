"""Losses against sums written out on plain floats, and at the edges of what they count."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rayscan.losses.confidence import class_thresholds, class_weights, confident
from rayscan.losses.pmi import pmi_loss
from rayscan.losses.scan import entropy_term, scan_loss


def test_scan_loss_with_known_shares_is_minus_the_divergence_from_them() -> None:
    """Eq. 2 with KL(mean || prior) in the place of minus the entropy, head by head."""
    mean = [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]
    prior, mu, weight = [0.6, 0.3, 0.1], [1.5, 0.25], 2.0
    divergence = [sum(p * math.log(p / q) for p, q in zip(row, prior, strict=True)) for row in mean]
    expected = [m + weight * d for m, d in zip(mu, divergence, strict=True)]
    loss = scan_loss(torch.tensor(mu), torch.tensor(mean), weight, torch.tensor(prior))
    assert loss.tolist() == pytest.approx(expected, rel=1e-5)


def test_known_shares_do_not_change_the_type_of_the_loss() -> None:
    mean = torch.tensor([[0.5, 0.5]])
    assert entropy_term(mean, torch.tensor([0.5, 0.5], dtype=torch.float64)).dtype == mean.dtype


def probabilities(logits: Tensor) -> list[float]:
    shares = [math.exp(value) for value in logits.tolist()]
    return [share / sum(shares) for share in shares]


def test_pmi_loss_of_several_heads_and_neighbors_is_the_sum_over_pairs() -> None:
    """Two heads, five pairs in two axes, three clusters: -w (pmi(x, x') + pmi(x', x)) / 2 one at a time."""
    heads, rows, columns, clusters, beta = 2, 5, 4, 3, 0.7
    shape = (heads, rows, columns, clusters)
    draws = torch.randn(4, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    marginal = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]], dtype=torch.float64)
    loss = pmi_loss((draws[0], draws[1]), (draws[2], draws[3]), marginal, beta)

    def pmi(student: Tensor, teacher: Tensor, head: int) -> float:
        pairs = zip(probabilities(student), probabilities(teacher), marginal[head].tolist(), strict=True)
        return math.log(sum((s * t) ** beta / m for s, t, m in pairs))

    expected = [0.0] * heads
    for row in range(rows):
        for column in range(columns):
            at = [draws[:, head, row, column] for head in range(heads)]
            together = [
                sum(a * b for a, b in zip(probabilities(x[2]), probabilities(x[3]), strict=True)) for x in at
            ]
            weight = sum(together) / heads
            for head, x in enumerate(at):
                expected[head] -= weight * (pmi(x[0], x[3], head) + pmi(x[1], x[2], head)) / 2
    assert loss.tolist() == pytest.approx(expected, rel=1e-9)


def test_a_chance_that_is_the_threshold_is_not_above_it() -> None:
    """Equal logits of two clusters: exactly 1/2 each."""
    logits = torch.tensor([[3.0, 3.0], [3.0, 3.5]])
    assert confident(logits, 0.5)[1].tolist() == [False, True]
    assert confident(logits, torch.tensor([0.5, 0.5]))[1].tolist() == [False, True]


def test_samples_of_a_single_cluster_weigh_one_each() -> None:
    """The weights of all confident samples sum to their number, also where one cluster has them all."""
    assert class_weights(torch.tensor([0.0, 4.0, 0.0]), is_balanced=True).tolist() == [0, 1, 0]


def test_thresholds_of_few_images_are_not_lowered() -> None:
    """b_c = 1 / max(1, 3 - 2) for both clusters: the full threshold, which T b / (2 - b) is at b = 1."""
    counts = torch.tensor([1.0, 1.0])
    assert class_thresholds(counts, 3, 0.9, 0.1).tolist() == pytest.approx([0.9, 0.9])
    all_sure = class_thresholds(counts, 2, 0.9, 0.1)  # none is unsure: the 1 is the larger of counts
    assert all_sure.tolist() == pytest.approx([0.9, 0.9])
