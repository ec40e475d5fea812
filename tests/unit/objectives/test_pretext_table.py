"""From the name of a pretext method to its net, its objective, and what a batch of it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rayscan.config import PretextConfig, ViewKind
from rayscan.config.pretext import PRETEXTS
from rayscan.data.keyed import uniforms
from rayscan.nets.heads import NormalizedHead, ProjectedNet, ProjectionHead
from rayscan.objectives.byol import BYOL
from rayscan.objectives.instdisc import InstDisc
from rayscan.objectives.moco import MoCo
from rayscan.objectives.pretext import PretextObjective
from rayscan.objectives.pretexts import build_objective, build_projected_net
from rayscan.objectives.rotnet import RotNet
from rayscan.objectives.simclr import SimCLR
from rayscan.types import Ints

WIDTH = 128  # features of resnet10_w16: 16 channels doubled three times


def settings_of(method: Any, **more: Any) -> PretextConfig:
    return PRETEXTS[method](backbone="resnet10_w16", projection_dim=12, **more)


def made(settings: PretextConfig, num_images: int = 20, total_steps: int = 50) -> PretextObjective:
    net = build_projected_net(settings)
    return build_objective(settings, net, num_images=num_images, total_steps=total_steps)


def shapes(head: nn.Module) -> list[tuple[int, int]]:
    """(in, out) of the linear layers, in order."""
    return [(m.in_features, m.out_features) for m in head.modules() if isinstance(m, nn.Linear)]


@pytest.mark.parametrize("hidden", [None, 40])
@pytest.mark.parametrize(
    ("method", "kind", "layers"),
    [
        ("simclr", ProjectionHead, 2),
        ("moco", ProjectionHead, 2),
        ("byol", NormalizedHead, 2),
        ("instdisc", nn.Linear, 1),
        ("rotnet", nn.Linear, 1),
    ],
)
def test_the_projection_is_the_methods(method: str, kind: type, layers: int, hidden: int | None) -> None:
    """Two layers by way of the hidden width, or of the backbone's if none is asked for; four turns."""
    projection = build_projected_net(settings_of(method, projection_hidden_dim=hidden)).projection
    assert isinstance(projection, kind)
    width, out = hidden or WIDTH, 4 if method == "rotnet" else 12
    assert shapes(projection) == ([(WIDTH, width), (width, out)] if layers == 2 else [(WIDTH, out)])


@pytest.mark.parametrize("is_sync", [True, False])
def test_normalisation_is_over_the_global_batch_where_asked(is_sync: bool) -> None:
    objective = made(settings_of("byol", sync_batchnorm=is_sync))
    norms = [type(m) for m in objective.module.modules() if "BatchNorm" in type(m).__name__]
    assert len(norms) > 4
    assert all((kind in (nn.BatchNorm1d, nn.BatchNorm2d)) is not is_sync for kind in norms)


def test_numbers_reach_the_objective() -> None:
    simclr = made(settings_of("simclr", temperature=0.25))
    assert isinstance(simclr, SimCLR)
    assert simclr.temperature == 0.25
    assert isinstance(made(settings_of("rotnet")), RotNet)

    moco = made(settings_of("moco", temperature=0.25, queue_size=33, encoder_momentum=0.75))
    assert isinstance(moco, MoCo)
    assert (moco.temperature, moco.momentum, tuple(moco.queue.shape)) == (0.25, 0.75, (33, 12))

    instdisc = made(settings_of("instdisc", temperature=0.25, bank_momentum=0.375))
    assert isinstance(instdisc, InstDisc)
    assert (instdisc.temperature, instdisc.momentum, tuple(instdisc.bank.shape)) == (0.25, 0.375, (20, 12))

    byol = made(settings_of("byol", encoder_momentum=0.75, projection_hidden_dim=40))
    assert isinstance(byol, BYOL)
    assert (byol.momentum, byol.total_steps) == (0.75, 50)
    assert shapes(byol.module.predictor) == [(12, 40), (40, 12)]


def test_the_predictor_is_as_wide_as_the_backbone_if_no_width_is_asked_for() -> None:
    assert shapes(made(settings_of("byol")).module.predictor) == [(12, WIDTH), (WIDTH, 12)]


