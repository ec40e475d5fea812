"""What an experiment is: rows, each a change of a recipe, and what is read of the run.

The tables stand beside this file, one file per paper; `rayscan experiment NAME` runs one. Standard library
only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rayscan.config import PRETEXTS, Recipe
from rayscan.sections import get, with_values

Value = Any
"""A setting, or a function of the recipe the user gave that makes it."""
Selection = Literal["all", "light", "heavy", "third", "two thirds"]
"""Which train images and classes are used, see `selection`."""

Neighbors = Literal["mined", "pure"]
"""Neighbors as they were mined, or without those of another class, which reads labels."""


@dataclass(frozen=True)
class Row:
    """One row of the table: a run, or other scores of the run of another row."""

    name: str
    settings: Mapping[str, Value | Callable[[Recipe], Value]] = field(default_factory=dict)
    """Dotted setting -> its value, or a function of the user's recipe."""
    reads: Literal["model", "kmeans", "pixels", "purity"] = "model"
    """Scores of the run's model; of k-means on its embeddings, or on raw pixels; purity of its neighbors."""
    x: float | None = None
    """Place on the figure's axis."""
    series: str = ""
    """Line of the figure it belongs to."""
    images: Selection = "all"
    """Train images and classes that are left; made at index time, reads labels."""
    neighbors: Neighbors = "mined"
    """Which of the mined neighbors are met."""
    first_labels: str | None = None
    """For method sela: true for the classes themselves (reads labels), or the row whose clusters to take."""
    paper: Mapping[str, str] = field(default_factory=dict)
    """Recipe -> what the paper reports."""

    @property
    def reads_labels(self) -> bool:
        """Whether labels decide what is trained, not only how it is scored."""
        return self.images != "all" or self.neighbors == "pure" or self.first_labels == "true"


@dataclass(frozen=True)
class Experiment:
    """A table of a paper, or one like it."""

    name: str
    title: str
    source: str
    """Paper and table."""
    rows: tuple[Row, ...]
    metrics: tuple[str, ...] = ("acc", "nmi", "ari")
    """Columns; the first is drawn."""
    x_label: str = ""
    """Label of the figure's x axis; without it the rows become bars."""
    notes: str = ""
    """Differences from the paper."""

    @property
    def reads_labels(self) -> bool:
        """Whether some row trains on what labels say."""
        return any(row.reads_labels for row in self.rows)


def recipe_of(recipe: Recipe, row: Row) -> Recipe:
    """The recipe of a row.

    Raises:
        ConfigError: there is no such setting, or a value is out of range.
    """
    return with_values(recipe, {k: v(recipe) if callable(v) else v for k, v in row.settings.items()})


def same_as(key: str) -> Callable[[Recipe], Value]:
    """The user's own setting of another key."""
    return lambda recipe: get(recipe, key)


def fitting(on_images: str, on_embeddings: str) -> Callable[[Recipe], Value]:
    """For SeLa: one setting of scan where it trains on images, another on embeddings."""
    return lambda recipe: get(recipe, on_embeddings if recipe.sela.inputs == "embeddings" else on_images)


def at_least(key: str, least: int) -> Callable[[Recipe], Value]:
    """The user's own setting, or more."""
    return lambda recipe: max(least, get(recipe, key))


def at_most(key: str, most: float) -> Callable[[Recipe], Value]:
    """The user's own setting, or less."""
    return lambda recipe: min(most, get(recipe, key))


def scaled(key: str, factor: float, least: int = 0) -> Callable[[Recipe], Value]:
    """The user's own setting, or `least` if that is more, times a factor, rounded."""
    return lambda recipe: round(factor * max(least, get(recipe, key)))


def unavailable(row: Row) -> str:
    """Why a row cannot be run by this version; empty if it can."""
    asked = row.settings.get("pretext.method")
    return "" if asked is None or asked in PRETEXTS else f"there is no pretext {asked}"
