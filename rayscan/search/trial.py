"""One trial: values -> heads on the cached embeddings -> a score that no label was asked for.

A trial is an artifact like any other, `<out>/search/trial-<hash12>/`, committed by the trial itself: a search
that was killed anywhere finds every trial that had ended.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from rayscan.artifacts import Artifact, Draft, FileEntry, Step, digest, find
from rayscan.config import Recipe
from rayscan.engine.loop import History
from rayscan.engine.tensors import under
from rayscan.errors import ConfigError, DataError
from rayscan.nets.heads import ClusterHeads
from rayscan.objectives.scan import Scan
from rayscan.objectives.selection import GRAPH_NEIGHBORS, HeldoutGraph
from rayscan.search import judged_space
from rayscan.search.space import Space, Values
from rayscan.search.trial_score import Judge, degenerate
from rayscan.sections import semantic
from rayscan.stages import scan, selflabel
from rayscan.storage import Place
from rayscan.training.fit import alone, fit
from rayscan.training.heldout import HeldoutJudge
from rayscan.training.job import TrainJob
from rayscan.training.models import heads_from
from rayscan.training.prior import read_prior
from rayscan.training.sources import FeatureSource
from rayscan.vectors.neighbor_table import neighbor_ids

SCHEMA = 3
STAGE = "trial"
CLUSTERS = "clusters.npy"
STARTED = "started"
RUNGS = (1, 2, 4)
"""Quarters of the heads' training after which trials are compared; the better half goes on."""
Report = Callable[[int, float], None]


@dataclass(frozen=True)
class SearchSetup:
    """Settings and addresses that all trials of a search have in common."""

    space: Space
    inputs: Mapping[str, Artifact]
    """index, pretext, embed, mine of the base recipe; the score's space is made of the last two."""
    run: Place
    """--out."""
    from_images: bool = False

    @property
    def out(self) -> Place:
        """Where trials go."""
        return self.run.child("search")

    @property
    def key(self) -> str:
        """Hash of everything but the values and the seed: trials with the same key compare.

        The number of mined neighbors is no part of it: a shorter list is a prefix of a longer one, unless
        neighbors are chosen from it by a rule.
        """
        recipe = self.trained(self.space.base)
        sections = ("scan", "selflabel") + ("pretext", "embed", "images") * self.from_images
        tree: dict[str, Any] = {name: semantic(getattr(recipe, name)) for name in sections}
        for axis in self.space.axes:
            node: Any = tree
            *path, name = axis.path.split(".")
            for section in path:
                node = node.get(section, {})
            node.pop(name, None)
        if recipe.mine.chooses:
            tree["chosen"] = semantic(recipe.mine)
        if recipe.mine.space != "features":
            tree["mined in"] = recipe.mine.space
        tree["prior"] = read_prior(recipe, recipe.scan.prior)
        axes = sorted(axis.path for axis in self.space.axes)
        inputs = [self.inputs[name].identity for name in ("index", "embed")]
        return digest([SCHEMA, tree, axes, recipe.num_clusters, self.from_images, inputs])

    def trained(self, recipe: Recipe) -> Recipe:
        """The recipe as a trial trains it: heads on embeddings, unless whole trials were asked for."""
        if self.from_images:
            return recipe
        return replace(
            recipe,
            scan=replace(recipe.scan, inputs="embeddings"),
            selflabel=replace(recipe.selflabel, inputs="embeddings"),
        )

    def recipe(self, values: Values, seed: int) -> Recipe:
        """Settings of one trial.

        Raises:
            ConfigError: the values do not go together.
        """
        return replace(self.trained(self.space.recipe(values)), seed=seed)

    def step(self, values: Values, seed: int) -> Step:
        """Identity of one trial."""
        return Step(STAGE, SCHEMA, {"search": self.key, "values": dict(values), "seed": seed})


