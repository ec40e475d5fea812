"""Two and three workers with uneven slices do what one worker does with the whole batch, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rayscan import comms
from rayscan.config import SelaConfig, SelfLabelConfig
from rayscan.data.order import rank_slice
from rayscan.nets.batchnorm import GlobalBatchNorm1d, GlobalBatchNorm2d
from rayscan.nets.heads import ClusterHeads, ClusterNet
from rayscan.nets.modes import evaluating
from rayscan.nets.timm_batchnorm import GlobalBatchNormAct2d
from rayscan.objectives.average import RunningMarginal
from rayscan.objectives.base import Objective
from rayscan.objectives.information_loss import InformationLoss
from rayscan.objectives.scan_loss import ScanLoss
from rayscan.objectives.sela import Sela, random_labels
from rayscan.objectives.selflabel import SelfLabel
from testing.objectives import pmi_of, scan_of
from tests.gloo.world import run_in_world

pytestmark = pytest.mark.gloo
STEPS = 20
B, C = 11, 4


def backbone() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        GlobalBatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3),
        GlobalBatchNormAct2d(6, act_layer=nn.ReLU6),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 16),
        GlobalBatchNorm1d(16),
        nn.ReLU(),
    )


def cluster_net(heads: int) -> ClusterNet:
    torch.manual_seed(5)
    return ClusterNet(backbone(), ClusterHeads(heads, 16, C), is_normalized=False).double()


def scan() -> Objective:
    return scan_of(cluster_net(3), ScanLoss(2.0))


def scan_running() -> Objective:
    net, prior = cluster_net(3), torch.tensor([0.4, 0.3, 0.2, 0.1])
    return scan_of(net, ScanLoss(2.0, prior=prior, running=RunningMarginal(0.8, net.heads.bias)))


def pmi() -> Objective:
    net = cluster_net(3)
    return scan_of(net, pmi_of(net, decay=0.8))


def information() -> Objective:
    """The running joint distribution is state; the sum over workers comes before the logarithms."""
    running = RunningMarginal(0.8, torch.zeros(3, C, C, dtype=torch.float64))
    return scan_of(cluster_net(3), InformationLoss(running))


def selflabel() -> Objective:
    return SelfLabel(cluster_net(1), SelfLabelConfig(threshold=0.27, ema_decay=0.9), num_images=B)


def selflabel_taught() -> Objective:
    settings = SelfLabelConfig(
        threshold=0.27, ema_decay=0.9, teacher="average", threshold_kind="per_class", threshold_floor=0.1
    )
    return SelfLabel(cluster_net(1), settings, num_images=B * STEPS // 2)


def sela() -> Objective:
    """Two heads, transports before the first step and in the middle, each worker with its rows."""
    settings = SelaConfig(num_heads=2, num_relabelings=4, epochs=4, sinkhorn_tolerance=1e-9)
    mine = torch.from_numpy(rank_slice(np.arange(B), comms.rank(), comms.world_size()))

    def features(net: nn.Module) -> torch.Tensor:
        with evaluating(net):
            return net.features(pixels(0, "weak")[mine])

    return Sela(cluster_net(2), settings, random_labels(2, B, C, 0), features, lambda net: torch.zeros(2), 1)


BUILDS = (scan, scan_running, pmi, information, selflabel, selflabel_taught, sela)


def pixels(step: int, name: str) -> torch.Tensor:
    """The global batch of a step, the same on every rank."""
    seed = int.from_bytes(f"{step}{name}".encode(), "big") % 2**31
    shape = (2, B, 3, 6, 6) if name == "views" else (B, 3, 6, 6)
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def batch_of(step: int, mine: slice) -> dict[str, Any]:
    batch: dict[str, Any] = {"views": pixels(step, "views")[:, mine], "count": B}
    batch |= {name: pixels(step, name)[mine] for name in ("anchors", "weak", "strong")}
    batch |= {"images": pixels(0, "weak")[mine], "rows": torch.arange(B)[mine]}
    two = torch.stack([pixels(step, "neighbors"), pixels(step, "more")], dim=1)[mine]  # K = 2 of each anchor
    return {**batch, "neighbors": two.flatten(0, 1)}


def train(rank: int, build: Callable[[], Objective], edges: list[int]) -> dict[str, Any]:
    """20 SGD steps on this rank's slice; losses, first gradients and final weights."""
    objective = build()
    optimizer = torch.optim.SGD(objective.module.parameters(), lr=0.05, momentum=0.9)
    losses, gradients = [], {}
    for step in range(STEPS):
        terms = objective.loss(batch_of(step, slice(edges[rank], edges[rank + 1])))
        (terms.total * comms.world_size()).backward()
        if step == 0:
            gradients = {k: p.grad.clone().numpy() for k, p in objective.module.named_parameters()}
        optimizer.step()
        optimizer.zero_grad()
        objective.after_step()
        losses.append(float(comms.all_reduce(terms.total.detach().clone())))
        if step == STEPS // 2 and isinstance(objective, SelfLabel | Sela):
            objective.end_epoch(0, is_last=False)  # per-class thresholds begin, labels are renewed
    end = objective.end_epoch(0, is_last=True).metrics if isinstance(objective, SelfLabel) else {}
    if isinstance(objective, Sela):
        end = {"labels": objective.labels.tolist(), "transports": int(objective.num_relabeled)}
    state = {k: v.numpy() for k, v in objective.module.state_dict().items()}
    return {"losses": losses, "gradients": gradients, "state": state, "end": dict(end)}


