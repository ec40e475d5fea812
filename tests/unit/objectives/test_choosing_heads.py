"""Which head is kept, when heads are judged, and which images judge them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rayscan.config import PmiLossConfig, ScanLossConfig
from rayscan.nets.heads import ClusterHeads, ClusterNet
from rayscan.objectives import selection
from rayscan.objectives.pair_losses import pair_loss
from rayscan.objectives.pmi_loss import PmiLoss
from rayscan.objectives.scan import Scan
from rayscan.objectives.scan_loss import ScanLoss
from rayscan.objectives.selecting import SelectingObjective
from rayscan.objectives.selection import HeldoutGraph, split_heldout
from testing.objectives import pmi_of, scan_of


class Backbone(nn.Module):
    """A linear layer with normalisation, so that there are buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 5), nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 4] -> [B, 5]."""
        return self.norm(self.layer(x))  # type: ignore[no-any-return]


def cluster_net() -> ClusterNet:
    torch.manual_seed(0)
    return ClusterNet(Backbone(), ClusterHeads(3, 5, 2), is_normalized=False)


def judged(losses: list[list[float]]) -> Callable[[nn.Module], Tensor]:
    """A judge that says these losses, one row each time it is asked."""
    rows = iter(losses)
    return lambda _: torch.tensor(next(rows), requires_grad=True)


def on_images(judge: Callable[[nn.Module], Tensor], every: int = 1, *, is_head_only: bool = False) -> Scan:
    net = cluster_net()
    net.backbone.requires_grad_(not is_head_only)
    return scan_of(net, ScanLoss(1.0), judge, every)


def shifted(objective: SelectingObjective, by: float) -> None:
    with torch.no_grad():
        for weight in objective.module.parameters():
            weight.add_(by)


def test_the_head_with_the_lowest_loss_of_all_epochs_is_kept_with_the_weights_it_had() -> None:
    """Head 2 in epoch 1 is best; 0.3 in epoch 2 is only as good, and the epochs after are worse."""
    rows = [[0.9, 0.8, 0.7], [0.6, 0.5, 0.3], [0.3, 0.4, 0.5], [0.9, 0.9, 0.9]]
    objective = on_images(judged(rows))
    assert (objective.best.loss, objective.best.is_known) == (float("inf"), False)
    assert objective.best.facts()["losses"] == []
    expected: dict[str, Tensor] = {}
    for epoch, row in enumerate(rows):
        shifted(objective, 1.0)
        if epoch == 1:
            net = objective.module
            expected = {f"backbone.{k}": v.clone() for k, v in net.backbone.state_dict().items()}
            expected["heads.weight"] = net.heads.weight[2:3].detach().clone()
            expected["heads.bias"] = net.heads.bias[2:3].detach().clone()
        end = objective.end_epoch(epoch, is_last=epoch == 3)
        assert end.metrics == {"heldout_loss": pytest.approx(min(row))}
        assert not end.should_stop
    best = objective.best
    assert (best.loss, int(best.head), int(best.epoch)) == (pytest.approx(0.3), 2, 1)
    assert best.latest.tolist() == pytest.approx(rows[-1])
    facts = {"losses": best.latest.tolist(), "best_head": 2, "best_epoch": 1, "best_loss": best.loss}
    assert (best.is_known, best.facts()) == (True, facts)
    assert best.weights().keys() == expected.keys()
    assert all(torch.equal(best.weights()[key], value) for key, value in expected.items())


def test_the_kept_head_comes_back_with_the_state() -> None:
    """The net has moved on since: what is kept are the weights of the epoch that was best."""
    objective, again = on_images(judged([[0.5, 0.2, 0.9], [0.8, 0.7, 0.6]])), on_images(judged([]))
    for epoch in range(2):
        objective.end_epoch(epoch, is_last=False)
        shifted(objective, 1.0)
    assert not again.best.is_known
    again.load_state_dict({k: v.clone() for k, v in objective.state_dict().items()})
    assert again.best.facts() == objective.best.facts()
    assert (int(again.best.head), int(again.best.epoch)) == (1, 0)
    assert again.best.loss == pytest.approx(0.2)
    for key, value in objective.best.weights().items():
        assert torch.equal(value, again.best.weights()[key]), key


def test_heads_alone_are_kept_under_the_names_of_a_net() -> None:
    heads = ClusterHeads(2, 3, 4)
    objective = scan_of(heads, ScanLoss(1.0), judged([[2.0, 1.0]]))
    objective.end_epoch(0, is_last=False)
    weights = objective.best.weights()
    assert weights.keys() == {"heads.weight", "heads.bias"}
    assert torch.equal(weights["heads.weight"], heads.weight[1:2])
    assert torch.equal(weights["heads.bias"], heads.bias[1:2])


@pytest.mark.parametrize(("every", "epochs"), [(1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (3, [2, 4]), (9, [4])])
def test_heads_are_judged_every_few_epochs_and_at_the_end(every: int, epochs: list[int]) -> None:
    objective = on_images(judged([[0.5, 0.4, 0.3]] * 5), every)
    said = [bool(objective.end_epoch(epoch, is_last=epoch == 4).metrics) for epoch in range(5)]
    assert [epoch for epoch, is_said in enumerate(said) if is_said] == epochs


def test_a_frozen_backbone_neither_learns_nor_counts_statistics() -> None:
    for is_head_only in (True, False):
        objective = on_images(judged([]), is_head_only=is_head_only)
        backbone = objective.module.backbone
        assert all(p.requires_grad is not is_head_only for p in backbone.parameters())
        assert objective.module.heads.weight.requires_grad
        mean = backbone.norm.running_mean.clone()
        x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
        objective.loss({"anchors": x, "neighbors": x, "count": 6}).total.backward()
        assert torch.equal(backbone.norm.running_mean, mean) is is_head_only
        assert (backbone.layer.weight.grad is None) is is_head_only


def test_only_the_pmi_loss_has_a_teacher_and_it_follows_at_the_decay_asked_for() -> None:
    """After one step the decay is min(asked, 2 / 11): 0.1 is below, so 0.9 of the way."""
    assert on_images(judged([])).teacher is None
    net = cluster_net()
    objective = scan_of(net, pmi_of(net, teacher_decay=0.1), judged([]))
    assert objective.teacher is not None
    before = objective.teacher.net.heads.weight.clone()
    shifted(objective, 1.0)
    objective.after_step()
    torch.testing.assert_close(objective.teacher.net.heads.weight, before + 0.9)
    assert not objective.teacher.net.training
    assert not any(p.requires_grad for p in objective.teacher.net.parameters())


def test_settings_reach_the_pair_loss() -> None:
    prior, heads = torch.tensor([0.5, 0.5]), ClusterHeads(3, 5, 2)
    scan = pair_loss(ScanLossConfig(entropy_weight=2.5, marginal="batch"), heads, prior)
    assert isinstance(scan, ScanLoss)
    assert (scan.entropy_weight, scan.prior, scan.running, scan.teacher_decay) == (2.5, prior, None, None)
    running = pair_loss(ScanLossConfig(marginal="running", marginal_decay=0.75), heads)
    assert isinstance(running, ScanLoss)
    assert running.running is not None
    assert (running.running.decay, running.running.value.shape) == (0.75, (3, 2))
    pmi = pair_loss(PmiLossConfig(pmi_beta=0.7, marginal_decay=0.85, teacher_decay=0.95), heads)
    assert isinstance(pmi, PmiLoss)
    assert (pmi.beta, pmi.running.decay, pmi.teacher_decay) == (0.7, 0.85, 0.95)


@pytest.mark.parametrize(
    ("heldout", "most", "chosen"),
    [
        (12, 5, [0, 2, 4, 6, 8]),
        (12, 12, range(12)),
        (12, 4, [0, 3, 6, 9]),
        (7, 5, range(5)),
        (3, 5, range(3)),
    ],
)
def test_anchors_are_spread_over_the_held_out_images(
    heldout: int, most: int, chosen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every n-th with n = floor(held out / most), at most so many; five nearest neighbors each, in order."""
    monkeypatch.setattr(selection, "MAX_ANCHORS", most)
    gids = np.arange(30) * 10 + 5
    rng = np.random.default_rng(0)
    ids = np.stack([rng.permutation(np.delete(gids, i))[:8] for i in range(30)])
    graph = HeldoutGraph.build(gids[10 : 10 + heldout], gids, ids)
    rows = [10 + row for row in chosen]
    edges = [(int(gids[row]), int(neighbor)) for row in rows for neighbor in ids[row, :5]]
    found = zip(graph.gids[graph.anchors].tolist(), graph.gids[graph.neighbors].tolist(), strict=True)
    assert list(found) == edges
    assert graph.gids.tolist() == sorted({gid for edge in edges for gid in edge})


