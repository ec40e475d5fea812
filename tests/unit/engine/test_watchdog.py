"""A stalled worker says where it is; one that gets on is quiet; one that holds Python's lock is heard too."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from rayscan.config import SelaConfig
from rayscan.engine import watchdog
from rayscan.engine.forward import forward
from rayscan.engine.watchdog import Watchdog
from rayscan.nets.heads import ClusterHeads
from rayscan.objectives.sela import Sela, random_labels
from tests.unit.engine.test_resume import EPOCHS, STEPS, scan_heads, train

ROOT = Path(__file__).parents[3]

HOLDS_THE_LOCK = """
import re
from rayscan.engine.watchdog import Watchdog

def stands_here():
    re.match("(a+)+$", "a" * 64 + "b")  # for ages, without letting another thread run

Watchdog(1.0, lambda waited, stacks: print("told", flush=True))
stands_here()
"""


def until(is_so, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_stall_is_told_once_and_says_where() -> None:
    told: list[tuple[float, str]] = []
    is_free = threading.Event()

    def stands_here() -> None:
        is_free.wait()

    thread = threading.Thread(target=stands_here, name="the-one")
    thread.start()
    with watchdog.watching(0.3, lambda waited, stacks: told.append((waited, stacks))):
        until(lambda: len(told) == 1)
        time.sleep(1.0)
        assert len(told) == 1
        watchdog.heartbeat()
        until(lambda: len(told) == 2)
    is_free.set()
    thread.join()
    waited, stacks = told[0]
    assert waited >= 0.3
    assert stacks.startswith("thread MainThread\n")
    part = stacks.partition("thread the-one")[2].partition("\nthread ")[0]
    assert "in stands_here" in part
    assert "is_free.wait()" in part
    assert "in until" in stacks.partition("\nthread ")[0]


def test_heartbeats_keep_it_quiet_and_its_thread_ends() -> None:
    told: list[float] = []
    with watchdog.watching(1.0, lambda waited, _: told.append(waited)):
        for _ in range(30):
            time.sleep(0.05)
            watchdog.heartbeat()
    assert told == []
    watchdog.heartbeat()
    assert "watchdog" not in {thread.name for thread in threading.enumerate()}


def test_one_that_holds_the_lock_of_python_is_heard_too() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS_THE_LOCK], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        seen = b""
        while b"stands_here" not in seen:
            line = process.stderr.readline()
            assert line, "it ended"
            seen += line
    finally:
        process.kill()
        process.communicate()
    assert b"Timeout" in seen


def test_every_step_of_a_training_is_a_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int | None] = []
    monkeypatch.setattr(Watchdog, "beat", lambda _: steps.append(watchdog.current_step()))
    with watchdog.watching(60.0, lambda *_: None):
        assert watchdog.current_step() is None
        train(scan_heads(), tmp_path, "sgd", cut_at=5)
        assert watchdog.current_step() == 5, "where it was cut"
        train(scan_heads(), tmp_path, "sgd")
        watchdog.heartbeat()
        assert watchdog.current_step() == EPOCHS * STEPS - 1, "a heartbeat without a number leaves it"
    assert steps[:6] == [0, 1, 2, 3, 4, 5]
    assert steps[6:-1] == [*range(int(steps[6] or 0), EPOCHS * STEPS)]
    assert watchdog.current_step() is None


def test_long_passes_over_all_images_are_no_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[str] = []
    monkeypatch.setattr(watchdog, "heartbeat", lambda: beats.append("forward"))
    forward(lambda x: x, lambda gids: torch.zeros(len(gids), 1), np.arange(10), batch_size=4, device="cpu")
    assert beats == ["forward"] * 3

    labels = random_labels(1, 12, 3, seed=0)
    features = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    settings = SelaConfig(num_heads=1)
    objective = Sela(
        ClusterHeads(1, 4, 3),
        settings,
        labels,
        lambda _: features,
        lambda _: torch.zeros(1),
        1,
        on_pass=lambda: beats.append("pass"),
    )
    objective.relabel()
    assert beats.count("pass") == objective.facts["sinkhorn_iterations"] >= 2


def test_a_watchdog_ends_at_once() -> None:
    one = Watchdog(30.0, lambda *_: pytest.fail("it was told"))
    one.close()
    assert not one._thread.is_alive()
