"""How the pictures of a model of timm are made: its own configuration, as a section of settings."""

from __future__ import annotations

from dataclasses import replace

from rayscan.catalog import Pretrained
from rayscan.config.preprocessing import Preprocessing
from rayscan.errors import ConfigError
from rayscan.nets.timm_backbone import timm_config

WHERE = "--features"
INTERPOLATIONS = ("bilinear", "bicubic")


def preprocessing_of(model: str, size_px: int | None = None) -> Preprocessing:
    """Mean, std, size, crop and interpolation that timm evaluates a model with.

    Deviation: models whose authors squash a picture to a square, or pad it, are given the central crop as
    all others are; a picture keeps its aspect.

    Args:
        model: As timm knows it.
        size_px: Side of the square, where it shall differ from timm's.

    Raises:
        ConfigError: timm does not know the model; or wants a resampling other than bilinear and bicubic, no
            square, or no three channels.
    """
    config = timm_config(model)
    channels, height, width = config.input_size
    if channels != len(config.mean) or (size_px is None and height != width):
        raise ConfigError(
            "this model is not made for square colour pictures",
            expected="3 channels, as high as wide",
            got=f"{channels} x {height} x {width}",
            where=f"{WHERE} timm/{model}",
            fix="pass a size of its own, if only the shape is wrong",
        )
    if config.interpolation not in INTERPOLATIONS:
        raise ConfigError(
            "this model wants a resampling that rayscan has not",
            expected=" or ".join(INTERPOLATIONS),
            got=config.interpolation,
            where=f"{WHERE} timm/{model}",
        )
    return Preprocessing(
        size_px=size_px or height,
        crop_share=config.crop_pct,
        interpolation=config.interpolation,
        mean=tuple(config.mean),
        std=tuple(config.std),
    )


def preprocessing(entry: Pretrained, size_px: int | None = None) -> Preprocessing:
    """What a pretrained network is shown: timm's configuration, and what its catalog entry changes of it.

    Args:
        entry: A network.
        size_px: Side of the square; none takes the catalog's, and timm's if there is none.
    """
    found = preprocessing_of(entry.model, size_px or entry.size_px)
    if entry.mean_std is None:
        return found
    mean, std = entry.mean_std
    return replace(found, mean=(mean,) * 3, std=(std,) * 3)
