"""Which images an experiment leaves out, and which neighbors: pure functions of labels and a seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rayscan.data.keyed import permutation
from rayscan.experiments.base import Selection
from rayscan.types import Ints


def kept_share(selection: Selection, number: int, num_classes: int) -> float:
    """Share of a class that stays in train (SeLa Sec. 4.5 for light and heavy)."""
    if selection == "light":
        return 0.5 if number == num_classes - 1 else 1.0
    if selection == "heavy":
        return 1.0 - (number + 1) / 10 if num_classes <= 10 else 1.0 - (number + 1) / (num_classes + 1)
    if selection in ("third", "two thirds"):
        return 1.0 if number < num_left(selection, num_classes) else 0.0
    return 1.0


def num_left(selection: Selection, num_classes: int) -> int:
    """Classes that are left: those with images in train under light and heavy too."""
    if selection in ("third", "two thirds"):
        return max(2, round(num_classes * (1 if selection == "third" else 2) / 3))
    return sum(kept_share(selection, number, num_classes) > 0 for number in range(num_classes))


def left_out(
    selection: Selection, gids: Ints, labels: Ints, is_eval: NDArray[np.bool_], num_classes: int, seed: int
) -> Ints:
    """Gids that are not used, ascending.

    Args:
        selection: What stays.
        gids: Labelled images [n].
        labels: Their classes [n].
        is_eval: Whether they belong to eval [n]: whole classes leave it, single images do not.
        num_classes: L.
        seed: Of the choice within a class.
    """
    gone = []
    for number in range(num_classes):
        share = kept_share(selection, number, num_classes)
        mine = gids[(labels == number) & ~is_eval]
        order = permutation(seed, "removed images", number, len(mine))
        gone.append(mine[order[round(share * len(mine)) :]])
        if selection in ("third", "two thirds") and share == 0:
            gone.append(gids[(labels == number) & is_eval])
    return np.sort(np.concatenate(gone))


def pure_neighbors(
    gids: Ints, ids: Ints, label_of: Ints, chosen: NDArray[np.bool_] | None = None
) -> tuple[Ints, Ints]:
    """Neighbors of the anchor's class only, repeated in their order to fill the row.

    Args:
        gids: Anchors [N].
        ids: Their neighbors, nearest first [N, K].
        label_of: Class by gid, -1 if there is none: such an anchor keeps nothing.
        chosen: Neighbors that a rule of the stage mine left [N, K]; all if none.

    Returns:
        ids [N, K], and the columns they came from [N, K], -1 where an anchor without any meets itself.
    """
    same = (label_of[ids] == label_of[gids][:, None]) & (label_of[gids] >= 0)[:, None]
    if chosen is not None:
        same &= chosen
    order = np.argsort(~same, axis=1, kind="stable")
    count = same.sum(1)
    column = np.arange(ids.shape[1])[None, :] % np.maximum(count, 1)[:, None]
    taken = np.take_along_axis(order, column, axis=1)
    pure = np.where(count[:, None] > 0, np.take_along_axis(ids, taken, axis=1), gids[:, None])
    return pure, np.where(count[:, None] > 0, taken, -1)
