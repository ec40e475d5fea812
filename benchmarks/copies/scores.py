"""How many known near-copies a grouping found, and how many of its groups hold one picture alone."""

from __future__ import annotations

import numpy as np

from benchmarks.copies.alterations import ALTERATIONS, ORIGINAL, Collection


def recalls(group: np.ndarray, known: Collection) -> dict[str, float]:
    """Share of the altered pictures that are in the group of their original, by alteration.

    Args:
        group: Number of each file's group [N].
        known: The collection.
    """
    first = {int(known.original[at]): at for at in np.flatnonzero(known.kind == ORIGINAL)}
    own = group[[first[number] for number in known.original.tolist()]]
    return {name: float((group == own)[known.kind == name].mean()) for name in ALTERATIONS}


def precision(group: np.ndarray, known: Collection) -> float:
    """Share of the groups of two and more files that show one picture alone; 1 if there is no group."""
    pairs = np.unique(np.stack([group, known.original]), axis=1)
    shown = np.bincount(pairs[0], minlength=int(group.max()) + 1)
    sizes = np.bincount(group, minlength=len(shown))
    is_group = sizes > 1
    return float((shown[is_group] == 1).mean()) if is_group.any() else 1.0


def mixed(group: np.ndarray, known: Collection) -> list[list[int]]:
    """Originals that a grouping has put together, by group."""
    found = [np.unique(known.original[group == g]).tolist() for g in np.unique(group)]
    return [originals for originals in found if len(originals) > 1]
