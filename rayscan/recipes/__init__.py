"""Whole runs as Python functions. A recipe decides everything; the command line overrides single settings.

Each function's docstring is its lab note: paper and table, command, what was measured. Where a paper and its
published code differ, the paper is followed; `Deviation:` lines say where this is not so, and why.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from rayscan.config import Recipe
from rayscan.errors import ConfigError
from rayscan.recipes.cifar10 import cifar10
from rayscan.recipes.cifar10_fast import cifar10_fast
from rayscan.recipes.cifar20 import cifar20
from rayscan.recipes.custom import custom
from rayscan.recipes.custom_scratch import custom_scratch
from rayscan.recipes.digits import digits
from rayscan.recipes.imagenet import (
    imagenet,
    imagenet50,
    imagenet100,
    imagenet200,
    imagenet_authors_later,
)
from rayscan.recipes.stl10 import stl10

RECIPES: dict[str, Callable[[], Recipe]] = {
    "digits": digits,
    "custom": custom,
    "custom_scratch": custom_scratch,
    "cifar10": cifar10,
    "cifar10_fast": cifar10_fast,
    "cifar20": cifar20,
    "stl10": stl10,
    "imagenet": imagenet,
    "imagenet_authors_later": imagenet_authors_later,
    "imagenet50": imagenet50,
    "imagenet100": imagenet100,
    "imagenet200": imagenet200,
}
"""Name on the command line -> the function that makes it."""


def by_name(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ConfigError: there is none; the message names the nearest ones.
    """
    if name in RECIPES:
        return RECIPES[name]()
    near = difflib.get_close_matches(name, RECIPES)
    raise ConfigError(
        f"there is no recipe {name}",
        expected=", ".join(RECIPES),
        got=name,
        where="recipe",
        fix=f"perhaps you meant {' or '.join(near)}" if near else "custom takes any images",
    )
