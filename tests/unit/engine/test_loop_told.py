"""What the loop asks of a feed, tells its caller, writes into its history and keeps in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rayscan.config import OptimizerConfig
from rayscan.engine.checkpoint import Checkpoints
from rayscan.engine.loop import LoopSettings, Training
from rayscan.objectives.base import Batch, EpochEnd, LossTerms, Objective
from rayscan.storage import Place

STEPS, EPOCHS, TOTAL = 4, 3, 12
NAN = float("nan")


class Asked:
    """Batches whose slope is the number of the step from 1; notes what it is asked, spoils some once."""

    num_steps = STEPS

    def __init__(self, *spoilt: int) -> None:
        self.spoilt = set(spoilt)
        self.calls: list[tuple[Any, ...]] = []

    def start(self, epoch: int, step: int, epochs: int) -> None:
        self.calls.append(("start", epoch, step, epochs))

    def close(self) -> None:
        self.calls.append(("close",))

    def gids(self, epoch: int, step: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        self.calls.append(("gids", epoch, step))
        return np.arange(3) + 100 * epoch + 10 * step

    def batch(self, epoch: int, step: int) -> Batch:
        self.calls.append(("batch", epoch, step))
        number = epoch * STEPS + step
        slope = float(number + 1)
        if number in self.spoilt:
            self.spoilt.remove(number)
            slope = NAN
        return {"slope": torch.full((3,), slope, dtype=torch.float64), "count": 3}


class Line(Objective):
    """One weight w; the loss of step t is (t + 1) w. Stops at the end of an epoch if told to."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__(nn.Linear(1, 1, bias=False).double())
        nn.init.constant_(self.module.weight, 2.0)
        self.stop_after, self.after_steps, self.is_last = stop_after, 0, list[bool]()

    def loss(self, batch: Batch) -> LossTerms:
        total = (self.module.weight.mean() * batch["slope"]).sum() / batch["count"]
        return LossTerms(total, {"loss": total.detach(), "slope": batch["slope"].sum() / batch["count"]})

    def after_step(self) -> None:
        self.after_steps += 1

    def end_epoch(self, epoch: int, *, is_last: bool) -> EpochEnd:
        self.is_last.append(is_last)
        return EpochEnd({"ended": float(epoch)}, should_stop=epoch == self.stop_after)


class Pen:
    """Collects what is reported."""

    def __init__(self) -> None:
        self.said: list[Mapping[str, Any]] = []

    def __call__(self, row: Mapping[str, Any]) -> None:
        self.said.append(row)


def made(
    place: Path, feed: Any, objective: Objective | None = None, pen: Any = None, **settings: Any
) -> Training:
    optimizer = OptimizerConfig(kind="sgd", learning_rate=0.01, weight_decay=0.0, schedule="constant")
    loop = LoopSettings(EPOCHS, optimizer, **{"log_every_steps": 3, **settings})
    checkpoints = Checkpoints(Place(str(place)), "f")
    return Training(objective or Line(), feed, loop, checkpoints, pen or Pen())


def weights(start: int = 0) -> list[float]:
    """w before each step: v <- 0.9 v + g, w <- w - 0.01 v."""
    w, v, seen = 2.0, 0.0, []
    for step in range(start, TOTAL):
        seen.append(w)
        v = 0.9 * v + step + 1
        w -= 0.01 * v
    return seen


LOGGED = [3, 4, 6, 8, 9, 12]  # every third step, and the ends of epochs


def test_rows_at_every_few_steps_and_at_the_ends_of_epochs(tmp_path: Path) -> None:
    pen = Pen()
    history = made(tmp_path, Asked(), pen=pen).run()
    expected = []
    for step in LOGGED:
        w = weights()[step - 1]
        values = {"loss": w * step, "slope": float(step), "learning_rate": 0.01}
        expected += [[step / STEPS, step, name, pytest.approx(value)] for name, value in values.items()]
        if step % STEPS == 0:
            expected.append([step / STEPS, step, "ended", step / STEPS - 1])
    assert history.rows == expected
    timed = [row[:3] for row in history.timings]
    names = {name for _, _, name in timed}
    assert {"seconds_data", "seconds_compute", "seconds_checkpoint", "images_per_second"} <= names
    assert {tuple(row) for row in timed} == {(step / STEPS, step, name) for step in LOGGED for name in names}
    assert len(timed) == len(LOGGED) * len(names)


