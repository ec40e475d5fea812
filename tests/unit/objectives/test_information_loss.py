"""The mutual information of neighbours as a pair loss, against loops over images and clusters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rayscan.config import InformationLossConfig
from rayscan.nets.heads import ClusterHeads
from rayscan.objectives.information_loss import InformationLoss
from rayscan.objectives.pair_losses import pair_loss


def softmax(row: np.ndarray) -> np.ndarray:
    return np.exp(row) / np.exp(row).sum()


def naive(anchors: np.ndarray, neighbors: np.ndarray) -> float:
    """- I(c, c') of one head: anchors [B, C], neighbors [B, K, C]."""
    size, num = anchors.shape
    table = np.zeros((num, num))
    for i in range(size):
        near = np.mean([softmax(row) for row in neighbors[i]], axis=0)
        for c in range(num):
            for d in range(num):
                table[c, d] += softmax(anchors[i])[c] * near[d] / size
    table = (table + table.T) / 2
    total = 0.0
    for c in range(num):
        for d in range(num):
            total += table[c, d] * math.log(table[c, d] / (table[c].sum() * table[:, d].sum()))
    return -total


def logits(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


def test_it_equals_loops_over_images_and_clusters_summed_over_heads() -> None:
    anchors, neighbors = logits(2, 7, 3), logits(2, 7, 4, 3) + 0.5
    told = InformationLoss()((torch.from_numpy(anchors), torch.from_numpy(neighbors)), 7)
    expected = [naive(anchors[h], neighbors[h]) for h in range(2)]
    assert float(told.total) == pytest.approx(sum(expected), abs=1e-10)
    assert float(told.parts["loss"]) == pytest.approx(np.mean(expected), abs=1e-10)


def test_it_is_least_for_neighbors_that_agree_in_equal_clusters() -> None:
    """Then I = log C; with all in one cluster, or neighbors at random, it is 0."""
    sure = 50 * torch.eye(4, dtype=torch.float64).repeat(5, 1)[None]  # 20 images, 5 in each of 4 clusters
    one, loss = torch.zeros_like(sure), InformationLoss()
    one[..., 0] = 50
    spread = sure.repeat_interleave(4, 1).unsqueeze(2), sure.repeat(1, 4, 1).unsqueeze(2)
    assert float(loss((sure, sure.unsqueeze(2)), 20).total) == pytest.approx(-math.log(4), abs=1e-6)
    assert float(loss((one, one.unsqueeze(2)), 20).total) == pytest.approx(0, abs=1e-6)
    assert float(loss((spread[0].squeeze(2), spread[1]), 80).total) == pytest.approx(0, abs=1e-6)


def test_the_running_joint_takes_in_earlier_batches_and_keeps_the_gradient_of_one() -> None:
    """Two steps are averaged evenly: the value is that of the mean of both tables."""
    loss = pair_loss(InformationLossConfig(joint_decay=0.9), ClusterHeads(1, 2, 3).double())
    first, second = logits(1, 6, 3), logits(2, 6, 3)[1:] * 2
    for batch in (first, second):
        x = torch.from_numpy(batch).requires_grad_()
        told = loss((x, x.unsqueeze(2)), 6)
    both = np.concatenate([first, second], axis=1)[0]
    assert float(told.total.detach()) == pytest.approx(naive(both, both[:, None]), rel=1e-6)
    told.total.backward()
    assert float(x.grad.abs().sum()) > 0  # type: ignore[union-attr]


def test_without_decay_there_is_no_state() -> None:
    loss = pair_loss(InformationLossConfig(), ClusterHeads(2, 2, 3))
    assert isinstance(loss, InformationLoss)
    assert not loss.state_dict()
