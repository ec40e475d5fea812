"""A run whose folder grew: new pictures are placed by the model there is, old ones stay, stale is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from rayscan import cli, growing, pipeline, predict
from rayscan.run import Run
from rayscan.vectors.parts import EmbeddingRows
from tests.unit.data.conftest import encoded, write_files
from tests.unit.local_fleet import LocalFleet, LocalPool

COLORS = ((200, 30, 30), (30, 160, 40), (40, 60, 210))


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks and shards are called here: what is compared does not hang on where they run."""
    for module in (pipeline, growing, predict):
        monkeypatch.setattr(module, "Fleet", LocalFleet)
    monkeypatch.setattr("rayscan.fleet.kmeans.ActorPool", LocalPool)


def photo(number: int) -> bytes:
    noise = np.random.default_rng(number).normal(COLORS[number % 3], 40, (40, 52, 3))
    return encoded(noise.clip(0, 255).astype(np.uint8))


def run(photos: Path, out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[Run, str]:
    words = ["run", "custom", "--data", str(photos), "--out", str(out), "--method", "kmeans"]
    words += ["--num-clusters", "3", "--embed.size-px", "64", "--report.images-per-cluster", "4"]
    assert cli.main([*words, "--fleet.num-workers", "1", *more]) == 0
    said = capsys.readouterr()
    return Run(str(out)), said.out + said.err


def by_source(run: Run) -> dict[str, tuple[int, int, float]]:
    rows = run.assignments.to_pylist()
    return {Path(r["source"]).name: (r["gid"], r["cluster"], r["confidence"]) for r in rows}


def directories(out: Path, stage: str) -> set[str]:
    return {path.name for path in out.glob(f"{stage}-*")}


def test_a_folder_that_grew_is_placed_and_learnt_again_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    write_files(photos, {f"m{n:02d}.png": photo(n) for n in range(24)})
    first, _ = run(photos, out, capsys)
    before, models = by_source(first), directories(out, "kmeans")
    clusters = json.loads((out / "clusters.json").read_text())
    clusters[0]["name"] = "roses"
    (out / "clusters.json").write_text(json.dumps(clusters))

    new = {f"a{n}.png": photo(100 + n) for n in range(5)}
    write_files(photos, new)
    (photos / "m03.png").unlink()
    shutil.copytree(out, tmp_path / "trained")  # what predict is asked below
    grown, said = run(photos, out, capsys)
    after = by_source(grown)
    assert {name: row for name, row in after.items() if name in before} == {
        name: row for name, row in before.items() if name != "m03.png"
    }
    assert [after[name][0] for name in sorted(new)] == [24, 25, 26, 27, 28]
    assert directories(out, "kmeans") == models
    assert "23 of them taken over" in said and "stale: pca, kmeans" in said and "--retrain" in said
    assert json.loads((out / "clusters.json").read_text())[0]["name"] == "roses"

    write_files(tmp_path / "new", new)
    predict.predict(str(tmp_path / "trained"), str(tmp_path / "new"), str(tmp_path / "predicted"))
    predicted = by_source(Run(str(tmp_path / "predicted")))
    assert {name: row[1:] for name, row in predicted.items()} == {name: after[name][1:] for name in new}

    again, said = run(photos, out, capsys)
    assert by_source(again) == after and "stale: pca, kmeans" in said

    learnt, said = run(photos, out, capsys, "--retrain")
    assert len(directories(out, "kmeans")) == len(models) + 1 and "stale" not in said
    assert "kmeans: again, input" in said
    fresh, _ = run(photos, tmp_path / "fresh", capsys)
    one, two = (EmbeddingRows(r.artifact("embed")) for r in (learnt, fresh))
    order = {Path(r["source"]).name: n for n, r in enumerate(fresh.assignments.to_pylist())}
    names = [Path(r["source"]).name for r in learnt.assignments.to_pylist()]
    np.testing.assert_array_equal(one.read(0, 28), two.read(0, 28)[[order[name] for name in names]])
    _, said = run(photos, out, capsys)
    assert "stale" not in said and "kmeans: done before" in said


def test_a_folder_that_moved_is_the_same_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    write_files(photos, {f"m{n:02d}.png": photo(n) for n in range(12)})
    first, _ = run(photos, out, capsys)
    shutil.move(photos, tmp_path / "elsewhere")
    moved, said = run(tmp_path / "elsewhere", out, capsys)
    assert "stale" not in said and "kmeans: done before" in said
    assert by_source(moved) == by_source(first)
    assert {Path(s).parent for s in moved.assignments["source"].to_pylist()} == {tmp_path / "elsewhere"}
