"""Every pretext objective on two and three workers with uneven slices equals one worker, in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rayscan import comms
from rayscan.engine.microbatches import microbatches
from rayscan.engine.optimizer import optimizer_tensors, restore_optimizer
from rayscan.engine.tensors import pack, unpack
from rayscan.nets.heads import NormalizedHead, ProjectedNet, ProjectionHead
from rayscan.objectives.base import Batch
from rayscan.objectives.byol import BYOL, PredictedNet
from rayscan.objectives.instdisc import InstDisc
from rayscan.objectives.moco import MoCo
from rayscan.objectives.pretext import PretextObjective
from rayscan.objectives.rotnet import RotNet
from rayscan.objectives.simclr import SimCLR
from tests.gloo.test_equality import B, backbone, pixels
from tests.gloo.world import run_in_world

pytestmark = pytest.mark.gloo
STEPS = 10
N, M, P = 2 * B + 3, 7, 8
WORLDS = ([0, 4, B], [0, 2, 7, B])


def projected(out: int = P) -> ProjectedNet:
    return ProjectedNet(backbone(), ProjectionHead(16, 16, out)).double()


def simclr() -> PretextObjective:
    return SimCLR(projected(), temperature=0.3)


def moco() -> PretextObjective:
    """A queue that is no multiple of the batch: it wraps around within one."""
    return MoCo(projected(), 0.3, queue_size=B + 6, momentum=0.9, dim=P)


def instdisc() -> PretextObjective:
    return InstDisc(projected(), 0.3, num_images=N, dim=P, momentum=0.5)


def rotnet() -> PretextObjective:
    return RotNet(projected(4))


def byol() -> PretextObjective:
    net = ProjectedNet(backbone(), NormalizedHead(16, 12, P))
    return BYOL(PredictedNet(net, NormalizedHead(P, 12, P)).double(), momentum=0.9, total_steps=STEPS)


def rotnet_parts() -> PretextObjective:
    """Without normalisation: workers cut their slices into parts, one worker takes the batch whole."""
    torch.manual_seed(3)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(108, 16), nn.Tanh())
    return RotNet(ProjectedNet(flat, nn.Linear(16, 4)).double())


BUILDS: dict[str, Callable[[], PretextObjective]] = {
    f.__name__: f for f in (simclr, moco, instdisc, rotnet, byol, rotnet_parts)
}


def batch_of(objective: PretextObjective, step: int, edges: list[int], rank: int) -> dict[str, Any]:
    """This rank's slice of a step's global batch, the same on every rank."""
    mine = slice(edges[rank], edges[rank + 1])
    rng = np.random.default_rng(step)
    rows, noise = rng.permutation(N)[:B], rng.integers(0, N, (B, M))
    return {
        "views": pixels(step, "views")[: len(objective.numbers), mine],
        "rows": torch.from_numpy(rows)[mine],
        "noise": torch.from_numpy(noise)[mine],
        "count": B,
        # half of the steps say the sizes of all slices, in the others workers ask each other
        **({"sizes": np.diff(edges).tolist()} if step % 2 else {}),
    }


def backward(objective: PretextObjective, batch: Batch) -> Mapping[str, torch.Tensor]:
    terms = objective.loss(batch)
    (terms.total * comms.world_size()).backward()
    return terms.parts


def train_one(rank: int, name: str, edges: list[int], half: dict[str, Any] | None = None) -> dict[str, Any]:
    """All steps, or those after the half that `half` comes from; states as bytes, for the way between."""
    torch.manual_seed(11)
    objective = BUILDS[name]()
    optimizer = torch.optim.SGD(objective.module.parameters(), lr=0.05, momentum=0.9)
    if half is not None:
        objective.load_state_dict(unpack(half["objective"]))
        restore_optimizer(optimizer, unpack(half["optimizer"]))
    losses, gradients, saved = [], {}, {}
    for step in range(0 if half is None else STEPS // 2, STEPS):
        is_cut = name == "rotnet_parts" and comms.is_distributed()
        *first, last = microbatches(batch_of(objective, step, edges, rank), 2 if is_cut else 1)
        with comms.no_gradient_sync(objective.net):
            shares = [backward(objective, part) for part in first]
        shares.append(backward(objective, last))
        if step == 0:
            gradients = {k: p.grad.clone().numpy() for k, p in objective.module.named_parameters()}
        optimizer.step()
        optimizer.zero_grad()
        objective.after_step()
        if step + 1 == STEPS // 2:
            saved = {
                "objective": pack(objective.state_dict()),
                "optimizer": pack(optimizer_tensors(optimizer)),
            }
        names = sorted(shares[0])
        summed = torch.stack([sum(share[k].double() for share in shares) for k in names])
        losses.append(dict(zip(names, comms.all_reduce(summed).tolist(), strict=True)))
    state = {k: v.numpy() for k, v in objective.state_dict().items()}
    return {"losses": losses, "gradients": gradients, "state": state, "half": saved}


def train_all(rank: int, edges: list[int]) -> dict[str, Any]:
    """All objectives in one world: starting the processes costs more than the training."""
    return {name: train_one(rank, name, edges) for name in BUILDS}


@cache
def together(world: int) -> list[Any]:
    return run_in_world(len(WORLDS[world]) - 1, train_all, WORLDS[world])


@cache
def alone(name: str) -> dict[str, Any]:
    return train_one(0, name, [0, B])


@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.parametrize("world", range(len(WORLDS)))
def test_workers_equal_one(name: str, world: int) -> None:
    """Loss, what is logged, first gradients, final weights, statistics, queue, bank, slow copies."""
    one = alone(name)
    for worker in (rank[name] for rank in together(world)):
        for theirs, mine in zip(worker["losses"], one["losses"], strict=True):
            assert theirs == pytest.approx(mine, rel=1e-9)
        for part in ("gradients", "state"):
            assert worker[part].keys() == one[part].keys()
            for key, value in one[part].items():
                np.testing.assert_allclose(
                    worker[part][key], value, rtol=1e-9, atol=1e-12, err_msg=f"{part} {key}"
                )


@pytest.mark.parametrize("name", BUILDS)
def test_a_training_goes_on_with_another_number_of_workers(name: str) -> None:
    """Half of it on three workers, the other half on one: queue, bank and slow copies come along."""
    half = together(1)[0][name]["half"]
    one, went_on = alone(name), train_one(0, name, [0, B], half)
    for theirs, mine in zip(went_on["losses"], one["losses"][STEPS // 2 :], strict=True):
        assert theirs == pytest.approx(mine, rel=1e-9)
    for key, value in one["state"].items():
        np.testing.assert_allclose(went_on["state"][key], value, rtol=1e-9, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("name", BUILDS)
def test_it_learns_something(name: str) -> None:
    """Guards the equality above against a loss without gradient."""
    one = alone(name)
    assert len({round(step["loss"], 12) for step in one["losses"]}) == STEPS
    assert all(np.abs(g).max() > 0 for k, g in one["gradients"].items() if "bias" not in k)
