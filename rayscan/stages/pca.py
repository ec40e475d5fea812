"""Stage pca: embeddings -> principal components of the train rows, for k-means."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rayscan.artifacts import Artifact, FileEntry, Step
from rayscan.config import Recipe
from rayscan.context import Context, Sources
from rayscan.sections import semantic
from rayscan.vectors.parts import EmbeddingRows
from rayscan.vectors.pca import MomentsTask, range_moments, shift_of, solve

NAME = "pca"
SCHEMA = 1
MIN_ROWS, MAX_RANGES = 65_536, 32
"""Rows of one piece of work; more for more rows, so that D x D sums of at most 32 pieces reach the driver."""
FILES = ("mean.npy", "components.npy", "variances.npy", "pca.json")


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do."""
    return Step(NAME, SCHEMA, semantic(recipe.pca), {"embed": done["embed"].identity})


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Add up the moments of all tasks on the fleet and solve.

    Raises:
        ConfigError: fewer components are possible than are asked for.
        DataError: an embedding is not finite.
    """
    rows = EmbeddingRows(done["embed"])
    shift = shift_of(rows)
    size = max(MIN_ROWS, math.ceil(rows.train_rows / MAX_RANGES))
    tasks = [
        MomentsTask(rows, first, min(first + size, rows.train_rows), shift)
        for first in range(0, rows.train_rows, size)
    ]
    context.progress.start(NAME, rows.train_rows, "rows")
    parts = context.fleet.map(
        range_moments,
        tasks,
        on_done=lambda i, _: context.progress.advance(tasks[i].stop - tasks[i].first),
    )
    pca = solve(parts, shift, recipe.pca.num_components, whiten=recipe.pca.whiten)
    draft = context.draft(step)
    share = float(pca.variances.sum() / pca.total_variance) if pca.total_variance else 1.0
    note = {"is_whitened": pca.is_whitened, "total_variance": pca.total_variance, "explained": share}
    files: dict[str, FileEntry] = {
        "mean.npy": draft.write_array("mean.npy", pca.mean),
        "components.npy": draft.write_array("components.npy", pca.components),
        "variances.npy": draft.write_array("variances.npy", pca.variances),
        "pca.json": draft.write_json("pca.json", note),
    }
    artifact = draft.commit(files, facts={"components": len(pca.variances), "explained": share})
    context.progress.finish(f"{len(pca.variances)} components, {100 * share:.1f} % of the variance")
    return artifact
