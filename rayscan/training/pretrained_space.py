"""Features of a pretrained network of the catalog or of timm: its weights, from disk, into the run."""

from __future__ import annotations

from typing import Any

from rayscan.artifacts import Artifact, Draft
from rayscan.catalog import pretrained
from rayscan.config import Recipe
from rayscan.context import Context
from rayscan.engine.tensors import pack
from rayscan.nets.preprocessing import preprocessing
from rayscan.pretrained.cache import find_weights
from rayscan.pretrained.describe import UNKNOWN, described
from rayscan.pretrained.read import read_pretrained
from rayscan.sections import semantic
from rayscan.spaces import Space
from rayscan.training.models import WEIGHTS


def require(recipe: Recipe, space: Space) -> None:
    """Refuse a network whose weights are not on this machine, before anything is run.

    Raises:
        ConfigError: there is no such network, or its weights have to be fetched first, with the command.
    """
    del recipe
    find_weights(pretrained(space.target))


def told(recipe: Recipe, space: Space) -> dict[str, Any]:
    """What is known of the network before its weights are read."""
    entry = described(pretrained(space.target))
    return {
        "kind": space.kind,
        "name": entry.name,
        "model": entry.model,
        "licence": entry.licence,
        "trained_with": entry.trained_with or UNKNOWN,
        "preprocessing": semantic(preprocessing(entry, recipe.embed.size_px)),
    }


def config(recipe: Recipe, space: Space) -> dict[str, Any]:
    """Settings that decide the result: network, weights, and how pictures are made for it."""
    entry = pretrained(space.target)
    return {
        "model": entry.model,
        "sha256": find_weights(entry).sha256,
        "pooling": entry.pooling,
        "preprocessing": semantic(preprocessing(entry, recipe.embed.size_px)),
    }


def take(recipe: Recipe, space: Space, draft: Draft, context: Context) -> Artifact:
    """Store the network's weights as the stage's result; nodes read them there.

    Raises:
        ConfigError: the weights are not on this machine.
        ArtifactError: they cannot be read, or do not fit the network.
    """
    entry = pretrained(space.target)
    context.progress.start("pretext", 1, "network")
    tensors, read = read_pretrained(entry, recipe.embed.size_px)
    facts = {**told(recipe, space), **read, "method": "pretrained"}
    weights = {f"backbone.{k}": v for k, v in tensors.items()}
    files = {WEIGHTS: draft.write(WEIGHTS, pack(weights))}
    files["pretext.json"] = draft.write_json("pretext.json", facts)
    artifact = draft.commit(files, facts=facts)
    context.progress.finish(
        f"{space.target}, trained with {facts['trained_with']}, licence {facts['licence']}"
    )
    return artifact