def test_the_encoder_of_each_method_is_the_net_that_was_built() -> None:
    for method in ("simclr", "moco", "instdisc", "rotnet", "byol"):
        settings = settings_of(method)
        net = build_projected_net(settings)
        assert build_objective(settings, net, num_images=20, total_steps=5).encoder is net


class Pictures:
    """A source of empty pictures that says which views it was asked for."""

    def __init__(self, gids: list[int], seed: int) -> None:
        self.gids, self.seed = np.array(gids), seed
        self.asked: list[tuple[list[int], str, int, tuple[int, ...]]] = []

    def plain(self, gids: Ints) -> Tensor:
        """Nobody asks for it."""
        raise AssertionError

    def strong(self, gids: Ints, family: ViewKind, epoch: int) -> Tensor:
        """Nor for it."""
        raise AssertionError

    def views(self, gids: Ints, family: ViewKind, epoch: int, numbers: tuple[int, ...]) -> Tensor:
        """[V, B, 3, 2, 2]."""
        self.asked.append((gids.tolist(), family, epoch, numbers))
        return torch.zeros(len(numbers), len(gids), 3, 2, 2)


def test_noise_rows_are_drawn_by_image() -> None:
    """floor(u N) for each of the image's numbers; rows are places among all train images."""
    source, mine = Pictures([2, 3, 5, 7, 11, 13, 17], seed=3), np.array([11, 2, 17])
    tensors = made(settings_of("instdisc", noise_samples=4)).batch(source, mine, 8)
    assert tensors.keys() == {"views", "rows", "noise"}
    assert tensors["rows"].tolist() == [4, 0, 6]
    numbers = [uniforms(3, 8, np.array([gid]), 0, "noise", 4)[0] for gid in mine]
    assert tensors["noise"].tolist() == [[int(u * 7) for u in row] for row in numbers]
    assert tensors["noise"].dtype == tensors["rows"].dtype == torch.int64
    assert source.asked == [([11, 2, 17], "simclr", 8, (0,))]


@pytest.mark.parametrize(
    ("method", "numbers"), [("simclr", (0, 1)), ("moco", (0, 1)), ("byol", (0, 1)), ("rotnet", (0,))]
)
def test_other_methods_need_views_alone(method: str, numbers: tuple[int, ...]) -> None:
    """Two views where views are compared, of the family that the settings name."""
    source = Pictures(list(range(9)), seed=0)
    tensors = made(settings_of(method, views="randaugment")).batch(source, np.arange(3), 5)
    assert tensors.keys() == {"views"}
    assert tensors["views"].shape == (len(numbers), 3, 3, 2, 2)
    assert source.asked == [([0, 1, 2], "randaugment", 5, numbers)]


class Onlooker(nn.Module):
    """Says what it was asked, and remembers a number."""

    number: Tensor

    def __init__(self, number: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("number", torch.tensor(number))
        self.asked: list[tuple[nn.Module, int, bool]] = []

    def measure(self, net: ProjectedNet, epoch: int, *, is_last: bool) -> Mapping[str, float]:
        self.asked.append((net, epoch, is_last))
        return {"rank": 1.5 + epoch}


def test_the_monitor_is_told_of_every_epoch_and_is_part_of_the_state() -> None:
    objective, again = made(settings_of("moco", queue_size=8)), made(settings_of("moco", queue_size=8))
    assert objective.end_epoch(0, is_last=False).metrics == {}
    objective.monitor, again.monitor = Onlooker(4.0), Onlooker()
    ends = [objective.end_epoch(epoch, is_last=epoch == 3) for epoch in (2, 3)]
    assert [end.metrics for end in ends] == [{"rank": 3.5}, {"rank": 4.5}]
    assert [end.should_stop for end in ends] == [False, False]
    assert objective.monitor.asked == [(objective.encoder, 2, False), (objective.encoder, 3, True)]
    again.load_state_dict({k: v.clone() for k, v in objective.state_dict().items()})
    assert float(again.monitor.number) == 4.0
    assert torch.equal(again.queue, objective.queue)
