"""The campaign of faults: seeded, resumable, never pooled, and honest about what failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from ray.train.v2._internal.execution.checkpoint import checkpoint_manager as manager

from benchmarks import faults
from benchmarks.harness import Options, Report
from testing.chaos.faults import CLASSES
from testing.chaos.records import WHOLE


def asked(path: Path, *more: str) -> faults.Campaign:
    return faults.arguments(["--json", str(path), *more])[0]


def row(kind: str, number: int, **facts: object) -> dict[str, object]:
    base = {"class": kind, "number": number, "seed": 0, "stuck": False, "exact_s": True, "exact_w": True}
    return {**base, "gap_seconds": 8.0, "lost_steps": 0, "lost_intervals": 0.5, "torn_loads": 0, **facts}


def test_the_record_that_is_torn_is_one_that_ray_would_read() -> None:
    whole = manager._CheckpointManagerState.model_validate_json(WHOLE)
    assert whole.latest_checkpoint_result is not None
    for cut in range(len(WHOLE)):
        with pytest.raises(ValidationError):
            manager._CheckpointManagerState.model_validate_json(WHOLE[:cut])


def test_sizes(tmp_path: Path) -> None:
    full, quick = asked(tmp_path / "f.json"), asked(tmp_path / "q.json", "--quick")
    assert len(full.plan) >= 200
    assert len(quick.plan) >= 10
    for campaign in (full, quick):
        assert {kind for kind, _ in campaign.plan} == set(CLASSES)
    kinds = [kind for kind, _ in full.left()]
    assert set(kinds[: len(CLASSES)]) == set(CLASSES), "a campaign that is cut has some of each"


def test_a_cut_campaign_goes_on(tmp_path: Path) -> None:
    campaign = asked(tmp_path / "f.json", "--each", "2")
    rows = [row("driver", 0), row("disk", 1), row("driver", 7), row("head", 0, seed=5)]
    torn = json.dumps(row("store", 0))[:-9]
    campaign.rows.write_text("".join(json.dumps(r) + "\n" for r in rows) + torn)
    assert [(r["class"], r["number"]) for r in campaign.done()] == [("driver", 0), ("disk", 1)]
    assert len(campaign.left()) == 2 * len(CLASSES) - 2


def summary(tmp_path: Path, rows: list[dict[str, object]]) -> dict[str, object]:
    report = Report(Options(quick=True, json=tmp_path / "f.json", rounds=3), "faults")
    faults.summarise(report, rows)
    return report.finish()


def test_one_inexact_end_is_not_hidden_among_many(tmp_path: Path) -> None:
    rows = [row("worker_kill", i, gap_seconds=g) for i, g in enumerate((4.0, 6.0, 50.0))]
    rows += [row("node_spare", 0, gap_seconds=12.0), row("shrink", 0, gap_seconds=40.0, exact_w=None)]
    rows += [row("notice", 0, lost_steps=1), row("disk", 0, gap_seconds=None)]
    good = summary(tmp_path, rows)
    assert (good["faults"], good["exact"], good["unbounded_waits"], good["torn_loads"]) == (7, 7, 0, 0)
    assert (good["gap_worker_kill_seconds"], good["gap_node_spare_seconds"]) == (6.0, 12.0)
    assert (good["gap_shrink_seconds"], good["max_lost_steps_with_notice"]) == (40.0, 1)
    assert good["goodput_model_3h"] == pytest.approx(1 - (15 + 12) / 10800)
    assert good["goodput_model_10min"] == pytest.approx(1 - (15 + 12) / 600)
    for spoilt in (
        row("driver", 0, exact_w=False),
        row("driver", 0, exact_s=False),
        row("head", 0, stuck=True),
    ):
        bad = summary(tmp_path, [*rows, spoilt])
        goals = bad["goals"]
        assert isinstance(goals, dict)
        assert not (goals["exact"]["is_met"] and goals["unbounded_waits"]["is_met"])