def run_trial(
    setup: SearchSetup, values: Values, seed: int, report: Report, train: TrainTrial
) -> dict[str, Any]:
    """One trial, or what it found if it has been done.

    Args:
        setup: Settings and addresses.
        values: By path.
        seed: Of this trial.
        report: Told (rung, neighbor information) on the way.
        train: Gives clusters of all train images and what else is to be known.

    Returns:
        Its facts: status finished or rejected, reason, score and its parts, losses, seconds.
    """
    step = setup.step(values, seed)
    found = find(setup.out.child(step.directory), step)
    if found is not None:
        return dict(found.facts)
    draft = Draft(setup.out, step)
    draft.finish_part(STARTED, {}, {"search": setup.key, "values": dict(values), "seed": seed})
    began, rungs = time.monotonic(), dict[str, float]()

    def noted(rung: int, value: float) -> None:
        rungs[str(rung)] = value
        report(rung, value)

    files: dict[str, FileEntry] = {}
    facts: dict[str, Any] = {"status": "finished", "reason": ""}
    try:
        clusters, more = train(setup, values, seed, draft, noted)
    except (DataError, ConfigError) as error:  # a loss that is not finite, values that do not go together
        facts |= {"status": "rejected", "reason": error.text.partition("\n")[0]}
    else:
        judge = prepared(setup)[1]
        facts |= {**judge.score(clusters), **more}
        files[CLUSTERS] = draft.write_array(CLUSTERS, clusters.astype(np.int32))
        if reason := degenerate(clusters, judge.num_clusters):
            facts |= {"status": "rejected", "reason": reason}
    facts["rungs"] = rungs
    facts["seconds"] = round(time.monotonic() - began, 3)
    return dict(draft.commit(files, facts=facts).facts)


TrainTrial = Callable[[SearchSetup, Values, int, Draft, Report], tuple[NDArray[np.int64], dict[str, Any]]]
"""(setup, values, seed, draft, report) -> clusters of the train images [N], facts."""


def train_heads(
    setup: SearchSetup, values: Values, seed: int, draft: Draft, report: Report
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Scan heads, then self-labelling of the best one, on the cached embeddings."""
    features, judge = prepared(setup)
    features = copy.copy(features)
    features.seed = seed
    work = setup.run.child(".work", "search", draft.step.directory)
    job = TrainJob(setup.recipe(values, seed), setup.inputs, draft, work, "embeddings")
    objective, schedule = scan.build(job, features, features.device)
    left = list(RUNGS[:-1])

    def on_facts(logged: Mapping[str, Any]) -> None:
        if left and logged["step"] * RUNGS[-1] >= left[0] * logged["total"] and objective.best.is_known:
            report(left.pop(0), judge.neighbors_agree(features.clusters(_best(objective))[0]))

    history = fit(job, alone(on_facts, features.device), objective, features, schedule)
    head: nn.Module = heads_from(scan.kept_head(job, objective, features)[0]).to(features.device)
    facts = {"train_loss": _last(history, "loss"), "heldout_loss": objective.best.loss}
    if job.recipe.selflabel.epochs:
        job = replace(job, work=work.child("selflabel"))
        taught, schedule = selflabel.build(job, features, copy.deepcopy(head))
        fit(job, alone(device=features.device), taught, features, schedule)
        guard = selflabel.compare_with_scan(job, features, head, taught.average)
        is_kept = guard is None or guard["kept_new"]
        head = taught.average if is_kept else head
        facts |= {"selflabel_epochs": len(taught.history), "confident": taught.history[-1]}
        facts["selflabel_kept"] = float(is_kept)
    facts["scan_val_loss"] = _graph_loss(head, features, setup.inputs["mine"])
    setup.run.delete(f".work/search/{draft.step.directory}")
    return features.clusters(head)[0], facts


def _best(objective: Scan) -> ClusterHeads:
    return heads_from(under(objective.best.weights(), "heads"))


def _graph_loss(head: nn.Module, features: FeatureSource, mine: Artifact) -> float:
    """SCAN's validation loss (entropy weight 1) on the mined graph, for comparison only."""
    return float(HeldoutJudge(_whole_graph(mine), features)(head)[0])


@lru_cache(maxsize=1)
def _whole_graph(mine: Artifact) -> HeldoutGraph:
    gids, ids = neighbor_ids(mine, GRAPH_NEIGHBORS)
    return HeldoutGraph.build(gids, gids, ids)


def _last(history: History, name: str) -> float:
    return float(next(row[3] for row in reversed(history.rows) if row[2] == name))


def prepared(setup: SearchSetup) -> tuple[FeatureSource, Judge]:
    """Features and judge of this process, made once for all its trials."""
    embed, mine = setup.inputs["embed"], setup.inputs["mine"]
    return _prepared(embed, mine, setup.out, setup.space.base.clusters)


@lru_cache(maxsize=1)
def _prepared(embed: Artifact, mine: Artifact, out: Place, num_clusters: int) -> tuple[FeatureSource, Judge]:
    features = FeatureSource(embed, seed=0, device=alone().device)
    space = judged_space.find_or_make(embed, mine, out, num_clusters)
    return features, judged_space.judge(space, features.gids, num_clusters)


def prepare(setup: SearchSetup) -> None:
    """Make the space of the score, so that the trials, in their processes, find it."""
    judged_space.find_or_make(
        setup.inputs["embed"], setup.inputs["mine"], setup.out, setup.space.base.clusters
    )
