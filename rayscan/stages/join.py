"""Stage join: embeddings of several spaces -> one, for methods that want a single row per image.

Each space counts the same: its rows, of unit length, are taken to their principal components and divided by
the root of their whole variance; side by side they are scaled to unit length again. New images go through
the components of the run that they are put into.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rayscan.artifacts import Artifact, Draft, FileEntry, Step
from rayscan.config import Recipe
from rayscan.context import Context, Sources
from rayscan.errors import DataError
from rayscan.training.space_rows import embeddings_by_space, rows_of
from rayscan.types import Ints
from rayscan.vectors.part_list import write_part_list
from rayscan.vectors.parts import EmbeddingRows
from rayscan.vectors.pca import MomentsTask, range_moments, shift_of, solve

NAME = "embed"
"""The stages that follow read it as they read the embeddings of a single space."""
STAGE = "join"
SCHEMA = 1
TRAINED = "join"
"""In `predict`: the join of the run that new images are put into."""
ROWS_PER_RANGE = 65_536
Bases: TypeAlias = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Mean [D] and scaled components [P, D] of each space."""


@dataclass(frozen=True)
class Part:
    """Rows [first, stop) of the join, to be made by one task."""

    spaces: Mapping[str, Artifact]
    gids: Ints
    bases: Bases
    draft: Draft
    number: int
    first: int
    stop: int
    dtype: str

    @property
    def name(self) -> str:
        """File name of the part."""
        return f"part-{self.number:05d}.npy"


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do."""
    config = {"joined_components": recipe.embed.joined_components, "dtype": recipe.embed.dtype}
    inputs = {name: done[name].identity for name in (*embeddings_by_space(done), TRAINED) if name in done}
    return Step(STAGE, SCHEMA, config, inputs)


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Find the components of each space and join all rows on the fleet.

    Raises:
        DataError: no image has features in all spaces.
    """
    draft, spaces = context.draft(step), embeddings_by_space(done)
    gids, num_train = _shared(spaces)
    bases = bases_of(done[TRAINED], spaces) if TRAINED in done else _bases(recipe, spaces, context)
    size = recipe.embed.rows_per_part
    parts = [
        Part(spaces, gids, bases, draft, number, first, min(first + size, len(gids)), recipe.embed.dtype)
        for number, first in enumerate(range(0, len(gids), size))
    ]
    todo = [part for part in parts if draft.finished_part(part.name) is None]
    context.progress.start(STAGE, sum(p.stop - p.first for p in todo), "images")
    context.fleet.map(
        join_part, todo, on_done=lambda i, _: context.progress.advance(todo[i].stop - todo[i].first)
    )
    files = _files(draft, parts, gids, bases)
    dim = sum(len(components) for _, components in bases.values())
    facts = {"rows": len(gids), "train_rows": num_train, "dim": dim, "num_views": 1, "spaces": list(bases)}
    artifact = draft.commit(files, facts=facts)
    context.progress.finish(f"{len(gids):,} images x {dim} of {len(spaces)} spaces")
    return artifact


def join_part(part: Part) -> None:
    """Join the rows of one part and note it as finished."""
    gids, stored = part.gids[part.first : part.stop], {}
    for name, embed in part.spaces.items():
        rows = EmbeddingRows(embed)
        stored[name] = rows.take(rows_of(rows, gids))
    entry = part.draft.write_array(part.name, joined(stored, part.bases).astype(np.dtype(part.dtype)))
    part.draft.finish_part(part.name, {part.name: entry})


def joined(spaces: Mapping[str, NDArray[np.float32]], bases: Bases) -> NDArray[np.float32]:
    """Rows of unit length of several spaces -> one row of unit length, or of zeros, for each image.

    Args:
        spaces: Rows of the same images in each space, by its name in the run [n, D].
        bases: From `bases_of`.
    """
    # in float64, so that what float32 keeps does not depend on how many rows a product has
    blocks = [(rows.astype(np.float64) - bases[name][0]) @ bases[name][1].T for name, rows in spaces.items()]
    rows = np.concatenate(blocks, axis=1)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return unit.astype(np.float32)


def _shared(spaces: Mapping[str, Artifact]) -> tuple[Ints, int]:
    """Images that every space has, train images first, and how many those are."""
    all_rows = [EmbeddingRows(artifact) for artifact in spaces.values()]
    train = reduce(np.intersect1d, (rows.gids[: rows.train_rows] for rows in all_rows))
    rest = reduce(np.intersect1d, (rows.gids[rows.train_rows :] for rows in all_rows))
    if not len(train) and not len(rest):
        raise DataError(
            "no image has features in all spaces",
            expected="spaces of the same images",
            got=", ".join(f"{name}: {len(r.gids):,}" for name, r in zip(spaces, all_rows, strict=True)),
            where="features",
        )
    return np.concatenate([train, rest]).astype(np.int64), len(train)


def _bases(recipe: Recipe, spaces: Mapping[str, Artifact], context: Context) -> Bases:
    """Mean and scaled components of each space, from moments added up by all tasks."""
    bases: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
    for name, artifact in spaces.items():
        rows = EmbeddingRows(artifact)
        shift, total = shift_of(rows), rows.train_rows
        size = max(ROWS_PER_RANGE, math.ceil(total / 32))
        tasks = [MomentsTask(rows, at, min(at + size, total), shift) for at in range(0, total, size)]
        kept = min(recipe.embed.joined_components, rows.dim, total)
        pca = solve(context.fleet.map(range_moments, tasks), shift, kept)
        scale = 1 / math.sqrt(pca.total_variance) if pca.total_variance > 0 else 0.0
        bases[name] = (pca.mean.astype(np.float32), (scale * pca.components).astype(np.float32))
    return bases


def bases_of(trained: Artifact, spaces: Iterable[str]) -> Bases:
    """The components that a join of a run has, by the names of its spaces."""
    return {
        n: (trained.read_array(f"{n}-mean.npy"), trained.read_array(f"{n}-components.npy")) for n in spaces
    }


def _files(
    draft: Draft,
    parts: list[Part],
    gids: Ints,
    bases: Bases,
) -> dict[str, FileEntry]:
    files: dict[str, FileEntry] = {}
    for part in parts:
        finished = draft.finished_part(part.name)
        assert finished is not None
        files |= finished[0]
    for name, (mean, components) in bases.items():
        files[f"{name}-mean.npy"] = draft.write_array(f"{name}-mean.npy", mean)
        files[f"{name}-components.npy"] = draft.write_array(f"{name}-components.npy", components)
    files |= write_part_list(draft, parts, gids)
    return files
