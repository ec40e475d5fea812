"""Whole trials on two CPUs: drivers and trainings do not wait for each other, and stages are shared.

Minutes: `pytest tests/ray/test_search_images.py -m soak`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rayscan.search.images import LOCKS
from tests.ray.test_search import RAYSCAN, images
from tests.ray.tiny import TINY, run

pytestmark = pytest.mark.usefixtures("joined")

SPACE = ["scan.epochs=1,2", "selflabel.threshold=0.2,0.4"]


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_whole_trials_end_and_leave_stages_for_a_run(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for directory in ("index", "pretext", "embed", "mine"):
        for found in finished.glob(f"{directory}-*"):
            shutil.copytree(found, out / found.name)
    counts = ["--from-images", "--trials", "9", "--concurrent", "2", "--finalists", "1", "--seeds", "2"]
    command = [*RAYSCAN, "search", "digits", *images(finished), "--out", str(out), *TINY, *counts]
    said = run([*command, "--space", *SPACE], timeout=800).stderr
    assert "the space holds 4 combinations" in said
    table = pq.read_table(out / "search" / "results.parquet").to_pandas()
    first = table[table.seed == 0]
    assert sorted(zip(first["scan.epochs"], first["selflabel.threshold"], strict=True)) == [
        (1, 0.2), (1, 0.4), (2, 0.2), (2, 0.4),
    ]  # fmt: skip
    assert table.status.isin(["finished", "rejected"]).all(), table[["status", "reason"]].to_string()
    assert len(table) == 5
    assert len(list(out.glob("pretext-*/manifest.json"))) == 1, (
        "no value touches the pretext, nor does a seed"
    )
    assert len(list(out.glob("scan-*/manifest.json"))) == 3, (
        "two epochs of the search's seed, one of the other"
    )
    assert len(list(out.glob("selflabel-*/manifest.json"))) == 5
    assert not (out / LOCKS).exists()
    assert json.loads((out / "search" / "recipe.json").read_text())["scan"]["inputs"] == "both"
    plan = ["--plan", "--out", str(out), *images(finished)]
    lines = run([*RAYSCAN, "run", str(out / "search" / "recipe.json"), *plan]).stdout.splitlines()
    assert [line.split()[1] for line in lines[:7]] == ["reused"] * 7
