"""What the loop does to be quick, and that it changes no result: parts, LARS, precision, no waiting host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rayscan.config import OptimizerConfig, PretextConfig
from rayscan.engine import precision
from rayscan.engine.checkpoint import Checkpoints
from rayscan.engine.lars import Lars
from rayscan.engine.loop import LoopSettings, Training
from rayscan.engine.microbatches import microbatches
from rayscan.nets.heads import ProjectedNet
from rayscan.objectives.base import Batch
from rayscan.objectives.moco import MoCo
from rayscan.objectives.pretext import PretextObjective
from rayscan.objectives.pretexts import build_objective, build_projected_net
from rayscan.objectives.rotnet import RotNet
from rayscan.storage import Place

METHODS = ("simclr", "moco", "instdisc", "rotnet", "byol")
B, N, M, STEPS = 6, 8, 3, 3


def small(method: str) -> PretextObjective:
    own = {"moco": {"queue_size": 16}, "instdisc": {"noise_samples": M}}.get(method, {})
    settings = PretextConfig.variants()[method](backbone="resnet10_w16", projection_dim=8, **own)
    torch.manual_seed(0)
    net = build_projected_net(settings).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return build_objective(settings, net, num_images=N, total_steps=10)


def batch_of(step: int, views: int, dtype: torch.dtype = torch.float32, side: int = 8) -> Batch:
    rng = np.random.default_rng(step)
    return {
        "views": torch.from_numpy(rng.normal(size=(views, B, 3, side, side))).to(dtype),
        "rows": torch.from_numpy(rng.permutation(N)[:B]),
        "noise": torch.from_numpy(rng.integers(0, N, (B, M))),
        "count": B,
        "sizes": [B],
    }


class Fed:
    """The same batches for everybody."""

    num_steps = STEPS

    def __init__(self, objective: PretextObjective, dtype: torch.dtype = torch.float32) -> None:
        self.views, self.dtype = len(objective.numbers), dtype

    def start(self, epoch: int, step: int, epochs: int) -> None:
        """Nothing to make ahead."""

    def close(self) -> None:
        """Nothing to stop."""

    def gids(self, epoch: int, step: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.arange(B)

    def batch(self, epoch: int, step: int) -> Batch:
        return batch_of(step, self.views, self.dtype)


def training(
    objective: PretextObjective, place: Path, dtype: torch.dtype = torch.float32, **settings: Any
) -> Training:
    optimizer = OptimizerConfig(kind=settings.pop("kind", "sgd"), learning_rate=0.01)
    loop = LoopSettings(1, optimizer, log_every_steps=STEPS, checkpoint_every_seconds=1e9, **settings)
    place_of = Place(str(place))
    return Training(objective, Fed(objective, dtype), loop, Checkpoints(place_of, "f"), lambda _: None)


class Waits(TorchDispatchMode):
    """Notes every operation that makes a host wait for a device."""

    NAMES = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if any(name == n or name.startswith(f"{n}_") for n in self.NAMES):
            self.seen.append(name)
        if name in ("index", "index_put", "index_put_") and any(
            t is not None and t.dtype == torch.bool for t in args[1]
        ):
            self.seen.append(f"{name} by a mask")
        return func(*args, **(kwargs or {}))


def test_the_guard_sees_an_item() -> None:
    with Waits() as waits:
        torch.ones(1).item()
        bool(torch.ones(1) > 0)
        torch.ones(3)[torch.ones(3) > 0]
    assert len(waits.seen) == 3


@pytest.mark.parametrize("kind", ["sgd", "lars"])
@pytest.mark.parametrize("method", METHODS)
def test_no_step_makes_the_host_wait(method: str, kind: str, tmp_path: Path) -> None:
    """Forward, loss, backward, optimizer and what follows a step; logging, which waits, is not a step."""
    objective = small(method)
    run = training(objective, tmp_path, kind=kind)
    batches = [batch_of(step, len(objective.numbers)) for step in range(2)]
    with Waits() as waits:
        for batch in batches:
            run._train_step(batch)
    assert waits.seen == []


@pytest.mark.parametrize("method", METHODS)
def test_the_net_compiles_without_a_break(method: str) -> None:
    objective = small(method)
    net = torch.compile(objective.module, backend="eager", fullgraph=True, dynamic=False)
    x = batch_of(0, 1)["views"][0]
    torch.testing.assert_close(net(x), objective.module(x))


def test_forward_and_loss_of_simclr_compile_without_a_break() -> None:
    objective = small("simclr")
    batch = {"views": batch_of(0, 2)["views"], "count": B, "sizes": [B]}

    def loss(views: Tensor) -> Tensor:
        return objective.loss({**batch, "views": views}).total

    whole = torch.compile(loss, backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(whole(batch["views"]), loss(batch["views"]))


def plain_net(out: int) -> ProjectedNet:
    """Without normalisation, which would see the parts."""
    torch.manual_seed(0)
    return ProjectedNet(nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.Tanh()), nn.Linear(6, out)).double()


@pytest.mark.parametrize(
    "build",
    [lambda: RotNet(plain_net(4)), lambda: MoCo(plain_net(5), 0.3, 16, 0.9, 5)],
    ids=["rotnet", "moco"],
)
@pytest.mark.parametrize("parts", [2, 4])
def test_parts_give_the_same_weights_and_state(
    build: Callable[[], PretextObjective], parts: int, tmp_path: Path
) -> None:
    whole, cut = build(), build()
    rows = training(whole, tmp_path / "whole", torch.float64).run().rows
    cut_rows = training(cut, tmp_path / "cut", torch.float64, accumulate_steps=parts).run().rows
    for (*_, name, value), (*_, cut_name, cut_value) in zip(rows, cut_rows, strict=True):
        assert (cut_name, cut_value) == (name, pytest.approx(value, rel=1e-9))
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(cut.state_dict()[key], value, rtol=1e-9, atol=1e-12)


def test_parts_cover_every_worker_slice() -> None:
    batch = {**batch_of(0, 2), "sizes": [6, 5]}
    parts = microbatches(batch, 4)
    assert [p["views"].shape[1] for p in parts] == [2, 2, 1, 1]
    assert [p["sizes"] for p in parts] == [[2, 2], [2, 1], [1, 1], [1, 1]]
    assert torch.equal(torch.cat([p["views"] for p in parts], dim=1), batch["views"])
    assert torch.equal(torch.cat([p["rows"] for p in parts]), batch["rows"])
    assert all(p["count"] == B for p in parts)


def naive_lars(w: Tensor, grads: list[Tensor], rate: float, decay: float, trust: float) -> Tensor:
    """LARS paper, Algorithm 1, momentum 0.9; trust None for weights that are not scaled."""
    v = torch.zeros_like(w)
    for g in grads:
        size, slope = float(w.norm()), float(g.norm())
        scale = trust * size / (slope + decay * size) if trust and size and slope else 1.0
        v = 0.9 * v + rate * scale * (g + decay * w)
        w = w - v
    return w


@pytest.mark.parametrize(("shape", "is_scaled"), [((4, 3), True), ((2, 3, 3, 3), True), ((5,), False)])
def test_lars_equals_naive(shape: tuple[int, ...], is_scaled: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, dtype=torch.float64, generator=generator)
    grads = [torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(4)]
    weight = nn.Parameter(start.clone())
    optimizer = Lars([weight], 0.3, weight_decay=0.02, trust=0.1)
    for g in grads:
        weight.grad = g.clone()
        optimizer.step()
    expected = naive_lars(start, grads, 0.3, 0.02, 0.1 if is_scaled else 0.0)
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-12, atol=1e-12)


def test_lars_leaves_zeros_unscaled() -> None:
    weight = nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.ones(2, 2)
    Lars([weight], 0.5).step()
    assert torch.equal(weight.detach(), torch.full((2, 2), -0.5))


def test_half_precision_keeps_loss_weights_and_statistics_in_fp32(tmp_path: Path) -> None:
    objective = small("simclr")
    run = training(objective, tmp_path, precision="bf16")
    kinds: list[torch.dtype] = []
    objective.encoder.backbone.register_forward_hook(lambda _m, _i, out: kinds.append(out.dtype))
    terms = run._train_step(batch_of(0, 2))
    assert kinds == [torch.bfloat16]
    assert terms.total.dtype == torch.float32
    state = {**objective.module.state_dict()}
    assert {v.dtype for v in state.values()} <= {torch.float32, torch.int64}
    assert float(state["backbone.bn1.running_var"].std()) > 0


def test_half_precision_needs_units_and_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    convolutions, products = nn.Conv2d(3, 3, 1), nn.Linear(3, 3)
    for has_units in (True, False):
        monkeypatch.setattr(precision, "has_bf16_units", lambda has=has_units: has)
        assert precision.is_half("auto", "cpu", convolutions) is has_units
        assert not precision.is_half("auto", "cpu", products)
        assert precision.is_half("bf16", "cpu", products)
        assert not precision.is_half("fp32", "cuda", convolutions)
        assert precision.is_half("auto", "cuda", products)


def test_measured_times_are_logged_apart(tmp_path: Path) -> None:
    history = training(small("rotnet"), tmp_path).run()
    names = {name for *_, name, _ in history.timings}
    assert names == {
        "seconds_data",
        "seconds_compute",
        "seconds_communication",
        "seconds_checkpoint",
        "images_per_second",
    }
    assert not names & {name for *_, name, _ in history.rows}
    values = {name: value for *_, name, value in history.timings}
    assert values["seconds_compute"] > 0
    assert values["images_per_second"] > 0


def test_every_objective_can_be_told_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: asked.append(self))
    for method in METHODS:
        objective = small(method)
        objective.compile_nets()
        slow = {"moco": "key_encoder", "byol": "target"}.get(method)
        assert asked == [objective.module, *([getattr(objective, slow)] if slow else [])]
        asked.clear()


class CutError(Exception):
    """The power went out."""


class Cut(Fed):
    """Cuts the power before a step."""

    def __init__(self, objective: PretextObjective, at: int | None) -> None:
        super().__init__(objective)
        self.at = at

    def batch(self, epoch: int, step: int) -> Batch:
        if step == self.at:
            raise CutError
        return super().batch(epoch, step)


@pytest.mark.parametrize("method", METHODS)
def test_cut_and_resumed_equals_uninterrupted(method: str, tmp_path: Path) -> None:
    """Queue, bank, slow copies and their counters come back with the same bits."""

    def train(place: str, at: int | None) -> Training:
        objective = small(method)
        loop = LoopSettings(
            1, OptimizerConfig(learning_rate=0.01), log_every_steps=1, checkpoint_every_seconds=0.0
        )
        checkpoints = Checkpoints(Place(str(tmp_path / place)), "f")
        run = Training(objective, Cut(objective, at), loop, checkpoints, lambda _: None)
        try:
            run.run()
        except CutError:
            run.checkpoints.wait()
        return run

    whole = train("whole", None)
    train("cut", 2)
    resumed = train("cut", None)
    assert whole.step == resumed.step == STEPS
    assert whole.history.rows == resumed.history.rows
    for key, value in whole.objective.state_dict().items():
        assert torch.equal(value, resumed.objective.state_dict()[key]), key
