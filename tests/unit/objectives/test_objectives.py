"""What objectives keep over steps, and how a head is chosen, against slow twins and derivations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from rayscan.config import PmiLossConfig, ScanLossConfig, SelfLabelConfig
from rayscan.nets.heads import ClusterHeads
from rayscan.objectives.average import MovingAverage, RunningMarginal
from rayscan.objectives.pair_losses import pair_loss
from rayscan.objectives.pmi_loss import PmiLoss
from rayscan.objectives.scan import Scan, split_pairs
from rayscan.objectives.scan_loss import ScanLoss
from rayscan.objectives.selection import HeldoutGraph
from rayscan.objectives.selflabel import SelfLabel
from testing.objectives import pmi_of, scan_of


def test_heldout_losses_equal_the_dense_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the N x N matrix of dot products, as the paper's criterion is written; in blocks of a few rows."""
    monkeypatch.setattr("rayscan.objectives.selection.BLOCK_BYTES", 8 * 2 * 6 * 7)
    rng = np.random.default_rng(0)
    n, c, k = 40, 6, 5
    ids = np.stack([rng.permutation(np.delete(np.arange(n), i))[:k] for i in range(n)])
    heldout = np.arange(0, n, 3)
    graph = HeldoutGraph.build(heldout, np.arange(n), ids)
    logits = torch.from_numpy(rng.normal(size=(2, n, c)) * 4)
    ours = graph.losses(logits[:, torch.from_numpy(graph.gids)])
    for head in range(2):
        p = logits[head].softmax(-1).numpy()
        gram = -np.log(p @ p.T)
        agreement = np.mean([gram[i, ids[i, j]] for i in heldout for j in range(k)])
        mean = p[heldout].mean(0)
        assert float(ours[head]) == pytest.approx(agreement + (mean * np.log(mean)).sum(), rel=1e-12)


def test_heldout_losses_survive_a_vanishing_dot_product() -> None:
    """exp(-800) is 0 in float64, its logarithm is not."""
    graph = HeldoutGraph(np.arange(2), np.array([0]), np.array([1]))
    logits = torch.tensor([[[800.0, 0.0], [0.0, 800.0]]])
    assert float(graph.losses(logits)) == pytest.approx(800 - math.log(2), abs=1e-6)


def test_running_marginal_equals_its_recursion() -> None:
    """Even mean of the first steps, then the fixed decay; the gradient is the batch's own."""
    means = torch.from_numpy(np.random.default_rng(1).dirichlet(np.ones(4), size=(6, 2)))
    running, value = RunningMarginal(0.7, means[0]), None
    for step, mean in enumerate(means):
        decay = min(0.7, step / (1 + step))
        value = mean if value is None else decay * value + (1 - decay) * mean
        given = mean.clone().requires_grad_()
        found = running.update(given)
        np.testing.assert_allclose(found.detach(), value, rtol=1e-12)
        found.sum().backward()
        assert given.grad is not None
        assert given.grad.eq(1).all()


def test_running_marginal_resumes() -> None:
    means = torch.from_numpy(np.random.default_rng(2).dirichlet(np.ones(3), size=(4, 1)))
    one, two = RunningMarginal(0.5, means[0]), RunningMarginal(0.5, means[0])
    for mean in means[:2]:
        one.update(mean)
    two.load_state_dict(one.state_dict())
    for mean in means[2:]:
        assert one.update(mean).equal(two.update(mean))


def test_a_running_marginal_frees_the_entropy_from_the_batch_size() -> None:
    """Batches of one image each, all certain: the batch's entropy is 0, the running one that of all."""
    logits = 50 * torch.eye(4, dtype=torch.float64).view(4, 1, 1, 4)
    batch = ScanLoss(1.0)
    running = ScanLoss(1.0, running=RunningMarginal(0.99, torch.zeros(1, 4, dtype=torch.float64)))
    for one in logits:
        a = batch((one, one.unsqueeze(2)), 1).parts["entropy"]
        b = running((one, one.unsqueeze(2)), 1).parts["entropy"]
    assert float(a) == pytest.approx(0, abs=1e-6)
    assert float(b) == pytest.approx(math.log(4))


