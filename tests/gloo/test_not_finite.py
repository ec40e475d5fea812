"""One worker's loss is not finite: both know, both go back, and end as if nothing had happened."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rayscan.data.order import Order, rank_slice
from rayscan.engine.checkpoint import Checkpoints
from rayscan.engine.not_finite import LOG
from rayscan.errors import DataError
from rayscan.fleet.worker import Worker
from rayscan.storage import Place
from testing.chaos.toy import Toy, read_journal, train_toy
from testing.chaos.trial import is_same
from tests.gloo.world import run_in_world

TOY = Toy(out="", journal="", epochs=2, num_images=95, step_seconds=0.01, every_seconds=0.03, log_every=4)
AT = 13
"""Batch 3 of epoch 1: no row of metrics, so that two more steps are taken before anybody knows."""


def train(rank: int, toys: tuple[Toy, ...]) -> list[dict[str, Any]]:
    outcomes = []
    for toy in toys:
        try:
            outcomes.append(train_toy(toy, Worker(rank, 2, "cpu", lambda _: None)))
        except DataError as error:
            outcomes.append({"error": str(error)})
    return outcomes


def test_both_workers_go_back_or_end_together(tmp_path: Path) -> None:
    def toy(name: str, **more: int) -> Toy:
        return replace(TOY, out=str(tmp_path / name), journal=str(tmp_path / f"{name}-journal"), **more)

    once, other = toy("once", nan_at=AT, nan_rank=1, nan_times=1), toy("other", nan_at=AT, nan_times=1)
    always = toy("always", nan_at=AT, nan_rank=1)
    first, second = run_in_world(2, train, (toy("whole"), once, other, always))
    whole, healed, healed_too, ended = first
    assert healed["consumed_once"] and whole["consumed_once"]
    assert is_same(healed, whole)
    assert is_same(healed_too, whole)
    (known,) = json.loads(Place(once.out).read(LOG))
    gids = np.arange(TOY.num_images, dtype=np.int64)
    batch = Order(gids, TOY.batch_size, TOY.seed).batch(1, 3)
    assert (known["step"], known["workers"], known["world"]) == (AT, [1], 2)
    assert known["gids"] == rank_slice(batch, 1, 2).tolist()
    (known,) = json.loads(Place(other.out).read(LOG))
    assert known["gids"] == batch.tolist()
    steps = [line["step"] for line in read_journal(once.journal) if line.get("step")]
    assert steps.count(AT + 1) == 4, "two workers, twice"
    assert ended["error"] == second[3]["error"]
    assert f"step {AT} (epoch 1, batch 3 of 10)" in ended["error"]
    assert "worker 1 of 2" in ended["error"]
    found = Checkpoints(Place(always.out), "toy").newest()
    assert found is not None
    assert found.step <= AT
    assert all(v.isfinite().all() for v in found.tensors.values())
