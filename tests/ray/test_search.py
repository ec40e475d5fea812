"""`rayscan search` on two CPUs: killed in its middle, it goes on without losing a trial, and ends.

Minutes: `pytest tests/ray/test_search.py -m soak`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rayscan.recipes import by_name
from rayscan.run import recipe_from_json
from rayscan.sections import get
from tests.ray.tiny import TINY, run

pytestmark = pytest.mark.usefixtures("joined")

RAYSCAN = [sys.executable, "-m", "rayscan"]
TRIALS = 7
SPACE = ["scan.entropy_weight=0.5:20:log", "scan.num_neighbors=5,10", "selflabel.threshold=0.2:0.6"]


def images(run_dir: Path) -> list[str]:
    """The pictures of the tiny demo."""
    data = run_dir / "data"
    return ["--data", f"{data}/digits-train-*.tar", "--eval-data", f"{data}/digits-eval-*.tar"]


def search(finished: Path, out: Path) -> list[str]:
    """The command; the demo's early stages lie in `out`."""
    counts = ["--trials", str(TRIALS), "--finalists", "2", "--seeds", "2"]
    settings = [*TINY, "--scan.head-epochs", "60", "--scan.num-heads", "8"]
    return [
        *RAYSCAN,
        "search",
        "digits",
        *images(finished),
        "--out",
        str(out),
        *settings,
        *counts,
        "--space",
        *SPACE,
    ]


def ended(out: Path) -> dict[str, int]:
    """Trials that have ended, and when their result was written."""
    return {p.parent.name: p.stat().st_mtime_ns for p in out.glob("search/trial-*/manifest.json")}


@pytest.mark.soak
@pytest.mark.timeout(280)
def test_a_killed_search_goes_on_and_ends(finished: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    for directory in ("index", "pretext", "embed", "mine"):
        for found in finished.glob(f"{directory}-*"):
            shutil.copytree(found, out / found.name)
    command = search(finished, out)
    with log.open("wb") as said:
        driver = subprocess.Popen(command, stdout=said, stderr=said)
    deadline = time.monotonic() + 120
    while len(ended(out)) < 3:
        assert driver.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert log.read_text().count("done before, taken over") == 4, "the early stages are the demo's"
    assert not (out / "search" / "results.parquet").exists()
    time.sleep(2)  # a trial whose driver is gone may be writing its last bytes
    before = ended(out)
    assert 3 <= len(before) < TRIALS

    said_again = run(command, timeout=200).stderr
    assert f"search: {len(before)} trials done before" in said_again
    after = ended(out)
    assert {name: after[name] for name in before} == before, "no finished trial was lost or done again"
    table = pq.read_table(out / "search" / "results.parquet").to_pandas()
    first = table[table.seed == 0]
    assert len(first) == TRIALS
    assert set(before) <= set(first.trial)
    assert first.status.isin(["finished", "rejected", "stopped"]).all()
    assert first["scan.entropy_weight"].between(0.5, 20).all()
    assert first["scan.num_neighbors"].isin([5, 10]).all()
    assert (table[table.seed == 1].status == "finished").all()
    assert "(ARI)" in said_again
    assert not list(out.glob(".work/tune-*")), "nothing of Tune's is left"
    assert (out / "search" / "index.html").read_text().count("<circle") >= 4

    recipe = recipe_from_json((out / "search" / "recipe.json").read_bytes(), "recipe.json")
    means = table[table.status == "finished"].groupby(list(table.columns[4:7])).score.agg(["mean", "count"])
    means = means[means["count"] == 2]["mean"].round(3)
    chosen = tuple(get(recipe, path) for path in table.columns[4:7])
    assert chosen in means[means == means.max()].index
    assert recipe.pretext.backbone == by_name("digits").pretext.backbone
    plan = ["--plan", "--out", str(out), *images(finished)]
    lines = run([*RAYSCAN, "run", str(out / "search" / "recipe.json"), *plan]).stdout.splitlines()
    assert [line.split()[1] for line in lines[:5]] == ["reused"] * 4 + ["run"]

    quick = run(command).stderr
    assert f"search: {TRIALS} trials done before, 0 cut off, 0 to do" in quick
    assert ended(out) == after
    assert json.loads((out / "search" / "recipe.json").read_text())["name"] == "digits"
