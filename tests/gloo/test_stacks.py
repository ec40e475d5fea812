"""One worker stalls: it says where, and the one that waits for it says in which collective."""

from __future__ import annotations

import time

import torch

from rayscan import comms
from rayscan.engine import watchdog
from tests.gloo.world import run_in_world


def stands_here() -> None:
    time.sleep(3.0)


def work(rank: int) -> list[str]:
    told: list[str] = []
    with watchdog.watching(1.0, lambda _, stacks: told.append(stacks)):
        if rank:
            stands_here()
        comms.all_reduce(torch.ones(1))
    return told


def test_both_say_where_they_are() -> None:
    (waits,), (stands,) = run_in_world(2, work)
    first = waits.partition("\nthread ")[0]
    assert first.startswith("thread MainThread")
    assert "comms.all_reduce(torch.ones(1))" in first
    assert "stands_here" not in waits
    assert "in stands_here" in stands.partition("\nthread ")[0]
