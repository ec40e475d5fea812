"""Stages of a run with several spaces: once for each, as if it were alone. No Ray is started."""

from __future__ import annotations

from types import ModuleType

from rayscan.artifacts import Step
from rayscan.config import Recipe
from rayscan.context import Sources
from rayscan.stages import embed, index, mine, pretext
from rayscan.stages.per_space import PerSpace, for_spaces


def test_stages_are_done_once_for_each_space() -> None:
    stages: tuple[ModuleType, ...] = (index, pretext, embed, mine)
    alone = Recipe(name="r").spaces
    several = Recipe(name="r", method="kmeans", features=("own", "lite0")).spaces
    assert for_spaces(stages, alone) == stages
    names = [stage.NAME for stage in for_spaces(stages, several)]
    assert names == ["index", "pretext@own", "pretext@lite0", "embed@own", "embed@lite0", "embed", "mine"]


def test_a_space_of_several_is_planned_as_if_it_were_alone() -> None:
    """So that a run with it alone takes its results over."""
    recipe = Recipe(name="r", num_clusters=2, method="kmeans", features=("lite0", "own"))
    one = Recipe(name="r", num_clusters=2, method="kmeans", features=("lite0",))
    step: Step = PerSpace(pretext, recipe.spaces[0]).plan(recipe, {}, Sources(data=None))
    assert step == pretext.plan(one, {}, Sources(data=None))
