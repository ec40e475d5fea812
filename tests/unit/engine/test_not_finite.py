"""What is not finite once changes nothing; what comes again ends the training, blamed on a batch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rayscan.config import OptimizerConfig
from rayscan.data.order import rank_slice
from rayscan.engine.checkpoint import META, STATE, Checkpoints
from rayscan.engine.loop import LoopSettings, Training
from rayscan.engine.not_finite import LOG, images_of, max_entry, sum_entries
from rayscan.engine.optimizer import optimizer_tensors
from rayscan.engine.tensors import pack, unpack
from rayscan.errors import DataError
from rayscan.objectives.base import Batch, LossTerms, Objective
from rayscan.storage import Place
from tests.unit.engine.test_resume import EPOCHS, STEPS, D, Features, scan_heads, selflabel
from tests.unit.engine.test_speed import METHODS, Fed, small

GIDS = np.array([41, 7, 90, 12, 3, 55, 68, 20, 33, 9])


class Glitches(Features):
    """Spoils the batches of given steps: as often as it is told, and no more."""

    def __init__(self, at: dict[int, int], value: float = float("nan")) -> None:
        super().__init__()
        self.left, self.value = dict(at), value

    def gids(self, epoch: int, step: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        return GIDS

    def batch(self, epoch: int, step: int) -> Batch:
        batch = dict(super().batch(epoch, step))
        number = epoch * STEPS + step
        if self.left.get(number, 0):
            self.left[number] -= 1
            batch |= {k: v * self.value for k, v in batch.items() if isinstance(v, Tensor)}
        return batch


class Watched(Place):
    """Notes whether every state that is written is finite."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.finite: list[bool] = []

    def write(self, name: str, data: bytes | memoryview) -> None:
        if name.endswith(STATE):
            floats = [v for v in unpack(bytes(data)).values() if v.is_floating_point()]
            self.finite.append(all(bool(v.isfinite().all()) for v in floats))
        super().write(name, data)


def training(
    objective: Objective, feed: Any, place: Place, every: float = 0.0, log_every: int = 1, **more: Any
) -> Training:
    optimizer = OptimizerConfig(kind=more.pop("kind", "sgd"), learning_rate=more.pop("rate", 0.1))
    settings = LoopSettings(
        more.pop("epochs", EPOCHS), optimizer, checkpoint_every_seconds=every, log_every_steps=log_every
    )
    return Training(objective, feed, settings, Checkpoints(place, "f"), lambda _: None)


def digest(run: Training) -> tuple[str, str, str]:
    """Of weights and state, optimizer, and the rows of metrics."""
    state = run.objective.state_dict()
    parts = pack(state), pack(optimizer_tensors(run.optimizer)), json.dumps(run.history.rows).encode()
    one, two, three = (hashlib.sha256(part).hexdigest() for part in parts)
    return one, two, three


@pytest.mark.parametrize("build", [scan_heads, selflabel])
@pytest.mark.parametrize("kind", ["sgd", "adam", "lars"])
@pytest.mark.parametrize(("at", "log_every"), [(0, 1), (1, 3), (5, 4), (7, 4), (11, 10)])
@pytest.mark.parametrize("every", [0.0, 1e9])
def test_one_glitch_changes_nothing(
    build: Callable[[], Objective], kind: str, at: int, log_every: int, every: float, tmp_path: Path
) -> None:
    settings = {"kind": kind, "every": every, "log_every": log_every}
    whole = training(build(), Features(), Place(str(tmp_path / "whole")), **settings)
    whole.run()
    place = Watched(str(tmp_path / "glitch"))
    feed = Glitches({at: 1})
    healed = training(build(), feed, place, **settings)
    healed.run()
    assert feed.left == {at: 0}, "nothing was spoilt"
    assert digest(healed) == digest(whole)
    assert place.finite and all(place.finite), "a checkpoint holds NaN"
    (known,) = json.loads(place.read(LOG))
    assert (known["step"], known["epoch"], known["batch"]) == (at, at // STEPS, at % STEPS)
    assert known["gids"] == GIDS.tolist()
    assert 0 <= known["back_to"] <= at
    rows = [row for row in healed.history.timings if row[2] == "rolled_back"]
    assert [row[:2] for row in rows] == [[at / STEPS, at]]
    assert rows[0][3] >= 1


@pytest.mark.parametrize("method", METHODS)
def test_every_pretext_goes_back_with_all_its_state(method: str, tmp_path: Path) -> None:
    """Queues, banks and averages have seen NaN before the training goes back."""

    class Once(Fed):
        left = 1

        def batch(self, epoch: int, step: int) -> Batch:
            batch = dict(super().batch(epoch, step))
            if step == 1 and self.left:
                self.left = 0
                batch["views"] = batch["views"] * float("inf")
            return batch

    runs = []
    for name, kind in (("whole", Fed), ("glitch", Once)):
        objective = small(method)
        feed = kind(objective)
        run = training(objective, feed, Place(str(tmp_path / name)), 1e9, 3, epochs=1, rate=0.01)
        run.run()
        runs.append(digest(run))
    assert feed.left == 0  # type: ignore[attr-defined]
    assert runs[0] == runs[1]


def test_what_comes_again_ends_with_its_reason_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    place = Watched(str(tmp_path))
    whole = training(scan_heads(), Features(), Place(str(tmp_path / "whole")), log_every=3)
    whole.run()
    for attempt in range(2):  # the same command again is no better
        feed = Glitches({6: 99}, float("inf"))
        with pytest.raises(DataError, match="not finite") as caught:
            training(scan_heads(), feed, place, log_every=3).run()
        text = str(caught.value)
        assert "second time at this step" in text
        assert "step 6 (epoch 1, batch 2 of 4)" in text
        assert "10 images, gids 3 to 90" in text
        assert "worker 0 of 1" in text
        assert "learning rate" in text
        assert 99 - feed.left[6] == (2, 1)[attempt]
    assert all(place.finite)
    found = Checkpoints(place, "f").newest()
    assert found is not None
    assert found.step <= 6
    assert len(json.loads(place.read(LOG))) == 3
    mended = training(scan_heads(), Features(), place, log_every=3)
    mended.run()
    assert digest(mended) == digest(whole)


def test_another_one_before_the_next_checkpoint_ends_it_too(tmp_path: Path) -> None:
    """Else a loss that turns to NaN a little later each time would never end."""
    feed = Glitches({4: 1, 5: 1})
    with pytest.raises(DataError, match="second time since the checkpoint of step 0"):
        training(scan_heads(), feed, Place(str(tmp_path)), every=1e9).run()


def test_glitches_apart_are_each_survived(tmp_path: Path) -> None:
    whole = training(scan_heads(), Features(), Place(str(tmp_path / "whole")))
    whole.run()
    run = training(scan_heads(), Glitches({2: 1, 5: 1, 9: 1}), Place(str(tmp_path / "glitches")))
    end = run.run()
    assert digest(run) == digest(whole)
    assert len(run.incident_log.incidents) == 3
    assert len([row for row in end.timings if row[2] == "rolled_back"]) == 3


class Toy(Objective):
    """A loss of one's own of a single layer."""

    def __init__(self, loss: Callable[[Tensor], Tensor]) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Linear(D, 1))
        self.of = loss

    def loss(self, batch: Batch) -> LossTerms:
        total = self.of(self.net(batch["anchors"]))
        return LossTerms(total, {"loss": total.detach()})


