"""The whole river on a local Ray: it ends, it says what it found, and it is not done twice."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import rayscan
from rayscan.console.units import duration
from rayscan.errors import ArtifactError
from rayscan.storage import Place
from tests.ray.tiny import STAGES, command, run

pytestmark = pytest.mark.usefixtures("joined")

WITH_LABELS = ("labels", "baseline", "evaluate", "report")
"""Stages that a run does again, or for the first time, when labels come."""


def test_every_image_has_a_row(finished: Path) -> None:
    table = rayscan.open(str(finished)).assignments
    assert table.num_rows == 1797
    assert sorted(table["key"].to_pylist()) == [f"digit-{i:04d}" for i in range(1797)]
    assert set(table["split"].to_pylist()) == {"train", "eval"}
    clusters, probs = table["cluster"].to_numpy(), np.array(table["top5_probs"].to_pylist())
    assert clusters.min() >= 0
    assert clusters.max() < 10
    assert np.array_equal(np.array(table["top5"].to_pylist())[:, 0], clusters)
    assert (np.diff(probs, axis=1) <= 0).all()
    assert (probs.sum(1) <= 1 + 1e-5).all()
    assert np.allclose(table["margin"].to_numpy(), probs[:, 0] - probs[:, 1])


def test_clusters_and_prototypes_agree_with_the_rows(finished: Path) -> None:
    run = rayscan.open(str(finished))
    table = run.assignments.to_pandas().set_index("gid")
    for cluster in run.clusters:
        mine = table[table.cluster == cluster["cluster"]]
        assert cluster["size"] == len(mine)
        assert sorted(cluster["prototypes"]) == sorted(mine.index[mine.is_prototype])
        assert len(cluster["prototypes"]) == min(10, len(mine))
        if len(mine):
            assert cluster["mean_confidence"] == pytest.approx(mine.confidence.mean(), abs=1e-5)


def test_published_files_are_copies_of_the_results(finished: Path) -> None:
    record = json.loads((finished / "run.json").read_text())
    assert list(record["stages"]) == STAGES
    page = (finished / "report" / "index.html").read_text()
    assert "<title>" in page
    assert pq.read_table(finished / "assignments.parquet").equals(rayscan.open(str(finished)).assignments)


def test_second_run_does_nothing(finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file() and p.name not in RECORDS}
    said = run(command(finished)).stderr
    assert said.count("done before, taken over") == len(STAGES)
    assert "Ray: " not in said, "nothing to do starts nothing, and joins nothing"
    assert before == {
        p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file() and p.name not in RECORDS
    }


RECORDS = {"run.json", "recipe.json", ".lock"}


def test_plan_says_what_one_changed_setting_costs(finished: Path) -> None:
    arguments = [
        *command(finished)[:3],
        "run",
        str(finished / "recipe.json"),
        "--plan",
        "--out",
        str(finished),
    ]
    data = finished / "data"
    shards = ["--data", f"{data}/digits-train-*.tar", "--eval-data", f"{data}/digits-eval-*.tar"]
    labels = ["--labels", f"{data}/digits-labels.csv"]
    lines = run([*arguments, *shards, *labels]).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [[stage, "reused"] for stage in STAGES]
    lines = run([*arguments, *shards, *labels, "--scan.entropy-weight", "3"]).stdout.splitlines()
    assert [line.split()[1] for line in lines[:6]] == ["reused"] * 5 + ["run"]
    before = json.loads((finished / "recipe.json").read_text())["scan"]["entropy_weight"]
    assert f"scan.entropy_weight: {before:g} -> 3 " in lines[5]


def test_plan_tells_what_the_work_will_cost(finished: Path) -> None:
    """Twice the epochs take twice the time: the rate is that of the run's own record."""
    record = json.loads((finished / "run.json").read_text())["stages"]["pretext"]
    command_line = [
        *command(finished)[:3],
        "run",
        str(finished / "recipe.json"),
        "--plan",
        "--out",
        str(finished),
    ]
    shards = [
        "--data",
        f"{finished}/data/digits-train-*.tar",
        "--eval-data",
        f"{finished}/data/digits-eval-*.tar",
    ]
    lines = run([*command_line, *shards, "--pretext.epochs", "4"]).stdout.splitlines()
    pretext = next(line for line in lines if line.startswith("pretext"))
    assert "5,992 images" in pretext, "1,498 train images, four times"
    assert f"about {duration(2 * record['did'])}" in pretext
    assert lines[-1].startswith("left: about")


