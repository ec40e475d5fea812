"""The known share of each cluster, where the user has one: a file of numbers -> what the loss takes."""

from __future__ import annotations

import json
import math
import re

import torch
from torch import Tensor

from rayscan import storage
from rayscan.config import Recipe
from rayscan.errors import ConfigError, DataError
from rayscan.text import decoded


def read_prior(recipe: Recipe, path: str | None) -> list[float] | None:
    """Shares that sum to 1, one per cluster; None if no file is named.

    Args:
        recipe: Says how many clusters there are.
        path: One number a line, or a JSON list; counts will do.

    Raises:
        ConfigError: the file cannot be read, or does not hold one positive number per cluster.
    """
    if path is None:
        return None
    try:
        text = decoded(storage.read(path))
        values = (
            json.loads(text)
            if text.lstrip().startswith("[")
            else re.split(r"[\s,;]+", text.strip(" \r\n\t,;"))
        )
        numbers = [float(value) for value in values]
    except (DataError, ValueError, TypeError) as error:
        raise ConfigError(
            "the prior cannot be read",
            expected="one number a line, or a JSON list",
            got=error,
            where=path,
            fix="write the share or the count of each cluster, one a line",
        ) from error
    if len(numbers) != recipe.num_clusters or not all(math.isfinite(n) and n > 0 for n in numbers):
        raise ConfigError(
            "the prior does not fit the clusters",
            expected=f"{recipe.num_clusters} positive numbers, as num_clusters",
            got=f"{len(numbers)} numbers, the least {min(numbers, default=None)}",
            where=path,
            fix="write the share or the count of each cluster, one a line",
        )
    total = sum(numbers)
    return [number / total for number in numbers]


def prior_tensor(values: list[float] | None, device: str = "cpu") -> Tensor | None:
    """The shares as float32 [C]."""
    return None if values is None else torch.tensor(values, dtype=torch.float32, device=device)
