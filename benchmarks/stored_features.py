"""Rows of features as the stages index, embed and mine leave them, for trainings in this process."""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rayscan.artifacts import Artifact, Draft, Step
from rayscan.consensus.neighbors import nearest_rows
from rayscan.storage import Place
from rayscan.training.whitened import sampled_space
from rayscan.types import Ints
from testing.matrices import embedded

NEIGHBORS = 50
BLOCK = 64
"""Rows whose neighbors are gathered at a time."""
MineSpace = Literal["features", "whitened"]
_nearest: dict[str, tuple[Ints, NDArray[np.float32]]] = {}
"""Neighbors of the rows that came last, by their hash: many trainings on the same rows mine once."""


def stored(place: Place, rows: NDArray[np.float32], space: MineSpace = "features") -> dict[str, Artifact]:
    """Artifacts index, embed and mine below a place; the same rows give the same ones.

    Args:
        place: Of the run.
        rows: Unit rows [N, D].
        space: Where 50 neighbors are mined, exactly.
    """
    content = hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()
    index = Draft(place, Step("index", 1, {"sha256": content})).commit({}, facts={"rows": len(rows)})
    embed = embedded(place, rows, rows_per_part=len(rows))
    if space == "whitened":
        ids = sampled_space(embed).space.ids
        scores = _scores(rows, ids)
    elif content in _nearest:
        ids, scores = _nearest[content]
    else:
        ids = nearest_rows(rows, NEIGHBORS)
        scores = _scores(rows, ids)
        _nearest.clear()
        _nearest[content] = ids, scores
    table = pa.table({"gid": np.arange(len(ids)), "ids": list(ids), "scores": list(scores)})
    draft = Draft(place, Step("mine", 1, {"space": space}, {"embed": embed.identity}))
    files = {"neighbors.parquet": draft.write_table("neighbors.parquet", table)}
    return {"index": index, "embed": embed, "mine": draft.commit(files, facts={"space": space})}


def _scores(rows: NDArray[np.float32], ids: Ints) -> NDArray[np.float32]:
    """Cosines of rows with their neighbors [N, K]."""
    blocks = [
        np.einsum("nd,nkd->nk", rows[first : first + BLOCK], rows[ids[first : first + BLOCK]])
        for first in range(0, len(rows), BLOCK)
    ]
    return np.concatenate(blocks)
