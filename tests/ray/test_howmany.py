"""A run without a number of clusters, from embeddings alone; `rayscan howmany` on it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import rayscan
from rayscan.config import AUTO
from rayscan.pipeline import stages_of
from rayscan.recipes import by_name
from tests.ray.tiny import run

pytestmark = pytest.mark.usefixtures("joined")

SIZES = (120, 90, 70, 50)
RAYSCAN = [sys.executable, "-m", "rayscan"]


def planted(seed: int) -> np.ndarray:
    """Rows of four groups that lie apart, in 16 dimensions; the groups are the same for all seeds."""
    means = 3 * np.random.default_rng(0).normal(size=(len(SIZES), 16))
    rows = np.repeat(means, SIZES, axis=0) + np.random.default_rng([1, seed]).normal(size=(sum(SIZES), 16))
    return rows.astype(np.float32)


def test_the_stage_is_in_the_chain_only_where_no_number_is_given() -> None:
    custom = by_name("custom")
    names = [stage.NAME for stage in stages_of(custom)]
    assert names[names.index("mine") + 1 :][:3] == ["duplicates", "howmany", "consensus"]
    given = [stage.NAME for stage in stages_of(replace(custom, num_clusters=7))]
    assert given == [name for name in names if name != "howmany"]


def test_auto_finds_four_groups_and_everything_after_it_knows(tmp_path: Path) -> None:
    """The record keeps `auto` beside what was found; predict and howmany read it; again nothing is done."""
    np.save(tmp_path / "x.npy", planted(0))
    np.save(tmp_path / "new.npy", planted(1))
    out = tmp_path / "run"
    again = [*RAYSCAN, "run", "custom", "--features", f"file:{tmp_path}/x.npy", "--out", str(out)]
    run(again)
    found = rayscan.open(str(out))
    assert found.record["stages"]["howmany"]["num_clusters"] == 4
    assert json.loads((out / "recipe.json").read_text())["num_clusters"] == AUTO == found.asked.num_clusters
    assert found.recipe.num_clusters == 4
    clusters = found.assignments.sort_by("gid")["cluster"].to_numpy()
    np.testing.assert_array_equal(clusters, np.repeat(np.arange(4), SIZES))  # the largest is 0
    assert "howmany: done before, taken over" in (said := run(again).stderr)
    assert "consensus: done before, taken over" in said
    assert "everything is done" in run([*RAYSCAN, "status", str(out)]).stdout

    told = run([*RAYSCAN, "howmany", str(out)]).stdout
    assert "suggested: 4 clusters" in told
    page = (out / "howmany" / "index.html").read_text()
    assert '<data id="suggested" value="4">' in page
    assert "embeddings alone" in page

    new = ["--features", f"file:{tmp_path}/new.npy", "--out", str(tmp_path / "new")]
    run([*RAYSCAN, "predict", str(out), *new])
    predicted = rayscan.open(str(tmp_path / "new")).assignments.sort_by("gid")["cluster"].to_numpy()
    np.testing.assert_array_equal(predicted, np.repeat(np.arange(4), SIZES))
