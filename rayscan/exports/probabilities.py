"""Probabilities of all clusters for every image, some rows at a time: assignments keep the five best."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import torch

from rayscan.artifacts import Artifact
from rayscan.data.loader import ViewLoader
from rayscan.data.table import ImageTable
from rayscan.engine.forward import forward
from rayscan.methods import METHODS
from rayscan.run import Run
from rayscan.stages import rules
from rayscan.stages.rules import reads_spaces, rule_of
from rayscan.training.models import load_cluster_net
from rayscan.training.pictures import images_of
from rayscan.training.space_rows import PREFIX, take
from rayscan.types import Floats, Ints

Compute = Callable[[Ints, Floats], Floats]
"""Gids [n] and their embeddings [n, D] -> probabilities [n, C]."""
AS_ASSIGNED = 1e-3
"""A confidence that is farther from the assigned one is of another grouping: someone edited it."""


def model_of(run: Run) -> Compute | None:
    """What computes probabilities by the model of a run; None if the run has none, as a prediction.

    Raises:
        ArtifactError: the model cannot be read.
    """
    recipe = run.recipe
    stage = METHODS[recipe.method].model
    if stage not in run.record["stages"]:
        return None
    model = run.artifact(stage)
    rule = rule_of(model)
    if rule is None:
        return _by_pictures(run, model)
    spaces = [run.artifact(name) for name in run.record["stages"] if name.startswith(PREFIX)]
    if spaces and reads_spaces(rule):
        return lambda gids, _: rules.probabilities(rule, take(spaces, gids))
    return lambda _, rows: rules.probabilities(rule, (rows,))


def _by_pictures(run: Run, model: Artifact) -> Compute:
    recipe, pretext, index = run.recipe, run.artifact("pretext"), run.artifact("index")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = load_cluster_net(recipe, pretext, model).eval().to(device)
    loader = ViewLoader(
        ImageTable.from_artifact(index), images_of(recipe, pretext), recipe.seed, device=device
    )

    def compute(gids: Ints, _: Floats) -> Floats:
        size = recipe.assign.batch_size
        logits = forward(lambda px: net(px)[0], loader.plain, gids, batch_size=size, device=device)
        probs: Floats = logits.softmax(-1).numpy()
        return probs

    return compute


def probabilities(compute: Compute | None, assigned: pa.Table, rows: Floats, used: Ints) -> Floats:
    """Probabilities of the clusters that have images; those of a row sum to 1, its cluster has the highest.

    Args:
        compute: From `model_of`.
        assigned: Rows with gid, cluster, confidence, top5 and top5_probs.
        rows: Their embeddings [n, D].
        used: Clusters that have images, rising [C].

    Returns:
        float32 [n, C]. Rows whose assignment is not the model's, as after edits, have the probabilities that
        stand in the table; what the five best leave is spread over the other clusters.
    """
    gids, cluster = assigned["gid"].to_numpy(), assigned["cluster"].to_numpy()
    stored = _stored(assigned, used)
    if compute is not None:
        made = compute(gids, rows)
        count = made.shape[1]
        own = np.take_along_axis(made, cluster.clip(0, count - 1)[:, None].astype(np.int64), axis=1).ravel()
        is_own = (made.argmax(axis=1) == cluster) & (
            np.abs(own - assigned["confidence"].to_numpy()) < AS_ASSIGNED
        )
        is_known = (used >= 0) & (used < count)
        modelled = np.where(is_known, made[:, used.clip(0, count - 1)], 0)
        stored = np.where(is_own[:, None], modelled, stored)
    total: Floats = stored / stored.sum(axis=1, keepdims=True)
    return total


def _stored(assigned: pa.Table, used: Ints) -> Floats:
    """What the table says of each cluster in use, [n, C]."""
    count = len(used)
    made = np.full((len(assigned), count), np.nan, np.float32)
    lists, values = (assigned[name].combine_chunks() for name in ("top5", "top5_probs"))
    row = np.repeat(np.arange(len(assigned)), lists.value_lengths().to_numpy())
    number, value = lists.flatten().to_numpy(), values.flatten().to_numpy()
    at = np.searchsorted(used, number).clip(max=count - 1)
    is_used = used[at] == number
    made[row[is_used], at[is_used]] = value[is_used]
    own = np.searchsorted(used, assigned["cluster"].to_numpy())
    confidence = assigned["confidence"].to_numpy()
    made[np.arange(len(made)), own] = confidence
    is_other = np.isnan(made)
    rest = np.maximum(1 - np.nansum(made, axis=1), 0) / np.maximum(is_other.sum(axis=1), 1)
    # no other cluster may have as much as the row's own
    ceiling = np.nextafter(confidence, np.float32(0))
    spread: Floats = np.where(is_other, np.minimum(rest, ceiling)[:, None], made).astype(np.float32)
    return spread
