"""The evidence for the search's score on files of features; no Ray is started."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr

from benchmarks.search_criteria import BOOTSTRAPS, SIGNS, judged
from benchmarks.search_evidence import AXES, main
from benchmarks.search_files import drawn, opened, turned
from rayscan.consensus.neighbors import unit_rows

TRIALS = 8


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three groups that overlap a little, of unequal sizes."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), [80, 60, 40])
    rows = rng.normal(size=(3, 24))[labels] + 0.5 * rng.normal(size=(180, 24))
    np.savez(tmp_path / "groups.npz", features=rows.astype(np.float16), labels=labels)
    return tmp_path / "groups.npz"


def test_trials_are_judged_against_labels_and_not_run_again(file: Path, tmp_path: Path) -> None:
    asked = ["--set", f"features:{file}", "--runs", str(tmp_path / "runs"), "--trials", str(TRIALS)]
    asked += ["--json", str(tmp_path / "r.json"), "--markdown", str(tmp_path / "r.md")]
    main(asked)
    search = tmp_path / "runs" / "groups-0" / "search"
    made = {path: path.stat().st_mtime_ns for path in search.glob("trial-*/manifest.json")}
    first = json.loads((tmp_path / "r.json").read_text())
    main(asked)
    assert {path: path.stat().st_mtime_ns for path in search.glob("trial-*/manifest.json")} == made
    assert json.loads((tmp_path / "r.json").read_text())["details"] == first["details"]

    found = first["details"]["sets"]["groups"]
    assert found["gates"]["all"]["trials"] == TRIALS
    labels = np.load(file)["labels"]
    order = np.sort(np.random.default_rng(0).permutation(180))
    clusters = pq.read_table(search / "vote.parquet")["cluster"].to_numpy()
    best = max(
        float((np.array(p)[clusters] == labels[order]).mean()) for p in itertools.permutations(range(3))
    )
    assert found["acc_vote"] == pytest.approx(best, abs=1e-12)
    assert first["regret_vote"] == pytest.approx(max(found["trials"]["acc"]) - best, abs=1e-12)
    scores, accs = np.array(found["trials"]["score"]), np.array(found["trials"]["acc"])
    assert found["acc_pick"] == accs[scores.argmax()]
    assert "| groups | 3 | 8 |" in (tmp_path / "r.md").read_text()


def test_values_are_those_of_the_seed(file: Path, tmp_path: Path) -> None:
    space = opened(file, tmp_path / "runs", AXES, 0).setup.space
    assert drawn(space, 5, 0) == drawn(space, 9, 0)[:5]
    assert drawn(space, 5, 0) != drawn(space, 5, 1)


def test_turned_rows_have_the_inner_products_they_had() -> None:
    rng = np.random.default_rng(0)
    low = unit_rows((rng.normal(size=(300, 40)) @ rng.normal(size=(40, 400))).astype(np.float32))
    rows = turned(low)
    assert rows.shape == (300, 128)
    np.testing.assert_allclose(rows @ rows.T, low @ low.T, atol=2e-5)


def test_unknown_sets_are_refused() -> None:
    with pytest.raises(SystemExit):
        main(["--set", "magic"])


def test_rank_correlations_and_their_intervals_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    columns = {name: rng.integers(0, 9, 30).astype(float) for name in ("acc", *SIGNS)}
    found = judged(columns, np.ones(30, bool))
    resampled = np.random.default_rng(0)
    drawn = [resampled.integers(0, 30, 30) for _ in range(BOOTSTRAPS)]
    for name, sign in SIGNS.items():
        value, acc = sign * columns[name], columns["acc"]
        assert found[name]["spearman"] == pytest.approx(spearmanr(value, acc).statistic, abs=1e-12)
        assert found[name]["regret"] == acc.max() - acc[list(value).index(value.max())]
    value = columns["score"]
    ranks = [spearmanr(value[d], columns["acc"][d]).statistic for d in drawn]
    lost = [columns["acc"][d].max() - columns["acc"][d][value[d].argmax()] for d in drawn]
    assert found["score"]["spearman_95"] == pytest.approx(np.quantile(ranks, [0.025, 0.975]), abs=1e-12)
    assert found["score"]["regret_95"] == pytest.approx(np.quantile(lost, [0.025, 0.975]), abs=1e-12)
