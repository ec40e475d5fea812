"""The guard of self-labelling on a real model; SeLa and an experiment from the command line."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import rayscan
from rayscan.artifacts import Draft, Step
from rayscan.config import OptimizerConfig
from rayscan.engine.tensors import unpack
from rayscan.experiments import EXPERIMENTS
from rayscan.stages.selflabel import MODEL, train_worker
from rayscan.storage import Place
from rayscan.training.fit import alone
from rayscan.training.job import TrainJob
from tests.ray.tiny import command, run

pytestmark = pytest.mark.usefixtures("joined")

SPOILED = (
    OptimizerConfig(kind="adamw", learning_rate=1.0, weight_decay=1.0, schedule="constant"),
    math.nextafter(1, 0),
)
SPARED = (OptimizerConfig(kind="adamw", learning_rate=1e-6, weight_decay=0.0, schedule="constant"), 0.11)


@pytest.mark.parametrize(("optimizer", "threshold", "is_kept"), [(*SPOILED, False), (*SPARED, True)])
def test_guard_keeps_the_weights_of_scan_where_self_labelling_spoils_them(
    finished: Path, tmp_path: Path, optimizer: OptimizerConfig, threshold: float, is_kept: bool
) -> None:
    """A head that is ruined is not kept: scan's weights come back. One that hardly changes is.

    The ruin hangs on no rounding: that threshold is 1 in float32, so every gradient is 0, and AdamW's decay
    takes 1.0 x 1.0 of each weight (arXiv 1711.05101, Algorithm 2): all images are in one cluster.
    """
    done = rayscan.open(str(finished))
    settings = replace(
        done.recipe.selflabel,
        inputs="embeddings",
        epochs=1,
        threshold=threshold,
        optimizer=optimizer,
        ema_decay=0.0,
    )
    place = Place(str(tmp_path))
    inputs = {name: done.artifact(name) for name in ("index", "pretext", "embed", "scan", "mine")}
    draft = Draft(place, Step("selflabel", 2, {}, {}))
    recipe = replace(done.recipe, selflabel=settings)
    job = TrainJob(recipe, inputs, draft, place.child("work"), "embeddings")
    made = train_worker(job, alone())
    guard = made.facts["guard"]
    assert guard["kept_new"] == is_kept
    assert guard["after"] == (pytest.approx(guard["before"], rel=0.01) if is_kept else 0.0)
    written = unpack(draft.place.read(made.files[MODEL].path))
    before = unpack(inputs["scan"].read(MODEL))
    assert written["heads.weight"].equal(before["heads.weight"]) != is_kept


@pytest.mark.soak
def test_an_experiment_shares_what_a_run_did_and_says_what_it_found(finished: Path, tmp_path: Path) -> None:
    """What the run had up to mine is taken over by all rows; two groupings vote, clusters merge."""
    out = tmp_path / "lab"
    shutil.copytree(finished, out)
    data = out / "data"
    arguments = [*command(out)[:3], "experiment", "methods", str(out / "recipe.json")]
    arguments += ["--data", f"{data}/digits-train-*.tar", "--eval-data", f"{data}/digits-eval-*.tar"]
    arguments += ["--labels", f"{data}/digits-labels.csv", "--out", str(out), "--seeds", "1"]
    arguments += [f"--{part}.inputs=embeddings" for part in ("scan", "selflabel", "sela")]
    done = run(arguments)
    assert done.stderr.count("mine: done before, taken over") == 6
    table = pq.read_table(out / "experiments" / "methods" / "table.parquet").to_pylist()
    accs = {row["row"]: row["value"] for row in table if row["metric"] == "acc"}
    assert list(accs) == [row.name for row in EXPERIMENTS["methods"].rows]
    assert accs["k-means on raw pixels"] > 0.6  # 8x8 digits are easy as pixels: about 0.79 in all runs
    assert all(0.1 <= acc <= 1 for acc in accs.values())
    assert "| SeLa |" in done.stdout
    voted = run(
        [*command(out)[:3], "consensus", str(out), str(finished), "--out", str(tmp_path / "vote.parquet")]
    )
    assert "2 groupings of 1,797 images" in voted.stdout
    assert pq.read_table(tmp_path / "vote.parquet").num_rows == 1797
    merged = run([*command(out)[:3], "merge", str(finished), "--out", str(tmp_path / "merged.parquet")])
    joins = json.loads((finished / "merges.json").read_text())["joins"]
    assert merged.stdout.count(" joins ") == len(joins)
