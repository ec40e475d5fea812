"""Stages of a run with several sources of features: pretext and embed once for each, then their join."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, cast

from rayscan.artifacts import Artifact, Step
from rayscan.config import Recipe
from rayscan.context import Context, Sources
from rayscan.spaces import Space
from rayscan.stages import embed, join, pretext

REPEATED = (pretext, embed)


def key_of(stage: str, space: Space) -> str:
    """What a run calls the result of a stage for one of several spaces."""
    return f"{stage}@{space.name}"


@dataclass(frozen=True)
class PerSpace:
    """A stage for one of the spaces of a recipe; its results are those of a run with that space alone."""

    stage: ModuleType
    space: Space

    @property
    def NAME(self) -> str:  # noqa: N802 - as modules of stages have it
        """What the run calls the result."""
        return key_of(self.stage.NAME, self.space)

    def plan(self, recipe: Recipe, done: Mapping[str, Artifact], sources: Sources) -> Step:
        """What the stage would do."""
        step: Step = self.stage.plan(self._alone(recipe), self._seen(done), sources)
        return step

    def run(self, recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
        """Do it."""
        artifact: Artifact = self.stage.run(self._alone(recipe), self._seen(done), step, context)
        return artifact

    def _alone(self, recipe: Recipe) -> Recipe:
        # What only a single space allows was refused for the whole recipe already.
        return replace(recipe, features=(self.space.spec,))

    def _seen(self, done: Mapping[str, Artifact]) -> dict[str, Artifact]:
        own: dict[str, Any] = {
            stage.NAME: done[key]
            for stage in REPEATED
            for key in [key_of(stage.NAME, self.space)]
            if key in done
        }
        return {**done, **own}


def for_spaces(stages: Sequence[ModuleType], spaces: Sequence[Space]) -> tuple[ModuleType, ...]:
    """The stages of a run: as they are for one space, else once for each, and joined after the last.

    Args:
        stages: Those of a method, in order.
        spaces: Of the recipe.
    """
    if len(spaces) == 1:
        return tuple(stages)
    found: list[Any] = []
    for stage in stages:
        if stage in REPEATED:
            found += [PerSpace(stage, space) for space in spaces]
        else:
            found.append(stage)
        if stage is embed:
            found.append(join)
    return cast(tuple[ModuleType, ...], tuple(found))
