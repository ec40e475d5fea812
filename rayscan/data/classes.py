"""Class lists that ship with rayscan: the ImageNet-50/100/200 subsets of the SCAN paper, as WordNet ids.

SCAN (arXiv 2005.12320), section 3.4 and its published class lists. The lists name folders; they are used by
named experiments to choose images, never by a stage.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib import resources

from rayscan.errors import ConfigError

SUBSETS = (50, 100, 200)
_WNID = re.compile(r"n\d{8}")


@cache
def imagenet_subset(num_classes: int) -> tuple[str, ...]:
    """WordNet ids of a subset, ascending.

    Raises:
        ConfigError: there is no such subset.
    """
    if num_classes not in SUBSETS:
        raise ConfigError("there is no such ImageNet subset", expected=SUBSETS, got=num_classes)
    text = resources.files("rayscan.data").joinpath(f"imagenet_{num_classes}.txt").read_text("ascii")
    return tuple(text.split())


def wnid_of(key: str) -> str | None:
    """Class folder of an image in ImageNet's layout (`train/n01440764/n01440764_18.JPEG`), else None.

    Files of the flat layout (`n01440764_18.JPEG`) tell it too.
    """
    folder, _, base = key.rpartition("/")
    for part in (folder.rpartition("/")[2], base.partition("_")[0]):
        if _WNID.fullmatch(part):
            return part
    return None


def wnids_of(keys: Iterable[str]) -> list[str]:
    """All class folders, sorted; empty unless every image lies in one."""
    found = [wnid_of(key) for key in keys]
    return sorted({wnid for wnid in found if wnid is not None}) if found and None not in found else []