def train_all(rank: int, edges: list[int]) -> dict[str, dict[str, Any]]:
    """Every objective in one world: starting one costs more than training."""
    return {build.__name__: train(rank, build, edges) for build in BUILDS}


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Any]]:
    """What one worker does with whole batches."""
    return train_all(0, [0, B])


@pytest.fixture(scope="module", params=[[0, 4, B], [0, 2, 7, B]], ids=["two", "three"])
def together(request: pytest.FixtureRequest) -> list[dict[str, dict[str, Any]]]:
    """What two and three workers do, by rank."""
    return run_in_world(len(request.param) - 1, train_all, request.param)


@pytest.mark.parametrize("name", [build.__name__ for build in BUILDS])
def test_workers_equal_one(
    name: str, alone: dict[str, dict[str, Any]], together: list[dict[str, dict[str, Any]]]
) -> None:
    """Losses, gradients, weights and normalisation statistics over 20 steps (rtol 1e-9)."""
    one = alone[name]
    for worker in (found[name] for found in together):
        np.testing.assert_allclose(worker["losses"], one["losses"], rtol=1e-9)
        for part in ("gradients", "state"):
            assert worker[part].keys() == one[part].keys()
            for key, value in one[part].items():
                np.testing.assert_allclose(
                    worker[part][key], value, rtol=1e-9, atol=1e-12, err_msg=f"{part} {key}"
                )
        assert worker["end"] == one["end"]
    assert one["losses"][0] != one["losses"][-1]


def normalized(rank: int, edges: list[int], is_global: bool) -> dict[str, Any]:
    """A layer on bf16 activations, its statistics, and both gradients, on this rank's slice."""
    norm = (GlobalBatchNorm2d if is_global else nn.BatchNorm2d)(6)
    x = torch.from_numpy(np.random.default_rng(8).normal(3, 2, size=(2, B, 6, 5, 5))).float()
    mine = x[:, edges[rank] : edges[rank + 1]]
    inputs = mine[0].bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    inputs = inputs if is_global else inputs.detach().float().requires_grad_()
    out = norm(inputs)
    (out * mine[1].to(out.dtype)).sum().backward()
    assert inputs.grad is not None
    assert norm.weight.grad is not None
    found = {"out": out, "grad": inputs.grad, "weight": comms.all_reduce(norm.weight.grad)}
    found |= {"mean": norm.running_mean, "var": norm.running_var}
    return {k: v.detach().float().numpy() for k, v in found.items()} | {"type": str(out.dtype)}


def test_half_precision_activations_have_wide_global_statistics() -> None:
    """bf16 in and out, statistics as those of fp32: 8 bits of mantissa on values up to about 4."""
    alone = normalized(0, [0, B], is_global=False)
    together = run_in_world(2, normalized, [0, 4, B], True)
    for worker in together:
        assert worker["type"] == "torch.bfloat16"
        np.testing.assert_allclose(worker["mean"], alone["mean"], rtol=1e-5)
        np.testing.assert_allclose(worker["var"], alone["var"], rtol=1e-5)
        np.testing.assert_allclose(worker["weight"], alone["weight"], rtol=0.02, atol=0.2)
    for part in ("out", "grad"):
        whole = np.concatenate([worker[part] for worker in together])
        np.testing.assert_allclose(whole, alone[part], rtol=0.02, atol=0.03)
