"""Two workers, one, two, changed in mid-epoch: every image once, weights those of one worker (float64).

The loop, the order, the checkpoints and torch's process group are the real ones; Ray is not needed for this.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rayscan.fleet.worker import Worker
from testing.chaos.toy import CutError, Toy, read_journal, train_toy
from testing.chaos.trial import farthest
from tests.gloo.world import run_in_world

TOY = Toy(out="", journal="", epochs=3, num_images=95, step_seconds=0.02, every_seconds=0.02, is_double=True)


def train(rank: int, toy: Toy, world: int) -> dict[str, Any]:
    return train_toy(toy, Worker(rank, world, "cpu", lambda _: None))


def test_the_number_of_workers_changes_in_mid_epoch(tmp_path: Path) -> None:
    alone = train(0, replace(TOY, out=str(tmp_path / "alone"), journal=str(tmp_path / "a")), 1)
    toy = replace(TOY, out=str(tmp_path / "out"), journal=str(tmp_path / "journal"))
    with pytest.raises(AssertionError, match="CutError"):
        run_in_world(2, train, replace(toy, cut_at=7), 2)
    with pytest.raises(CutError):
        train(0, replace(toy, cut_at=14), 1)
    outcome = run_in_world(2, train, toy, 2)[0]
    assert outcome["consumed_once"]
    assert alone["consumed_once"]
    assert farthest(outcome, alone) < 1e-9
    assert outcome["weights"] != alone["weights"], "nothing was summed in another order: was it one worker?"
    taken_up = {x["world"]: x["resumed"] for x in read_journal(toy.journal) if x.get("resumed")}
    assert set(taken_up) == {1, 2}
    assert all(step % 10 for step in taken_up.values()), "cut at the end of an epoch"