def test_heldout_losses_know_shares_of_clusters() -> None:
    """Agreement over edges plus KL(mean of the anchors || shares), on plain floats."""
    graph = HeldoutGraph(np.arange(3), np.array([0, 0, 2]), np.array([1, 2, 0]))
    p = [[0.7, 0.3], [0.6, 0.4], [0.1, 0.9]]
    prior = [0.8, 0.2]
    agreement = sum(-np.log(np.dot(p[a], p[b])) for a, b in ((0, 1), (0, 2), (2, 0))) / 3
    mean = [(2 * p[0][c] + p[2][c]) / 3 for c in range(2)]
    divergence = sum(m * np.log(m / q) for m, q in zip(mean, prior, strict=True))
    logits = torch.tensor([p], dtype=torch.float64).log()
    losses = graph.losses(logits, torch.tensor(prior, dtype=torch.float64))
    assert losses.tolist() == pytest.approx([agreement + divergence])


def test_the_split_holds_out_the_first_rows_of_the_order() -> None:
    gids, order = np.array([3, 5, 8, 9, 12, 20, 21, 30]), np.array([6, 0, 3, 7, 1, 5, 2, 4])
    train, heldout = split_heldout(gids, 0.4, order)  # 3.2 of 8 images
    assert heldout.tolist() == [3, 9, 21]
    assert train.tolist() == [5, 8, 12, 20, 30]
    assert split_heldout(gids, 0.01, order)[1].tolist() == [21]