def test_a_gradient_that_is_not_finite_is_seen_though_the_loss_is(tmp_path: Path) -> None:
    """The slope of sqrt at 0 is infinite, and infinity times 0 is not a number."""
    objective = Toy(lambda x: (0 * x).sqrt().sum())
    with pytest.raises(DataError, match="in a gradient, though the loss is finite"):
        training(objective, Features(), Place(str(tmp_path))).run()


def test_large_gradients_are_finite(tmp_path: Path) -> None:
    """Their squares would not be, in fp32."""
    run = training(Toy(lambda x: 1e30 * x.sum()), Features(), Place(str(tmp_path)), rate=1e-32)
    run.run()
    assert run.step == EPOCHS * STEPS


@pytest.mark.parametrize("witness", [max_entry, sum_entries])
def test_one_number_bears_witness_to_all(witness: Callable[[list[Tensor]], Tensor]) -> None:
    def of(*values: float) -> float:
        return float(witness([torch.ones(3, 3), torch.tensor(values), torch.ones(1)]))

    assert all(math.isfinite(of(*values)) for values in ((0.0, -1.0), (1e30, -1e30), (-1e35, 0.0)))
    nan, inf = math.nan, math.inf
    for values in ((nan, 1.0), (inf, 1.0), (-inf, 1.0), (inf, -inf), (nan, inf)):
        assert not math.isfinite(of(*values)), values


def test_a_state_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    checkpoints = Checkpoints(Place(str(tmp_path)), "f")
    checkpoints.save(1, {"w": torch.ones(3), "n": torch.tensor([1])}, {})
    checkpoints.save(2, {"w": torch.tensor([1.0, torch.inf]), "n": torch.tensor([1])}, {})
    checkpoints.wait()
    assert checkpoints.trouble.startswith("the state after step 2 is not finite and is not kept: w")
    assert len(list(tmp_path.glob(f"*/{META}"))) == 1
    checkpoints.save(3, {"w": torch.ones(2)}, {})
    checkpoints.close()
    assert checkpoints.trouble == ""


def test_images_are_those_of_the_workers_that_are_named() -> None:
    assert images_of(GIDS, (), 3) == tuple(GIDS.tolist())
    want = [*rank_slice(GIDS, 0, 3), *rank_slice(GIDS, 2, 3)]
    assert images_of(GIDS, (0, 2), 3) == tuple(int(gid) for gid in want)
    assert 0 < len(want) < len(GIDS)


def test_no_step_is_taken_on_a_loss_that_is_not_finite_though_its_gradient_is(tmp_path: Path) -> None:
    """A flipped bit of the value alone: weights would stay finite, and a checkpoint of them be kept."""
    calls = [0]

    def flipped(x: Tensor) -> Tensor:
        calls[0] += 1
        return x.square().mean() + (torch.inf if calls[0] == 6 else 0.0)

    whole = training(Toy(lambda x: x.square().mean()), Features(), Place(str(tmp_path / "a")), log_every=4)
    whole.run()
    place = Watched(str(tmp_path / "b"))
    run = training(Toy(flipped), Features(), place, log_every=4)
    run.objective.after_step = run.checkpoints.wait  # type: ignore[method-assign]
    run.run()  # so that there is a checkpoint after every step
    assert run.incident_log.incidents[0]["step"] == 5
    assert run.incident_log.incidents[0]["back_to"] == 5
    assert digest(run) == digest(whole)
