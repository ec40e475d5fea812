"""SeLa: the schedule and the labels by derivation, the loss against a slow twin, resume."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from rayscan.config import SelaConfig
from rayscan.nets.heads import ClusterHeads
from rayscan.objectives.sela import Sela, random_labels, relabel_epochs


def test_schedule_is_quadratic_and_dense_at_the_beginning() -> None:
    """t_i = (i / (M - 1))^2: for M = 5 over 16 epochs 0, 1, 4, 9, and 16, the end, which teaches nothing."""
    assert relabel_epochs(5, 16) == [0, 1, 4, 9]
    assert relabel_epochs(0, 16) == []
    assert relabel_epochs(1, 16) == [0]
    many = relabel_epochs(80, 160)
    assert many[:4] == [0, 1, 2, 3]
    assert np.diff(many).max() <= math.ceil(160 * (1 - (78 / 79) ** 2)) + 1
    assert len(many) < 80  # at most once per epoch


def test_random_labels_are_balanced_and_differ_between_heads() -> None:
    labels = random_labels(3, 50, 7, seed=1)
    sizes = torch.stack([torch.bincount(row, minlength=7) for row in labels])
    assert sizes.min() == 7
    assert sizes.max() == 8
    assert not labels[0].equal(labels[1])
    assert labels.equal(random_labels(3, 50, 7, seed=1))


def blobs(num_images: int = 60, num_clusters: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    truth = torch.arange(num_images) % num_clusters
    noise = torch.randn(num_images, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return 3 * torch.eye(8, dtype=torch.float64)[truth] + 0.3 * noise, truth


def made(x: torch.Tensor, **settings: Any) -> Sela:
    torch.manual_seed(2)
    asked = SelaConfig(num_heads=2, **settings)
    labels = random_labels(2, len(x), 3, seed=0)
    return Sela(ClusterHeads(2, 8, 3).double(), asked, labels, lambda _: x, lambda _: torch.zeros(2), 1)


def test_loss_equals_naive() -> None:
    x, _ = blobs()
    objective = made(x, num_relabelings=0)
    rows = torch.tensor([4, 9, 17])
    terms = objective.loss({"images": x[rows], "rows": rows, "count": 3})
    logits = objective.module(x[rows]).detach().numpy()
    naive = [
        math.log(np.exp(logits[h, b]).sum()) - logits[h, b, objective.labels[h, row]]
        for h in range(2)
        for b, row in enumerate(rows)
    ]
    assert float(terms.total) == pytest.approx(sum(naive) / 6, rel=1e-12)


def trained(objective: Sela, x: torch.Tensor, epochs: range) -> Sela:
    optimizer = torch.optim.SGD(objective.module.parameters(), lr=0.5)
    for epoch in epochs:
        objective.loss({"images": x, "rows": torch.arange(len(x)), "count": len(x)}).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        objective.end_epoch(epoch, is_last=epoch == epochs.stop - 1)
    return objective


def test_transports_find_three_blobs_and_split_evenly() -> None:
    """Labels begin at random; transport and training in turns end at the blobs, twenty images each."""
    x, truth = blobs()
    objective = trained(made(x, num_relabelings=30, epochs=60, sinkhorn_tolerance=1e-4), x, range(60))
    assert int(objective.num_relabeled) == len(relabel_epochs(30, 60))
    for labels in objective.labels.to(torch.int64):
        pairs = torch.bincount(labels * 3 + truth, minlength=9)
        assert sorted(pairs.tolist()) == [0] * 6 + [20] * 3


def test_no_relabeling_keeps_the_first_labels() -> None:
    x, _ = blobs()
    objective = trained(made(x, num_relabelings=0, epochs=5), x, range(5))
    assert objective.labels.equal(random_labels(2, 60, 3, seed=0))
    assert int(objective.num_relabeled) == 0


def test_resume_takes_labels_and_potentials_over() -> None:
    """Six epochs at once equal two, a new objective, and four more."""
    x, _ = blobs()
    whole = trained(made(x, num_relabelings=6, epochs=6), x, range(6))
    first = trained(made(x, num_relabelings=6, epochs=6), x, range(2))
    first_due = int(first.num_relabeled)
    again = made(x, num_relabelings=6, epochs=6)
    again.load_state_dict(first.state_dict())
    assert int(again.num_relabeled) == first_due > 0
    trained(again, x, range(2, 6))
    assert again.labels.equal(whole.labels)
    assert again.module.weight.equal(whole.module.weight)
