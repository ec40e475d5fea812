"""Vectors of the user imported as embeddings, in parts: the counterpart of `stages.embed.embed_part`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from rayscan.artifacts import Draft
from rayscan.config import ImagesConfig
from rayscan.embeddings.text_digests import NONE
from rayscan.embeddings.unit_rows import MISSING, NOT_FINITE, ZEROS, Reason, unit_rows
from rayscan.embeddings.vectors import Vectors
from rayscan.errors import DataError
from rayscan.types import Ints

PIECE_BYTES = 8 << 20
"""Rows worked on at a time, in float32."""
ALWAYS_TOLERATED = 1
"""Images without a vector that never stop a run, however few images there are."""
BAD_SCHEMA = pa.schema({"gid": pa.int64(), "reason": pa.string()})


@dataclass(frozen=True, eq=False)
class FilePart:
    """Some images, whose vectors one task imports. Small: it travels with the numbers of its rows alone."""

    vectors: Vectors
    rows: Ints
    """Row of the vectors of each image, -1 for none [n]."""
    gids: Ints
    """The images, ascending within a split [n]."""
    draft: Draft
    number: int
    dtype: str
    """Stored precision: float16 or float32."""

    @property
    def name(self) -> str:
        """File name of the part."""
        return f"part-{self.number:05d}.npy"

    @property
    def bad_name(self) -> str:
        """File name of the images of the part that have no usable vector."""
        return f"part-{self.number:05d}-bad.parquet"


def parts_of(
    vectors: Vectors, rows: Ints, gids: Ints, draft: Draft, *, dtype: str, rows_per_part: int
) -> list[FilePart]:
    """The parts of an import, each with no more files than it needs.

    Args:
        vectors: The vectors.
        rows: Row of each gid of the index, as `match_rows` gives them [N].
        gids: Images to be imported, such as `ImageTable.gids()`.
        draft: The attempt that parts are written to.
        dtype: Stored precision, float16 or float32.
        rows_per_part: Images of a part.
    """
    parts = []
    for number, first in enumerate(range(0, len(gids), rows_per_part)):
        mine = gids[first : first + rows_per_part]
        kept, local = vectors.only(rows[mine])
        parts.append(FilePart(kept, local, mine, draft, number, dtype))
    return parts


def import_part(part: FilePart) -> dict[str, int]:
    """Write the unit rows of a part, and which of its images have none; runs on a worker.

    Facts of the finished part: `dim`, `rows` and `bad`.

    Returns:
        Images of the part that have no usable vector, by reason.

    Raises:
        DataError: the files changed, or are damaged.
    """
    dim, dtype = part.vectors.dim, np.dtype(part.dtype)
    out = np.empty((len(part.rows), dim), dtype)
    reasons = np.full(len(part.rows), "", object)
    good, step = 0, max(1, PIECE_BYTES // (4 * dim))
    for first in range(0, len(part.rows), step):
        rows, here = part.rows[first : first + step], reasons[first : first + step]
        present = np.flatnonzero(rows != NONE)
        here[rows == NONE] = MISSING
        x, is_infinite, is_zero = unit_rows(part.vectors.take(rows[present]), part.vectors.number_type, dtype)
        here[present[is_infinite]], here[present[is_zero]] = NOT_FINITE, ZEROS
        out[good : good + len(x)] = x
        good += len(x)
    bad = np.flatnonzero(reasons != "")
    table = pa.table({"gid": part.gids[bad], "reason": reasons[bad].tolist()}, BAD_SCHEMA)
    entries = {
        part.name: part.draft.write_array(part.name, out[:good]),
        part.bad_name: part.draft.write_table(part.bad_name, table),
    }
    part.draft.finish_part(part.name, entries, {"dim": dim, "rows": good, "bad": len(bad)})
    return _counts(reasons[bad].tolist())


def _counts(reasons: list[Reason]) -> dict[str, int]:
    return {reason: reasons.count(reason) for reason in (MISSING, NOT_FINITE, ZEROS) if reason in reasons}


def require_good(
    counts: Mapping[str, int], total: int, images: ImagesConfig, firsts: str, where: str
) -> None:
    """Refuse an import that leaves out too many images, by the rule of stage index.

    Args:
        counts: Images without a usable vector by reason.
        total: All images.
        images: Settings: with `on_bad` skip, `max_bad_fraction` of them may be left out, and always one.
        firsts: The first ones, for the message.
        where: The vectors.

    Raises:
        DataError: with the numbers and the first images.
    """
    bad, is_strict, most = sum(counts.values()), images.on_bad == "stop", images.max_bad_fraction
    if bad < total and bad <= (0 if is_strict else max(ALWAYS_TOLERATED, most * total)):
        return
    raise DataError(
        "too many images have no usable vector",
        expected="none" if is_strict else f"at most {most:.4%} of {total:,}, and not all",
        got=f"{bad:,}: {', '.join(f'{count:,} {reason}' for reason, count in counts.items())}",
        where=f"{where}; the first: {firsts}",
        fix="repair the vectors, or allow more with --images.max-bad-fraction and on-bad skip",
    )
