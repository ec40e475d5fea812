"""How pictures are made for the network of a run: by the recipe's settings, or as its authors made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rayscan.artifacts import Artifact
from rayscan.config import ImagesConfig, Recipe
from rayscan.config.preprocessing import Preprocessing


def preprocessing_in(pretext: Artifact) -> Preprocessing | None:
    """How pictures are made for the network of a pretext result; None if the recipe's settings say it."""
    told = pretext.facts.get("preprocessing")
    return None if told is None else recorded_preprocessing(told)


def recorded_preprocessing(told: Mapping[str, Any]) -> Preprocessing:
    """How pictures are made, as facts record it: JSON knows no tuples."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in told.items()}
    return Preprocessing(**values)


def images_of(recipe: Recipe, pretext: Artifact | None) -> ImagesConfig:
    """The recipe's settings of images, with side and normalisation as the network wants them.

    A canvas that is smaller than the network's square is left out: pictures are cut in full.
    """
    made = None if pretext is None else preprocessing_in(pretext)
    if made is None:
        return recipe.images
    canvas = recipe.images.canvas_px
    return replace(
        recipe.images,
        size_px=made.size_px,
        canvas_px=canvas if canvas is not None and canvas >= made.size_px else None,
        mean=made.mean,
        std=made.std,
    )
