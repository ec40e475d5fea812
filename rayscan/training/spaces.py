"""The kinds of spaces (`rayscan.spaces`) whose features are not trained here: how each is taken over.

A kind is a module with what `SpaceImport` says, and a line in `IMPORTS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from rayscan.artifacts import Artifact, Draft
from rayscan.config import Recipe
from rayscan.context import Context
from rayscan.spaces import Space
from rayscan.training import checkpoint_space, file_space, pretrained_space


class SpaceImport(Protocol):
    """A module that takes over features, or a network that makes them."""

    def require(self, recipe: Recipe, space: Space) -> None:
        """Refuse a space whose files are not there."""

    def told(self, recipe: Recipe, space: Space) -> dict[str, Any]:
        """What is known of it beforehand, as `report.features` reads it."""

    def config(self, recipe: Recipe, space: Space) -> dict[str, Any]:
        """Settings and hashes that decide the result."""

    def take(self, recipe: Recipe, space: Space, draft: Draft, context: Context) -> Artifact:
        """Store it as the result of the pretext stage."""


IMPORTS: Mapping[str, SpaceImport] = {
    "checkpoint": checkpoint_space,
    "file": file_space,
    "pretrained": pretrained_space,
}


def require_spaces(recipe: Recipe) -> None:
    """Refuse features whose files are not there, before anything is run.

    Raises:
        ConfigError: naming the first.
    """
    for space in recipe.spaces:
        if space.kind in IMPORTS:
            IMPORTS[space.kind].require(recipe, space)


def told_of_spaces(recipe: Recipe) -> Iterator[dict[str, Any]]:
    """What is known beforehand of each space of a recipe."""
    for space in recipe.spaces:
        if space.kind in IMPORTS:
            yield IMPORTS[space.kind].told(recipe, space)
        else:
            yield {"kind": space.kind, "backbone": recipe.pretext.backbone}
