"""Stage assign: every usable image -> its cluster, with a confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rayscan.artifacts import Artifact, Draft, Step
from rayscan.assignments import FILE, SEEDS, assignment_tables
from rayscan.assignments import SCHEMA as TABLE_SCHEMA
from rayscan.config import Recipe
from rayscan.context import Context, Sources
from rayscan.data.loader import ViewLoader
from rayscan.data.table import IMAGES, ImageTable
from rayscan.engine.forward import forward
from rayscan.methods import METHODS
from rayscan.sections import semantic
from rayscan.stages import duplicates
from rayscan.stages.kmeans import Centroids
from rayscan.stages.rules import Rule, probabilities, reads_spaces, rule_of
from rayscan.tables import write_tables
from rayscan.training.models import load_cluster_net
from rayscan.training.pictures import images_of
from rayscan.training.space_rows import embeddings_by_space, take
from rayscan.types import Ints
from rayscan.vectors.nearest import nearest_centroid
from rayscan.vectors.parts import EmbeddingRows
from rayscan.vectors.prototypes import ClusterSummary, find_prototypes

NAME = "assign"
SCHEMA = 2
TOP = 5
ROWS_PER_PART = 65_536
PROBABILITIES_AT_ONCE = 1 << 23
"""Probabilities a k-means holds at a time."""


@dataclass(frozen=True)
class Part:
    """Rows [first, stop) to be assigned by one task."""

    recipe: Recipe
    index: Artifact
    pretext: Artifact | None
    embed: Artifact
    model: Artifact
    draft: Draft
    number: int
    first: int
    stop: int
    spaces: tuple[Artifact, ...] = ()
    """The embeddings of each space, where `embed` is the join of several."""

    @property
    def name(self) -> str:
        """File name of the part."""
        return f"probs-{self.number:05d}.npy"


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do."""
    images = images_of(recipe, done.get("pretext"))
    # Rows name the places of images, which the identity of an index leaves out.
    places = done["index"].entry(IMAGES).sha256
    config = {"assign": semantic(recipe.assign), "images": semantic(images), "places": places}
    inputs = ("index", "pretext", "embed", METHODS[recipe.method].model, duplicates.NAME)
    return Step(NAME, SCHEMA, config, {name: done[name].identity for name in inputs if name in done})


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Assign all parts on the fleet, then mark prototypes and write the tables."""
    draft = context.draft(step)
    gids: Ints = done["embed"].read_array("gids.npy")
    spaces = tuple(embeddings_by_space(done).values())
    parts = [
        Part(
            recipe,
            done["index"],
            done.get("pretext"),
            done["embed"],
            done[METHODS[recipe.method].model],
            draft,
            number,
            first,
            min(first + ROWS_PER_PART, len(gids)),
            spaces,
        )
        for number, first in enumerate(range(0, len(gids), ROWS_PER_PART))
    ]
    todo = [part for part in parts if draft.finished_part(part.name) is None]
    context.progress.start(NAME, sum(p.stop - p.first for p in todo), "images")
    advance = context.progress.advance
    context.fleet.map(
        assign_part, todo, uses_gpu=True, on_done=lambda i, _: advance(todo[i].stop - todo[i].first)
    )
    num_clusters = recipe.clusters_formed
    summary = ClusterSummary(num_clusters, recipe.assign.num_prototypes)
    for part in parts:
        tops = _tops(draft, part)
        summary.add(tops["ids"][:, 0], tops["probs"][:, 0])
    prototypes = find_prototypes(summary, done["embed"])
    mined = duplicates.columns_of(done[duplicates.NAME], gids) if duplicates.NAME in done else None
    files = {
        FILE: write_tables(
            draft,
            FILE,
            TABLE_SCHEMA,
            lambda: assignment_tables(
                done["index"], gids, partial(_tops_between, draft, parts), prototypes.values(), mined
            ),
        ),
        "clusters.json": draft.write_json("clusters.json", summary.cluster_list(gids, prototypes)),
    }
    if recipe.method == "kmeans":
        files[SEEDS] = draft.write_array(SEEDS, _seed_clusters(draft, parts))
    used = int((summary.sizes > 0).sum())
    artifact = draft.commit(files, facts={"rows": len(gids), "num_clusters": num_clusters, "used": used})
    context.progress.finish(f"{len(gids):,} images in {used} of {num_clusters} clusters")
    return artifact


def _tops(draft: Draft, part: Part) -> np.ndarray[Any, Any]:
    """The predictions of a part, see `top_dtype`."""
    finished = draft.finished_part(part.name)
    assert finished is not None
    return np.frombuffer(finished[0][part.name].read(draft.place), dtype=top_dtype())


def _tops_between(draft: Draft, parts: Sequence[Part], first: int, stop: int) -> np.ndarray[Any, Any]:
    """The predictions of rows [first, stop)."""
    needed = parts[first // ROWS_PER_PART : -(-stop // ROWS_PER_PART)]
    begin = needed[0].first
    return np.concatenate([_tops(draft, part) for part in needed])[first - begin : stop - begin]


def top_dtype() -> np.dtype[Any]:
    """One row of a part: the five most probable clusters and their probabilities."""
    return np.dtype([("ids", np.int32, TOP), ("probs", np.float32, TOP)])


def _seed_clusters(draft: Draft, parts: Sequence[Part]) -> np.ndarray[Any, Any]:
    """Clusters by every seed, int32 [seeds, rows]."""
    found = []
    for part in parts:
        finished = draft.finished_part(part.name)
        assert finished is not None
        found.append(draft.read_part_array(finished[0][SEEDS]))
    return np.concatenate(found, axis=1)


def assign_part(part: Part) -> None:
    """Probabilities of one part; only the five best are kept."""
    rule = rule_of(part.model)
    if isinstance(rule, Centroids):
        _assign_by_centroids(part, rule)
        return
    rows = best_of(_by_images(part) if rule is None else _by_features(part, rule))
    entry = part.draft.write(part.name, rows.tobytes())
    part.draft.finish_part(part.name, {part.name: entry})


def _assign_by_centroids(part: Part, fitted: Centroids) -> None:
    """Probabilities of one part by a k-means, some rows at a time; beside them the clusters by every seed."""
    rows = EmbeddingRows(part.embed)
    step = max(1, PROBABILITIES_AT_ONCE // fitted.all.shape[1])
    tops, labels = [], []
    for first in range(part.first, part.stop, step):
        x = fitted.pca.project(rows.read(first, min(first + step, part.stop)))
        tops.append(best_of(torch.from_numpy(fitted.probabilities(x))))
        labels.append(np.stack([nearest_centroid(x, c)[0] for c in fitted.all]))
    by_seed = np.concatenate(labels, axis=1)
    by_seed[fitted.best] = np.concatenate([top["ids"][:, 0] for top in tops])
    entries = {
        part.name: part.draft.write(part.name, np.concatenate(tops).tobytes()),
        SEEDS: part.draft.write_array(f"seeds-{part.number:05d}.npy", by_seed),
    }
    part.draft.finish_part(part.name, entries)


def best_of(probs: Tensor) -> np.ndarray[Any, Any]:
    """The five best of [n, C] probabilities, see `top_dtype`."""
    count = min(TOP, probs.shape[1])
    # A stable sort, so that equal probabilities give the lower cluster number.
    order = torch.argsort(probs, dim=1, descending=True, stable=True)[:, :count]
    rows = np.zeros(len(probs), dtype=top_dtype())
    rows["ids"][:, count:] = -1
    rows["ids"][:, :count] = order.numpy()
    rows["probs"][:, :count] = probs.gather(1, order).numpy()
    return rows


def _by_images(part: Part) -> Tensor:
    """[n, C] float32 on the CPU, by the network on plain images."""
    assert part.pretext is not None, "several sources of features are read from embeddings"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net, loader, gids = _loaded(part.recipe, part.index, part.pretext, part.model, device)
    mine = gids[part.first : part.stop]
    batch_size = part.recipe.assign.batch_size
    logits = forward(lambda pixels: net(pixels)[0], loader.plain, mine, batch_size=batch_size, device=device)
    return logits.softmax(-1)


def _by_features(part: Part, rule: Rule) -> Tensor:
    """[n, C] float32, from stored features: of every source, or of the join of several."""
    rows = EmbeddingRows(part.embed)
    if part.spaces and reads_spaces(rule):
        stored = take(part.spaces, rows.gids[part.first : part.stop])
    else:
        stored = (np.array(rows.read(part.first, part.stop)),)
    return torch.from_numpy(probabilities(rule, stored))


@lru_cache(maxsize=1)
def _loaded(
    recipe: Recipe, index: Artifact, pretext: Artifact, model: Artifact, device: str
) -> tuple[nn.Module, ViewLoader, Ints]:
    """Net and loader of this process, made once for all its parts."""
    table = ImageTable.from_artifact(index)
    net = load_cluster_net(recipe, pretext, model).eval().to(device)
    loader = ViewLoader(table, images_of(recipe, pretext), recipe.seed, device=device)
    return net, loader, table.gids(None)
