"""Features `file:PATH`: embeddings that the user has, described by the pretext stage, imported by embed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rayscan.artifacts import Artifact, Draft, Step
from rayscan.config import Recipe
from rayscan.context import Context
from rayscan.data.table import ImageTable
from rayscan.embeddings import (
    Vectors,
    assemble,
    content_identity,
    import_part,
    match_rows,
    open_vectors,
    parts_of,
)
from rayscan.errors import DataError
from rayscan.spaces import Space

DESCRIPTION = "pretext.json"


def require(recipe: Recipe, space: Space) -> None:
    """Refuse files that are not there or do not go together, before anything is run.

    Raises:
        ConfigError: the words name no file.
        DataError: nothing is there, or a file cannot be used.
    """
    del recipe
    open_vectors(space.target)


def told(recipe: Recipe, space: Space) -> dict[str, Any]:
    """What is known of the files before they are read."""
    del recipe
    vectors = open_vectors(space.target)
    return {
        "kind": space.kind,
        "source": space.target,
        "dim": vectors.dim,
        "rows": vectors.rows,
        "dtype": vectors.dtype,
        "licence": "not known",
        "trained_with": "not known",
    }


def config(recipe: Recipe, space: Space) -> dict[str, Any]:
    """What tells whether the files have changed; the content is hashed by `take`."""
    del recipe
    return {"vectors": open_vectors(space.target).fingerprint}


def take(recipe: Recipe, space: Space, draft: Draft, context: Context) -> Artifact:
    """Hash the files on the fleet and describe them; what follows depends on the content, not on its place.

    Raises:
        DataError: a file changed meanwhile, or cannot be read.
    """
    vectors = open_vectors(space.target)
    context.progress.start("pretext", 1, "embeddings")
    identity = content_identity(vectors, context.fleet.map)
    facts = {**told(recipe, space), "method": "file", "sha256": identity, "fingerprint": vectors.fingerprint}
    files = {DESCRIPTION: draft.write_json(DESCRIPTION, facts)}
    artifact = draft.commit(files, facts=facts, identity=identity)
    context.progress.finish(f"{vectors.rows:,} vectors x {vectors.dim} of {space.target}")
    return artifact


def embed(
    recipe: Recipe, space: Space, done: Mapping[str, Artifact], step: Step, context: Context
) -> Artifact:
    """Import the rows of all usable images on the fleet, in parts, as the stage embed.

    Raises:
        DataError: files changed, rows do not match the images, or too many are not usable.
    """
    vectors = _unchanged(open_vectors(space.target), done["pretext"])
    draft, index = context.draft(step), done["index"]
    match = match_rows(vectors, index, recipe.features_key)
    table = ImageTable.from_artifact(index)
    settings = recipe.embed
    parts = parts_of(
        vectors,
        match.rows,
        table.gids(None),
        draft,
        dtype=settings.dtype,
        rows_per_part=settings.rows_per_part,
    )
    todo = [part for part in parts if draft.finished_part(part.name) is None]
    context.progress.start("embed", sum(len(part.gids) for part in todo), "vectors")
    context.fleet.map(import_part, todo, on_done=lambda i, _: context.progress.advance(len(todo[i].gids)))
    files, facts = assemble(draft, parts, index, table.is_eval, recipe.images)
    artifact = draft.commit(files, facts={**facts, "matched_by": match.by, "unused": match.unused})
    left_out = f", {facts['quarantined']:,} images left out" if facts["quarantined"] else ""
    context.progress.finish(f"{facts['rows']:,} vectors x {facts['dim']}; {match.told()}{left_out}")
    return artifact


def _unchanged(vectors: Vectors, pretext: Artifact) -> Vectors:
    if vectors.fingerprint == pretext.facts["fingerprint"] or vectors.spec != pretext.facts["source"]:
        return vectors
    raise DataError(
        "the embeddings changed since they were hashed",
        expected=f"{pretext.facts['rows']:,} rows, as they were",
        got=f"{vectors.rows:,} rows, or other sizes or times",
        where=vectors.spec,
        fix="run again when nothing writes to them any more",
    )
