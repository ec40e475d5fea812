"""The parts of the page on near-copies and outliers, from the columns of the assignments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from rayscan.assignments import MINED
from rayscan.report.content import NearCopies

MAX_GROUPS = 24
PER_GROUP = 9
"""Pictures of a group that are shown: a row of the page."""
MAX_OUTLIERS = 24


def near_copies(assigned: pa.Table, told: Mapping[str, Any]) -> NearCopies | None:
    """The largest groups; None where no copies were looked for.

    Args:
        assigned: The assignments.
        told: What stage duplicates says in `duplicates.json`.
    """
    if told["compared"] == "none" or not set(MINED) <= set(assigned.column_names):
        return None
    copies = assigned.filter(assigned["duplicate_of"].is_valid())
    gids, medoids = copies["gid"].to_numpy(), copies["duplicate_of"].to_numpy()
    of, sizes = np.unique(medoids, return_counts=True)
    largest = of[np.lexsort((of, -sizes))][:MAX_GROUPS]
    return NearCopies(
        groups=[[int(m), *gids[medoids == m][: PER_GROUP - 1].tolist()] for m in largest],
        num_groups=len(of),
        num_copies=len(gids),
        compared=told["compared"],
        threshold=told["threshold"],
        is_asked=told["asked"],
        nearest=np.array(told["nearest"], np.int64),
    )


def outliers(assigned: pa.Table) -> list[tuple[int, float]]:
    """The images farthest from all others, farthest first, without copies; empty without mined neighbors."""
    if not set(MINED) <= set(assigned.column_names):
        return []
    scored = assigned.filter(assigned["outlier"].is_valid())
    scored = scored.filter(scored["duplicate_of"].is_null())
    gids, scores = scored["gid"].to_numpy(), scored["outlier"].to_numpy()
    order = np.lexsort((gids, -scores))[:MAX_OUTLIERS]
    return [(int(gids[row]), float(scores[row])) for row in order]
