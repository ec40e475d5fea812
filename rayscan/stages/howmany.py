"""Stage howmany: embeddings and their neighbors -> how many clusters they suggest; where `auto` asks for it.

howmany.json                      the number, its range, every estimator, the curves
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from rayscan.artifacts import Artifact, Step
from rayscan.config import Recipe
from rayscan.consensus.cluster import MIN_NEIGHBORS, MIN_ROWS
from rayscan.consensus.how_many import Estimate, how_many
from rayscan.consensus.neighbors import unit_rows
from rayscan.consensus.space import Space, make_space
from rayscan.context import Context, Sources
from rayscan.errors import DataError
from rayscan.training.fitted_rows import FitTask, fit_once, fitted_rows
from rayscan.types import Ints

NAME = "howmany"
SCHEMA = 1
INPUTS = ("embed", "mine")
FOUND = "howmany.json"
PART = "estimate"


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """Return the step: the seed and how many rows are looked at, on embeddings and neighbors."""
    config = {"consensus": {"max_rows": recipe.consensus.max_rows}, "seed": recipe.seed}
    return Step(NAME, SCHEMA, config, {name: done[name].identity for name in INPUTS})


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Estimate on one worker of the fleet.

    Raises:
        DataError: there are too few train images, or an embedding is not finite.
    """
    artifact, facts = fit_once(fit, PART, recipe, done, context.draft(step), context)
    context.progress.finish(f"{facts['num_clusters']} clusters, {facts['low']} to {facts['high']}")
    return artifact


def fit(task: FitTask) -> None:
    """Estimate and store; runs on a worker."""
    _, space = whitened(task.recipe, task.embed, task.mine)
    found = how_many(space, task.recipe.seed)
    files = {FOUND: task.draft.write_json(FOUND, as_json(found, len(space.ids)))}
    facts = {"num_clusters": found.suggested, "low": found.low, "high": found.high, "rows": len(space.ids)}
    task.draft.finish_part(PART, files, facts)


def whitened(recipe: Recipe, embed: Artifact, mine: Artifact) -> tuple[Ints, Space]:
    """Gids of the train rows, or of the same sample of them that consensus is made from, and their space.

    Raises:
        DataError: there are too few rows, or one is not finite.
    """
    gids, features, neighbors = fitted_rows(recipe, embed, mine)
    if len(gids) < MIN_ROWS:
        raise DataError(
            "there are too few train images to tell how many clusters",
            expected=f">= {MIN_ROWS}",
            got=len(gids),
            fix="pass a number: --num-clusters 2",
        )
    if not np.isfinite(features).all():
        raise DataError(
            "the embeddings are not finite", got="NaN or infinity", fix="look at what made the features"
        )
    if neighbors is not None and neighbors.shape[1] < MIN_NEIGHBORS:
        neighbors = None
    return gids, make_space(unit_rows(features), neighbors)


def as_json(found: Estimate, num_rows: int) -> dict[str, object]:
    """What howmany.json holds."""
    return {**asdict(found), "rows": num_rows, "caution": found.caution}


def read_estimate(artifact: Artifact) -> Estimate:
    """The estimate of a finished result."""
    tree = artifact.read_json(FOUND)
    pairs = {key: tuple((a, b) for a, b in tree[key]) for key in ("table", "curve", "modularity")}
    return Estimate(tree["suggested"], tree["low"], tree["high"], **pairs)
