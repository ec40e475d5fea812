"""A run whose folder grew: new pictures are placed by the model there is, old ones stay, stale is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rayscan import cli, growing, pipeline, predict
from rayscan.edits.applying import apply
from rayscan.edits.history import fingerprint_of
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


def edited(out: Path, operations: list[dict[str, Any]]) -> str:
    """Apply edits to a run as it is now, and return what is said."""
    fingerprint = fingerprint_of(Run(str(out)).artifact("assign"))
    tree = {"schema": 1, "fingerprint": fingerprint, "operations": operations}
    (out.parent / "edits.json").write_text(json.dumps(tree))
    return apply(str(out), str(out.parent / "edits.json"))


def test_edits_go_on_when_a_folder_grows_and_eval_gids_move_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, held, out = tmp_path / "photos", tmp_path / "held", tmp_path / "out"
    write_files(photos, {f"m{n:02d}.png": photo(n) for n in range(24)})
    write_files(held, {f"e{n}.png": photo(50 + n) for n in range(6)})
    more = ("--eval-data", str(held))
    first, _ = run(photos, out, capsys, *more)
    model = by_source(first)
    a, b, c = (model[name][1] for name in ("m00.png", "m01.png", "m02.png"))
    assert len({a, b, c}) == 3
    operations = [
        {"op": "rename", "cluster": a, "name": "reds"},
        {"op": "join", "clusters": [b], "into": a},
        {"op": "create", "cluster": 3, "name": "chosen"},
        {"op": "move", "images": [model[name][0] for name in ("m04.png", "m05.png", "e2.png")], "to": 3},
        {"op": "move", "images": [model["m07.png"][0], model["e4.png"][0]], "to": -1},
    ]
    edited(out, operations)
    wanted = {name: (cluster, sure) for name, (_, cluster, sure) in by_source(Run(str(out))).items()}
    assert wanted["e2.png"] == (3, 1.0) and wanted["e4.png"][0] == -1 and wanted["m01.png"][0] == a

    new = {f"a{n}.png": photo(100 + n) for n in range(6)}
    write_files(photos, new)
    (photos / "m05.png").unlink()
    grown, said = run(photos, out, capsys, *more)
    after = by_source(grown)
    assert [after[f"e{n}.png"][0] for n in range(6)] == [model[f"e{n}.png"][0] + 6 for n in range(6)]
    assert {name: row[1:] for name, row in after.items() if name in wanted} == {
        name: row for name, row in wanted.items() if name != "m05.png"
    }
    assert "go on being applied" in said and "5 applied" in said and "not applied to these" not in said
    names = {row["cluster"]: row["name"] for row in json.loads((out / "clusters.json").read_text())}
    assert (names[a], names[3], names[-1]) == ("reds", "chosen", "waste") and b not in names
    # New images get the clusters that the model gives, as they are joined now.
    plain = by_source(Run(str(copy_without_edits(out, tmp_path))))
    assert [after[name][1] for name in new] == [a if plain[name][1] == b else plain[name][1] for name in new]

    # Once more, with edits on top, the same folder, and the image that was gone.
    edited(out, [{"op": "rename", "cluster": c, "name": "blues"}])
    again, said = run(photos, out, capsys, *more)
    assert by_source(again) == after and "6 applied" in said and "not applied to these" not in said
    write_files(photos, {"m05.png": photo(5), "z.png": photo(200)})
    back, said = run(photos, out, capsys, *more)
    last = by_source(back)
    assert last["m05.png"] == (model["m05.png"][0], 3, 1.0) and last["e2.png"][1:] == (3, 1.0)
    assert {row["name"] for row in back.clusters} == {"reds", "blues", "chosen", "waste"}
    assert len(list((out / "edits").iterdir())) == 2

    learnt, said = run(photos, out, capsys, *more, "--retrain")
    assert "not applied to these" in said
    assert not {"reds", "blues", "chosen"} & set(learnt.cluster_names.values())


def copy_without_edits(out: Path, folder: Path) -> Path:
    """A copy of a run with the clusters as the model made them."""
    shutil.copytree(out, folder / "plain")
    apply(str(folder / "plain"), reset=True)
    return folder / "plain"


def test_a_folder_that_moved_is_the_same_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    write_files(photos, {f"m{n:02d}.png": photo(n) for n in range(12)})
    first, _ = run(photos, out, capsys)
    shutil.move(photos, tmp_path / "elsewhere")
    moved, said = run(tmp_path / "elsewhere", out, capsys)
    assert "stale" not in said and "kmeans: done before" in said
    assert by_source(moved) == by_source(first)
    assert {Path(s).parent for s in moved.assignments["source"].to_pylist()} == {tmp_path / "elsewhere"}
