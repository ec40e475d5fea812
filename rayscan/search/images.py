"""A whole trial: the stages that the values touch, on images, through Ray Train.

The trial's process drives the stages as a run would and computes nothing itself, so it holds no CPU that a
training could wait for. Every stage is an artifact in the same `--out`: trials that agree up to a stage share
it, and so does the run of the best recipe afterwards. One trial at a time trains such a stage; the others
wait for it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayscan import pipeline
from rayscan.artifacts import Artifact, Draft, find
from rayscan.config import Recipe
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.fleet.connect import Fleet
from rayscan.lock import RunLock
from rayscan.search.space import Values
from rayscan.search.trial import Report, SearchSetup, prepared
from rayscan.stages import assign, embed, mine, pretext, scan, selflabel
from rayscan.stages.per_space import for_spaces

EARLY = (pretext, embed, mine)
"""Stages that keep the base seed: other seeds of a finalist are other starts of the heads, no more."""
LATE = (scan, selflabel, assign)
LOCKS = ".work/search-locks"
"""A lock for each stage that trials may share, below `--out`; removed at the end of the search."""


def train_images(
    setup: SearchSetup, values: Values, seed: int, draft: Draft, _report: Report
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """The stages from the first one the values touch to the assignments; `search.trial.TrainTrial`.

    Nothing is reported on the way: a driver that is stopped inside a training leaves its workers behind for
    as long as Ray takes to notice, so whole trials run to their end.
    """
    recipe = setup.recipe(values, seed)
    early = replace(recipe, seed=setup.space.base.seed)
    fleet = Fleet(recipe.fleet, setup.run.child(".work", "search", draft.step.directory))
    # Read by no stage after index, and these begin after it.
    context = Context(setup.run, Sources(data=None), fleet, Progress(io.StringIO()))
    done: dict[str, Artifact] = {"index": setup.inputs["index"]}
    for stage in for_spaces(EARLY, early.spaces):
        done[stage.NAME] = do_once(stage, early, done, context)
    for stage in LATE:
        done[stage.NAME] = do_once(stage, recipe, done, context)
    setup.run.delete(f".work/search/{draft.step.directory}")
    table = done["assign"].read_table("assignments.parquet", columns=["gid", "cluster"])
    gids, judge = table.column("gid").to_numpy(), prepared(setup)[1]
    of = np.full(int(gids.max()) + 1, -1, np.int64)
    of[gids] = table.column("cluster").to_numpy()
    facts = {"heldout_loss": float(_heads(done["scan"])["best_loss"]), "stages": _directories(done)}
    return of[judge.anchors], facts


def do_once(stage: ModuleType, recipe: Recipe, done: Mapping[str, Artifact], context: Context) -> Artifact:
    """A stage that other trials may need at the same time: one of them does it, the others take it over.

    Two at once would work in the same place: the first to end removes the parts and the checkpoints that the
    workers of the other still read. A trial that waits holds no CPU, so the one it waits for goes on; the
    lock of a trial whose process died is free.
    """
    step = stage.plan(recipe, done, context.sources)
    found = find(context.out.child(step.directory), step)
    if found is not None:
        return found
    with RunLock(context.out.child(LOCKS, step.directory), wait=True):
        artifact, _ = pipeline.do(stage, recipe, done, context)
    return artifact


def _heads(scanned: Artifact) -> Any:
    """The facts of scan's heads: of those on images if it trained on images last."""
    name = "finetune.json" if "finetune.json" in scanned.files else "heads.json"
    return scanned.read_json(name)


def _directories(done: dict[str, Artifact]) -> dict[str, str]:
    return {name: artifact.place.uri.rpartition("/")[2] for name, artifact in done.items()}
