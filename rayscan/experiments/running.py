"""An experiment from its rows to its tables. All runs share one `--out`, so no stage is computed twice."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, cast

import pyarrow as pa

from rayscan import __version__, parquet, pipeline
from rayscan.artifacts import Artifact
from rayscan.config import Recipe
from rayscan.console.progress import Progress
from rayscan.context import Sources
from rayscan.errors import DataError
from rayscan.experiments import EXPERIMENTS
from rayscan.experiments.base import Experiment, Row, recipe_of, unavailable
from rayscan.experiments.pixels import pixel_scores
from rayscan.experiments.results import Results, index_page, write
from rayscan.experiments.selection import num_left
from rayscan.experiments.stand_ins import PureMine, SelectedIndex
from rayscan.stages import evaluate, index, labels, mine, report
from rayscan.stages.labels import Classes, read_classes
from rayscan.storage import Place

FOLDER = "experiments"
Done = dict[str, Artifact]


@dataclass
class ExperimentContext:
    """Where the runs of an experiment happen, and what they left."""

    recipe: Recipe
    sources: Sources
    out: Place
    whole: Done
    """Index and labels of all images."""
    classes: Classes
    runs: dict[tuple[int, str], Done] = field(default_factory=dict)
    """(seed, row) -> what it left."""


def run_experiment(
    experiment: Experiment, recipe: Recipe, sources: Sources, out: Place, *, seeds: int
) -> str:
    """Run what is not done yet, and write the tables after every run.

    Args:
        experiment: What to run.
        recipe: The user's settings; rows change some of them.
        sources: Images and labels.
        out: Of all runs; the tables go to experiments/NAME below it.
        seeds: Runs of each row: seeds from the recipe's on.

    Returns:
        The Markdown table.

    Raises:
        DataError: there are no labels: nothing could be scored.
    """
    shown = Progress()
    context = _prepare(recipe, sources, out)
    found, text = Results(), ""
    place = out.child(FOLDER, experiment.name)
    for seed in range(recipe.seed, recipe.seed + seeds):
        for row in experiment.rows:
            if why := unavailable(row):
                found.not_run[row.name] = why
                continue
            shown.say(f"{experiment.name}: {row.name}, seed {seed}")
            done = run_row(context, row, seed)
            split, values = measured(context, row, done, seed)
            found.split = split
            found.add(row.name, seed, values)
            text = write(experiment, found, place, _facts(context, found, seeds), recipe.name)
            out.write(f"{FOLDER}/index.md", index_page(out.child(FOLDER), EXPERIMENTS).encode())
    return text


def _prepare(recipe: Recipe, sources: Sources, out: Place) -> ExperimentContext:
    whole = pipeline.run(recipe, sources, out, stages=(index, labels))
    if "labels" not in whole:
        raise DataError(
            "an experiment without labels has no score",
            expected="--labels FILE, or labels inside the shards",
            got="neither",
            fix="pass --labels; only evaluate and, where its page says so, the experiment read them",
        )
    images = int(whole["index"].facts["train"]) + int(whole["index"].facts["eval"])
    return ExperimentContext(recipe, sources, out, whole, read_classes(whole["labels"], num_images=images))


def run_row(context: ExperimentContext, row: Row, seed: int) -> Done:
    """One run: an earlier one of equal settings, or a new one over whatever stages are done."""
    recipe = recipe_of(replace(context.recipe, seed=seed), row)
    if row.images in ("third", "two thirds"):
        recipe = replace(recipe, num_clusters=num_left(row.images, len(context.classes.names)))
    if row.first_labels is not None:
        path = (
            _true_labels(context)
            if row.first_labels == "true"
            else _labels_of(context, row.first_labels, seed)
        )
        recipe = replace(recipe, sela=replace(recipe.sela, first_labels=path))
    stages = tuple(_stage(context, row, stage) for stage in pipeline.stages_of(recipe) if stage is not report)
    done = pipeline.run(recipe, context.sources, context.out, stages=stages)
    context.runs[seed, row.name] = done
    return done


def _stage(context: ExperimentContext, row: Row, stage: ModuleType) -> ModuleType:
    """The stage, or what stands in for it."""
    if stage is index and row.images != "all":
        return cast(ModuleType, SelectedIndex(context.whole["index"], context.classes, row.images))
    if stage is mine and row.neighbors == "pure":
        return cast(ModuleType, PureMine(context.classes))
    return stage


def _true_labels(context: ExperimentContext) -> str:
    """The classes themselves in the form of first labels, for the supervised row."""
    table = context.whole["labels"].read_table("labels.parquet")
    classes = pa.table({"gid": table["gid"], "cluster": table["label"]})
    context.out.write(f"{FOLDER}/classes.parquet", parquet.encoded(classes))
    return context.out.uri_of(f"{FOLDER}/classes.parquet")


def _labels_of(context: ExperimentContext, name: str, seed: int) -> str:
    return context.runs[seed, name]["assign"].uri_of("assignments.parquet")


def measured(context: ExperimentContext, row: Row, done: Done, seed: int) -> tuple[str, dict[str, float]]:
    """Split, and metric -> value, as the row reads them: of eval where there is one."""
    scores: Mapping[str, Any] = done[evaluate.NAME].read_json("scores.json")
    split = "eval" if "eval" in scores["splits"] else "train"
    scored = scores["splits"][split]
    if row.reads == "purity":
        purity = scores["neighbor_purity"].get(str(int(row.x or 0)))
        return "train", {} if purity is None else {"purity": float(purity)}
    if row.reads == "pixels":
        return split, pixel_scores(context.recipe, context.whole["index"], context.classes, split, seed)
    if row.reads == "kmeans":
        values = {k: v for k, v in scored["methods"]["kmeans"].items() if k != "seeds"}
        values.setdefault("acc_tr", values.get("hungarian_then_majority", values["acc"]))
        return split, values
    own = next(method for method in scored["methods"] if method != "kmeans")
    extra = {"ece": scored["calibration"]["ece"]}
    if "selflabel" in done and done["selflabel"].facts["confident"]:
        extra["confident"] = float(done["selflabel"].facts["confident"][-1])
    return split, {**scored["methods"][own], **extra}


def _facts(context: ExperimentContext, found: Results, seeds: int) -> dict[str, object]:
    facts = context.whole["index"].facts
    return {
        "recipe": context.recipe.name,
        "seeds": seeds,
        "images": f"{facts['train']:,} train, {facts['eval']:,} eval",
        "rayscan": __version__,
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores",
        "time": time.strftime("%Y-%m-%d", time.gmtime()),
        "not run": ", ".join(f"{row} ({why})" for row, why in found.not_run.items()),
    }
