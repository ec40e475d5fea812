"""Images as a person names them in edits -> their gids: a gid, or text that is an id, a source or a key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayscan.artifacts import Artifact
from rayscan.assignments import FILE
from rayscan.edits.operations import Move, Operation
from rayscan.errors import DataError
from rayscan.tables import row_groups
from rayscan.types import Ints

TEXTS = ("id", "source", "key")
"""Columns that text is sought in."""
SHOWN = 5


def with_gids(operations: Sequence[Operation], assign: Artifact, where: str) -> tuple[Operation, ...]:
    """The operations with images as gids, rising and each once.

    Args:
        operations: As they were read.
        assign: The assignments, which have every usable image.
        where: Address of the file, for messages.

    Raises:
        DataError: an image is not there, or text is that of several.
    """
    named = [one for operation in operations if isinstance(operation, Move) for one in operation.images]
    gids = {one for one in named if isinstance(one, int)}
    texts = {one for one in named if isinstance(one, str)}
    if not named:
        return tuple(operations)
    found = _find(assign, np.array(sorted(gids), np.int64), texts)
    missing = [one for one in named if one not in found]
    if missing:
        raise _refused("images that are not in the assignments", "gids, ids, sources or keys", missing, where)
    unclear = [one for one in named if len(found[one]) > 1]
    if unclear:
        raise _refused("text that several images have", "a gid, or their source", unclear, where)
    return tuple(_resolved(operation, found) for operation in operations)


def _resolved(operation: Operation, found: dict[int | str, set[int]]) -> Operation:
    if not isinstance(operation, Move):
        return operation
    return replace(operation, images=tuple(sorted({gid for one in operation.images for gid in found[one]})))


def _find(assign: Artifact, gids: Ints, texts: set[str]) -> dict[int | str, set[int]]:
    """Gids of the images that have a gid or a text."""
    found: dict[int | str, set[int]] = {}
    wanted = pa.array(sorted(texts), pa.string())
    for group in row_groups(assign, FILE, ["gid", *(TEXTS if texts else ())]):
        here = group["gid"].to_numpy()
        for gid in np.intersect1d(here, gids).tolist():
            found.setdefault(gid, set()).add(gid)
        for column in TEXTS if texts else ():
            is_wanted = pc.is_in(group[column], wanted)
            hits = group.filter(is_wanted)
            for text, gid in zip(hits[column].to_pylist(), hits["gid"].to_pylist(), strict=True):
                found.setdefault(text, set()).add(gid)
    return found


def _refused(problem: str, expected: str, got: Iterable[int | str], where: str) -> DataError:
    listed = [ascii(one) for one in got]
    more = f" and {len(listed) - SHOWN:,} more" if len(listed) > SHOWN else ""
    return DataError(
        f"the edits name {problem}",
        expected=expected,
        got=", ".join(one if len(one) <= 80 else f"{one[:77]}..." for one in listed[:SHOWN]) + more,
        where=where,
        fix="correct the names; nothing was changed",
    )