def test_reports_say_step_total_values_and_times(tmp_path: Path) -> None:
    pen = Pen()
    history = made(tmp_path, Asked(), pen=pen).run()
    for step, said in zip(LOGGED, pen.said, strict=True):
        rows = [*history.rows, *history.timings]
        values = {name: value for _, at, name, value in rows if at == step and name != "ended"}
        assert said == {"step": step, "total": TOTAL, **values}


def test_times_are_of_the_images_since_the_row_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that ticks one second at a time, of which only steps and images matter here."""
    ticks = iter(range(10**6))
    monkeypatch.setattr("rayscan.engine.clock.time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    history = made(tmp_path, Asked()).run()
    steps = dict(zip(LOGGED, np.diff([0, *LOGGED]), strict=True))
    for step, count in steps.items():
        values = {name: value for _, at, name, value in history.timings if at == step}
        assert values["seconds_data"] == values["seconds_compute"] == count


def test_the_feed_is_told_where_a_training_begins_and_that_it_is_over(tmp_path: Path) -> None:
    feed = Asked()
    made(tmp_path, feed).run()
    batches = [("batch", *divmod(step, STEPS)) for step in range(TOTAL)]
    assert feed.calls == [("start", 0, 0, EPOCHS), *batches, ("close",)]


@pytest.mark.parametrize("spoilt", [5, 8])
def test_going_back_names_the_images_and_starts_the_feed_again(spoilt: int, tmp_path: Path) -> None:
    """The one checkpoint is of step 0: all batches come again, from the first."""
    feed = Asked(spoilt)
    pen = Pen()
    run = made(tmp_path, feed, pen=pen, checkpoint_every_seconds=1e9)
    history = run.run()
    seen = next(step for step in LOGGED if step > spoilt)  # its row finds it
    first = [("batch", *divmod(step, STEPS)) for step in range(seen)]
    again = [("batch", *divmod(step, STEPS)) for step in range(TOTAL)]
    begin = ("start", 0, 0, EPOCHS)
    gids = ("gids", *divmod(spoilt, STEPS))
    assert feed.calls == [begin, *first, gids, ("close",), begin, *again, ("close",)]
    assert [row[:2] for row in history.rows if row[2] == "loss"] == [[s / STEPS, s] for s in LOGGED]
    back = [row for row in history.timings if row[2] == "rolled_back"]
    assert back == [[spoilt / STEPS, spoilt, "rolled_back", float(seen)]]
    assert float(run.objective.module.weight.detach()) == pytest.approx(
        weights()[-1] - 0.01 * sum(0.9 ** (TOTAL - step) * step for step in range(1, TOTAL + 1))
    )
    reports = [said.get("rolled_back") for said in pen.said]
    early = sum(step < seen for step in LOGGED)
    assert reports == [None] * early + [1] * len(LOGGED)


def test_going_back_to_a_step_within_an_epoch(tmp_path: Path) -> None:
    """A checkpoint after every step: the batch that was spoilt comes again, and the feed begins with it."""
    feed = Asked(6)
    run = made(tmp_path, feed, checkpoint_every_seconds=0.0, log_every_steps=1)
    real = feed.batch

    def batch(epoch: int, step: int) -> Batch:
        run.checkpoints.wait()
        return real(epoch, step)

    feed.batch = batch  # type: ignore[method-assign]
    run.run()
    batches = [("batch", *divmod(step, STEPS)) for step in range(TOTAL)]
    again = [("gids", 1, 2), ("close",), ("start", 1, 2, EPOCHS)]
    assert feed.calls == [("start", 0, 0, EPOCHS), *batches[:7], *again, *batches[6:], ("close",)]
    assert all(type(value) is int for call in feed.calls for value in call[1:])


def test_what_asks_to_stop_stops_at_the_end_of_its_epoch(tmp_path: Path) -> None:
    feed, objective = Asked(), Line(stop_after=1)
    run = made(tmp_path, feed, objective, checkpoint_every_seconds=0.0)
    run.run()
    assert (run.step, objective.after_steps, objective.is_last) == (8, 8, [False, False])
    found = Checkpoints(Place(str(tmp_path)), "f").newest()
    assert found is not None
    if found.step == 8:  # a write that was under way may have taken its place
        again = made(tmp_path, Asked(), Line())
        again.run()
        assert again.step == 8


def test_the_last_epoch_is_told_that_it_is(tmp_path: Path) -> None:
    objective = Line()
    made(tmp_path, Asked(), objective).run()
    assert objective.is_last == [False, False, True]


def test_a_checkpoint_holds_history_weights_and_optimizer(tmp_path: Path) -> None:
    """As it was taken at the step it names, so that what comes after needs nothing else."""
    run = made(tmp_path, Asked())
    run.step, run.has_stopped = 7, True
    run.history.add(1.5, 6, {"loss": 0.25})
    run.history.add_timings(1.5, 6, {"seconds_data": 2.0})
    run._save()
    run.checkpoints.wait()
    again = made(tmp_path, Asked())
    assert (again.step, again.has_stopped) == (7, True)
    assert again.history.rows == [[1.5, 6, "loss", 0.25]]
    assert again.history.timings == [[1.5, 6, "seconds_data", 2.0]]
    feed = Asked()
    again.feed = feed
    again.run()
    assert feed.calls == [("start", 1, 3, EPOCHS), ("close",)]


def test_checkpoints_are_so_many_seconds_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second a step, one every three seconds: at 3, 6, 9 and 12; the one of step 0 is the first."""
    feed, now, saved = Asked(), [100.0], list[int]()
    monkeypatch.setattr("rayscan.engine.loop.time", SimpleNamespace(monotonic=lambda: now[0]))
    run = made(tmp_path, feed, checkpoint_every_seconds=3.0)
    real_batch, real_save = feed.batch, run.checkpoints.save

    def batch(epoch: int, step: int) -> Batch:
        run.checkpoints.wait()  # a write that is under way would put the next one off
        now[0] += 1.0
        return real_batch(epoch, step)

    def save(step: int, tensors: Any, notes: Any) -> None:
        saved.append(step)
        real_save(step, tensors, notes)

    feed.batch = batch  # type: ignore[method-assign]
    run.checkpoints.save = save  # type: ignore[method-assign]
    run.run()
    assert saved == [3, 6, 9, 12]


def test_trouble_with_checkpoints_is_reported(tmp_path: Path) -> None:
    pen = Pen()
    run = made(tmp_path, Asked(), pen=pen, checkpoint_every_seconds=1e9)
    run.checkpoints.wait()
    run.checkpoints.trouble = "no room"
    run.run()
    assert [said.get("alert") for said in pen.said] == ["no room"] * len(LOGGED)


class Half(Line):
    """Notes in which type a product of matrices comes out."""

    dtype: torch.dtype | None = None

    def loss(self, batch: Batch) -> LossTerms:
        self.dtype = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        return super().loss(batch)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_losses_run_in_the_precision_that_is_asked_for(
    precision: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    objective = Half()
    made(tmp_path, Asked(), objective, precision=precision).run()
    assert objective.dtype == dtype


def test_parts_sum_to_the_rows_of_the_whole(tmp_path: Path) -> None:
    one = made(tmp_path / "one", Asked()).run()
    three = made(tmp_path / "three", Asked(), accumulate_steps=3).run()
    assert three.rows == [[*row[:3], pytest.approx(row[3])] for row in one.rows]