def test_status_tells_what_ran_and_what_is_left(finished: Path, tmp_path: Path) -> None:
    executable = command(finished)[:3]
    lines = run([*executable, "status", str(finished)]).stdout.splitlines()
    assert lines[0].endswith("not running")
    assert [line.split()[:2] for line in lines[1:-1]] == [[stage, "done"] for stage in STAGES]
    assert "/s" in lines[2], "images per second of the pretext"
    assert lines[-1].startswith("everything is done")
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (embed,) = out.glob("embed-*")
    (embed / "manifest.json").unlink()
    Place(str(embed)).write("parts/part-00000.npy.json", b"{}")
    lines = run([*executable, "status", str(out)]).stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["index", "done"], ["pretext", "done"]]
    assert lines[3].split()[:4] == ["embed", "begun", "1", "parts"]
    assert lines[4].split()[:2] == ["mine", "left"]
    assert lines[-2].startswith("left: about")
    assert lines[-1] == "the same command goes on from here"


def test_curves_are_where_tensorboard_looks(finished: Path) -> None:
    for stage in ("pretext", "scan", "selflabel"):
        assert list((finished / "tensorboard" / stage).glob("events*")), stage


def test_labels_that_come_later(finished: Path, tmp_path: Path) -> None:
    """A run without labels, then `rayscan evaluate`: only what reads them runs, and the report."""
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    for directory in [found for stage in WITH_LABELS for found in out.glob(f"{stage}*")]:
        shutil.rmtree(directory)
    record = json.loads((out / "run.json").read_text())
    record["sources"]["labels"] = None
    for stage in WITH_LABELS:
        del record["stages"][stage]
    (out / "run.json").write_text(json.dumps(record))
    with pytest.raises(ArtifactError, match="no result of stage evaluate"):
        _ = rayscan.open(str(out)).scores
    labels = tmp_path / "labels.csv"
    with (out / "data" / "digits-labels.csv").open() as rows, labels.open("w") as some:
        some.writelines(list(rows)[:1001])
    executable = command(out)[:3]
    said = run([*executable, "evaluate", str(out), "--labels", str(labels)]).stderr
    assert said.count("done before, taken over") == 8
    splits = rayscan.open(str(out)).scores["splits"]
    with labels.open() as rows:
        assert splits["eval"]["labelled"] + splits["train"]["labelled"] == len(list(csv.DictReader(rows)))
    assert {"scan", "kmeans"} <= set(splits["eval"]["methods"])
    table = run([*executable, "compare", str(out)]).stdout
    assert "kmeans" in table


def test_predict_gives_the_same_images_the_same_clusters(finished: Path, tmp_path: Path) -> None:
    """New shards that hold the eval images of the run: same cluster, same confidence."""
    executable = command(finished)[:3]
    shards = f"{finished}/data/digits-eval-*.tar"
    run([*executable, "predict", str(finished), "--data", shards, "--out", str(tmp_path / "new")])
    known = rayscan.open(str(finished)).assignments.to_pandas().set_index("key")
    predicted = pq.read_table(tmp_path / "new" / "assignments.parquet").to_pandas().set_index("key")
    assert len(predicted) == 299
    same = known.loc[predicted.index]
    assert (predicted.cluster == same.cluster).all()
    assert np.allclose(predicted.confidence, same.confidence, atol=1e-6)
    page = (tmp_path / "new" / "report" / "index.html").read_text()
    assert "299 images in 10 clusters" in page
    assert f"the model in {finished}/selflabel-" in page
    assert 'id="training"' not in page
    assert list(rayscan.open(str(tmp_path / "new")).record["stages"]) == [
        "index",
        "embed",
        "assign",
        "report",
    ]
