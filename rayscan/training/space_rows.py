"""Rows of several sources of features for the same images, which a run holds as `embed@NAME` each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rayscan.artifacts import Artifact
from rayscan.types import Ints
from rayscan.vectors.parts import EmbeddingRows

PREFIX = "embed@"


def embeddings_by_space(done: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """The embeddings of each space, in the order of the recipe; none where there is a single one."""
    return {name: artifact for name, artifact in done.items() if name.startswith(PREFIX)}


def rows_of(rows: EmbeddingRows, gids: Ints) -> Ints:
    """Row numbers of images that a space has; its train rows, and those after them, rise by gid."""
    train, rest = rows.gids[: rows.train_rows], rows.gids[rows.train_rows :]
    is_train = np.isin(gids, train)
    found = np.empty(len(gids), np.int64)
    found[is_train] = np.searchsorted(train, gids[is_train])
    found[~is_train] = rows.train_rows + np.searchsorted(rest, gids[~is_train])
    return found


def take(spaces: Sequence[Artifact], gids: Ints) -> tuple[NDArray[np.float32], ...]:
    """Features [n, D] of the images in each space."""
    found = []
    for artifact in spaces:
        rows = EmbeddingRows(artifact)
        found.append(rows.take(rows_of(rows, gids)))
    return tuple(found)