def test_heads_are_summed() -> None:
    """Three equal heads: the loss is three times that of one, what is logged is the same."""
    logits = torch.randn(1, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    three = logits.expand(3, 5, 4)
    one, summed = (ScanLoss(2.0)((x, x.unsqueeze(2)), 5) for x in (logits, three))
    assert float(summed.total) == pytest.approx(3 * float(one.total))
    assert float(summed.parts["loss"]) == pytest.approx(float(one.parts["loss"]))


def test_settings_name_the_loss() -> None:
    heads = ClusterHeads(2, 5, 3)
    pmi = pair_loss(PmiLossConfig(teacher_decay=0.8), heads)
    assert isinstance(pmi, PmiLoss)
    assert pmi.teacher_decay == 0.8
    scan = pair_loss(ScanLossConfig(entropy_weight=3.0, marginal="running"), heads)
    assert isinstance(scan, ScanLoss)
    assert (scan.entropy_weight, scan.running is not None, scan.teacher_decay) == (3.0, True, None)


def test_pairs_lie_anchor_by_anchor() -> None:
    """Rows: 2 anchors, then 3 neighbors of the first, then 3 of the second."""
    rows = torch.arange(8.0).view(1, 8, 1)
    anchors, neighbors = split_pairs(rows, 2)
    assert anchors.flatten().tolist() == [0, 1]
    assert neighbors[0, :, :, 0].tolist() == [[2, 3, 4], [5, 6, 7]]


def test_pmi_heads_find_two_plain_groups() -> None:
    """Two separated blobs, neighbors drawn within: the heads tell them apart, the teacher lags behind."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 40)
    x = torch.from_numpy(rng.normal(size=(80, 5)) * 0.2 + np.where(group, 1, -1)[:, None]).float()
    mates = torch.from_numpy(np.where(group, rng.integers(40, 80, 80), rng.integers(0, 40, 80)))
    heads = ClusterHeads(2, 5, 2)
    objective = scan_of(heads, pmi_of(heads))
    optimizer = torch.optim.Adam(objective.module.parameters(), lr=0.1)
    for _ in range(60):
        objective.loss({"anchors": x, "neighbors": x[mates], "count": 80}).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        objective.after_step()
    found = objective.module(x).argmax(-1).numpy()
    assert all(np.array_equal(f, group) or np.array_equal(f, 1 - group) for f in found)
    assert objective.teacher is not None
    assert not objective.teacher.net.weight.equal(objective.module.weight)


class Fixed(ClusterHeads):
    """One head whose logits are what it is given, plus its bias."""

    def __init__(self) -> None:
        super().__init__(1, 3, 3)
        self.bias = nn.Parameter(torch.zeros(1, 3, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 3] -> [1, B, 3]."""
        return (x + self.bias[0]).unsqueeze(0)


def test_the_average_teaches_where_asked() -> None:
    """The student's bias votes for cluster 2; the average, which has not followed yet, does not."""
    sure = 20 * torch.eye(3, dtype=torch.float64)[[0, 1]]
    for teacher, labels in (("student", [2, 2]), ("average", [0, 1])):
        objective = SelfLabel(Fixed(), SelfLabelConfig(threshold=0.9, teacher=teacher), 2)
        with torch.no_grad():
            objective.module.bias.copy_(torch.tensor([0.0, 0.0, 100.0]))
        terms = objective.loss({"weak": sure, "strong": sure, "count": 2})
        logits = sure + objective.module.bias
        naive = nn.functional.cross_entropy(logits, torch.tensor(labels))
        assert float(terms.total) == pytest.approx(float(naive), abs=1e-9)


def test_per_class_thresholds_take_the_last_epochs_counts() -> None:
    """Epoch 0 uses 0.9 for all; then cluster 1, with half of the confident images of 0, falls to 0.3."""
    settings = SelfLabelConfig(threshold=0.9, threshold_kind="per_class", threshold_floor=0.2)
    objective = SelfLabel(Fixed(), settings, num_images=4)
    probs = torch.tensor([[0.95, 0.03, 0.02]] * 2 + [[0.02, 0.95, 0.03], [0.3, 0.4, 0.3]]).double()
    batch = {"weak": probs.log(), "strong": probs.log(), "count": 4}
    assert float(objective.loss(batch).parts["confident_fraction"]) == 0.75
    objective.end_epoch(0, is_last=False)
    assert float(objective.loss(batch).parts["confident_fraction"]) == 1.0


def test_moving_average_equals_its_recursion() -> None:
    net = nn.Linear(2, 1, bias=False).double()
    average = MovingAverage(net, 0.9)
    value = net.weight.detach().clone()
    for step in range(1, 5):
        with torch.no_grad():
            net.weight.add_(1.0)
        average.follow(net)
        decay = min(0.9, (1 + step) / (10 + step))
        value = decay * value + (1 - decay) * net.weight.detach()
    np.testing.assert_allclose(average.net.weight, value, rtol=1e-12)


def test_pmi_resumes_with_teacher_and_marginal() -> None:
    """Six steps at once equal three, a new objective that takes everything over, and three more."""
    batches = torch.randn(6, 2, 12, 5, generator=torch.Generator().manual_seed(4))

    def made() -> Scan:
        torch.manual_seed(9)
        heads = ClusterHeads(2, 5, 3)
        return scan_of(heads, pmi_of(heads))

    def step(objective: Scan, pair: torch.Tensor) -> None:
        objective.loss({"anchors": pair[0], "neighbors": pair[1], "count": 12}).total.backward()
        with torch.no_grad():
            for weight in objective.module.parameters():
                weight -= 0.5 * weight.grad
                weight.grad = None
        objective.after_step()

    whole, first, again = made(), made(), made()
    for pair in batches:
        step(whole, pair)
    for pair in batches[:3]:
        step(first, pair)
    first.end_epoch(0, is_last=True)
    again.load_state_dict(first.state_dict())
    for pair in batches[3:]:
        step(again, pair)
    assert again.module.weight.equal(whole.module.weight)
    assert whole.teacher is not None
    assert again.teacher is not None
    assert again.teacher.net.weight.equal(whole.teacher.net.weight)
