"""What stages fit in one task to all train embeddings, or to a seeded sample of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayscan.artifacts import Artifact, Draft
from rayscan.config import Recipe
from rayscan.context import Context
from rayscan.training.space_rows import embeddings_by_space
from rayscan.types import Ints
from rayscan.vectors.neighbor_table import neighbor_ids
from rayscan.vectors.parts import EmbeddingRows

NEIGHBORS = 50
"""Mined neighbors that are read, of each image."""


@dataclass(frozen=True)
class FitTask:
    """One fit, for one worker."""

    recipe: Recipe
    embed: Artifact
    mine: Artifact
    draft: Draft
    spaces: tuple[Artifact, ...] = ()
    """The embeddings of each space, where `embed` is the join of several."""


def fit_once(
    fit: Callable[[FitTask], None],
    part: str,
    recipe: Recipe,
    done: Mapping[str, Artifact],
    draft: Draft,
    context: Context,
) -> tuple[Artifact, dict[str, Any]]:
    """Fit on one worker of the fleet, unless an earlier attempt did, and commit what it stored.

    Args:
        fit: Stores its files and facts as a finished part.
        part: Name of that part.
        recipe: All settings.
        done: `embed` and `mine`, and `embed@NAME` of several spaces.
        draft: The attempt.
        context: Of the run.
    """
    count = min(EmbeddingRows(done["embed"]).train_rows, recipe.consensus.max_rows)
    context.progress.start(draft.step.stage, count, "images")
    if draft.finished_part(part) is None:
        spaces = tuple(embeddings_by_space(done).values())
        task = FitTask(recipe, done["embed"], done["mine"], draft, spaces)
        context.fleet.map(fit, [task], uses_gpu=True, is_alone=True)
    finished = draft.finished_part(part)
    assert finished is not None
    files, facts = finished
    return draft.commit(files, facts=facts), facts


def fitted_rows(
    recipe: Recipe, embed: Artifact, mine: Artifact
) -> tuple[Ints, NDArray[np.float32], Ints | None]:
    """Gids [n], features [n, D] and mined neighbors [n, K] of the rows that a fit sees.

    Above `consensus.max_rows` train images a seeded sample, ascending. It has no neighbors: those within it
    are others than those that were mined.
    """
    rows, most = EmbeddingRows(embed), recipe.consensus.max_rows
    if rows.train_rows <= most:
        gids, lists = neighbor_ids(mine, NEIGHBORS)
        return gids, rows.read(0, rows.train_rows), np.searchsorted(gids, lists)
    drawn = np.random.default_rng([recipe.seed, rows.train_rows]).choice(rows.train_rows, most, replace=False)
    chosen = np.sort(drawn)
    return rows.gids[chosen], rows.take(chosen), None
