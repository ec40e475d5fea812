"""The harness of the benchmarks: turns are taken, ratios are within a round, the JSON says what was met."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import ceilings
from benchmarks.harness import (
    ROOT,
    Options,
    Report,
    Times,
    interleaved,
    options,
    peak_bytes,
    ratio,
    spread,
)


def test_contenders_take_turns_and_the_first_one_moves_on() -> None:
    order: list[str] = []
    times = interleaved({n: lambda n=n: order.append(n) for n in "abc"}, rounds=3, warmups=0)
    assert "".join(order) == "abc" + "bca" + "cab"
    assert {len(t.wall) for t in times.values()} == {len(t.cpu) for t in times.values()} == {3}


def test_warm_ups_are_run_and_not_counted() -> None:
    calls: list[int] = []
    times = interleaved({"a": lambda: calls.append(1) or len(calls)}, rounds=3, warmups=2)
    assert len(calls) == 5
    assert len(times["a"].wall) == 3
    assert times["a"].result == 5


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that is ten times slower in round two changes both sides, and no ratio."""
    ours, theirs = Times(cpu=[1.0, 10.0, 1.2]), Times(cpu=[2.0, 20.0, 2.0])
    assert ratio(ours, theirs) == {"median": 0.5, "min": 0.5, "max": 0.6, "rounds": [0.5, 0.5, 0.6]}


def test_cpu_seconds_cover_work_and_not_sleep() -> None:
    def work() -> int:
        return sum(i * i for i in range(300_000))

    times = interleaved({"work": work}, rounds=3, warmups=0)["work"]
    assert all(cpu > 0 for cpu in times.cpu)


def test_a_report_says_what_the_processor_multiplies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(Options(quick=True, json=tmp_path / "r.json", rounds=3), "some")
    report.ceilings()
    found = report.finish()["details"]["ceilings"]
    assert found["tflops_fp32"] > 0
    assert found["tflops_bf16"] > 0
    assert f"processor: {found['kind']}; product " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ({"amx_bf16": True, "avx512_bf16": True, "avx512_f": True, "avx2": True}, "AMX"),
        ({"avx512_bf16": True, "avx512_f": True, "avx2": True}, "AVX-512 with bfloat16"),
        ({"avx512_f": False, "avx2": True}, "AVX2"),
        ({}, "another"),
    ],
)
def test_the_kind_is_the_best_that_is_there(
    monkeypatch: pytest.MonkeyPatch, flags: dict[str, bool], kind: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    monkeypatch.setattr(ceilings, "SIDE", 8)
    assert ceilings.ceilings()["kind"] == kind


def in_child(code: str) -> int:
    """What a fresh process prints."""
    asked = f"from benchmarks.harness import peak_bytes\n{code}"
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, check=True)
    return int(done.stdout)


def test_peak_memory_is_what_was_held_for_a_moment() -> None:
    held = in_child("before = peak_bytes(); bytearray(b'x' * 300_000_000); print(peak_bytes() - before)")
    assert 250e6 < held < 700e6


def test_peak_memory_of_a_child_is_its_own() -> None:
    """Its parent holds 300 MB at least as it starts it."""
    held = bytearray(b"x" * 300_000_000)
    assert 0 < in_child("print(peak_bytes())") < 100e6 < len(held) <= peak_bytes()


def test_report_keeps_numbers_goals_and_where_they_come_from(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "report.json"
    report = Report(Options(quick=True, json=file, rounds=3), "knn")
    report.value("cpu_ratio", spread([1.0, 3.0, 2.0]), goal=("<=", 1.1))
    report.value("recall", 1.0, goal=(">=", 0.99))
    report.value("on_gpu", None, goal=("<=", 1.0))
    report.detail("rows", 1000)
    report.finish({"ours": Times(wall=[1.0], cpu=[1.0])})
    written = json.loads(file.read_text())
    assert (written["cpu_ratio"], written["recall"], written["on_gpu"]) == (2.0, 1.0, None)
    assert written["goals"]["cpu_ratio"] == {"goal": "<= 1.1", "is_met": False}
    assert written["goals"]["recall"]["is_met"] is True
    assert written["goals"]["on_gpu"]["is_met"] is None
    assert written["details"] == {"cpu_ratio": spread([1.0, 3.0, 2.0]), "rows": 1000}
    where = written["environment"]
    assert {"commit", "versions", "processor", "cores", "memory_bytes", "load_before"} <= set(where)
    assert where["versions"]["numpy"]


def test_fewer_than_three_rounds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert options("help", ["--quick"]) == Options(quick=True, json=None, rounds=3)
    with pytest.raises(SystemExit):
        options("help", ["--rounds", "2"])
    assert "at least 3" in capsys.readouterr().err
