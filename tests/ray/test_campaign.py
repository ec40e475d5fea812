"""Long runs in windows: what each stage is charged with; no Ray is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.campaign import add_times, times_of
from rayscan.recipes import by_name


def record(out: Path, **stages: tuple[float, bool]) -> None:
    out.mkdir(exist_ok=True)
    told = {name: {"seconds": seconds, "reused": reused} for name, (seconds, reused) in stages.items()}
    (out / "run.json").write_text(json.dumps({"stages": told}))


def test_stages_add_up_over_windows(tmp_path: Path) -> None:
    """Two windows of 100 s: the first is cut in pretext, the second ends the run."""
    recipe, out = by_name("digits"), tmp_path / "run"
    record(out, index=(10.0, False))
    add_times(recipe, out, 100.0)
    assert times_of(out) == {"index": 10.0, "pretext": 90.0}
    done = {name: (2.0, False) for name in ("embed", "mine", "duplicates", "scan", "selflabel", "assign")}
    done["report"] = (2.0, False)
    record(out, index=(0.1, True), pretext=(60.0, False), **done)
    add_times(recipe, out, 100.0)
    sums = times_of(out)
    assert sums["pretext"] == 150.0
    assert sums["scan"] == 2.0
    assert sums["start-up"] == pytest.approx(100 - 60 - 14)
    assert sum(sums.values()) == pytest.approx(200.0)


def test_a_window_that_got_nowhere_is_charged_to_the_first_stage(tmp_path: Path) -> None:
    add_times(by_name("digits"), tmp_path, 30.0)
    assert times_of(tmp_path) == {"index": 30.0}
