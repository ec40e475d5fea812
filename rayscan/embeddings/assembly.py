"""Imported parts as the files of an embed artifact, and the images that are left out by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rayscan.artifacts import Artifact, Draft, FileEntry
from rayscan.config import ImagesConfig
from rayscan.data.table import IMAGES
from rayscan.embeddings.file_parts import FilePart, require_good
from rayscan.tables import row_groups
from rayscan.types import Ints

QUARANTINE = "quarantine.parquet"
SHOWN = 3
"""Images that an error names."""
_NAMES = ["gid", "id", "source", "key"]
_SCHEMA = pa.schema(
    {
        "gid": pa.int64(),
        "id": pa.string(),
        "source": pa.string(),
        "key": pa.string(),
        "reason": pa.string(),
    }
)


def assemble(
    draft: Draft,
    parts: Sequence[FilePart],
    index: Artifact,
    is_eval: NDArray[np.bool_],
    images: ImagesConfig,
) -> tuple[dict[str, FileEntry], dict[str, Any]]:
    """Files and facts of the artifact, as `vectors.parts.EmbeddingRows` reads them, and `quarantine.parquet`.

    Args:
        draft: The attempt.
        parts: All parts, each finished by `import_part`.
        index: The index of their images.
        is_eval: Whether each gid belongs to the eval split [N]: `ImageTable.is_eval`.
        images: Settings that say how many of them may have no usable vector.

    Raises:
        DataError: more have none.
    """
    files: dict[str, FileEntry] = {}
    table: dict[str, list[Any]] = {"part": [], "name": [], "first_row": [], "rows": []}
    gids, bad, first = [np.empty(0, np.int64)], [], 0
    for part in parts:
        finished = draft.finished_part(part.name)
        assert finished is not None, part.name
        entries, facts = finished
        bad.append(
            pq.ParquetFile(pa.BufferReader(entries[part.bad_name].read(draft.place))).read(use_threads=False)
        )
        gids.append(np.setdiff1d(part.gids, bad[-1]["gid"].to_numpy(), assume_unique=True))
        if facts["rows"]:
            files[part.name] = entries[part.name]
            for column, value in zip(table, (part.number, part.name, first, facts["rows"]), strict=True):
                table[column].append(value)
            first += facts["rows"]
    left_out, kept = pa.concat_tables(bad), np.concatenate(gids)
    quarantine = pa.concat_tables([_SCHEMA.empty_table(), *_named(index, left_out)])
    counts = dict(Counter(left_out["reason"].to_pylist()).most_common())
    require_good(counts, first + len(left_out), images, _shown(quarantine), parts[0].vectors.spec)
    kinds = {"part": pa.int32(), "name": pa.string(), "first_row": pa.int64(), "rows": pa.int64()}
    files["parts.parquet"] = draft.write_table("parts.parquet", pa.table(table, pa.schema(kinds)))
    files["gids.npy"] = draft.write_array("gids.npy", kept)
    files[QUARANTINE] = draft.write_table(QUARANTINE, quarantine)
    train = int(np.sum(~is_eval[kept]))
    facts = {"rows": first, "train_rows": train, "dim": parts[0].vectors.dim, "num_views": 1}
    return files, {**facts, "quarantined": len(left_out)}


def _named(index: Artifact, left_out: pa.Table) -> Iterator[pa.Table]:
    """The images that are left out, with their id, source and key."""
    gids: Ints = left_out["gid"].to_numpy()
    reasons = left_out["reason"].combine_chunks()
    order = np.argsort(gids, kind="stable")
    for table in row_groups(index, IMAGES, _NAMES) if len(gids) else ():
        low, high = (int(np.searchsorted(gids[order], g)) for g in _bounds(table["gid"].to_numpy()))
        mine = order[low:high]
        some = table.take(pa.array(gids[mine] - table["gid"][0].as_py()))
        yield some.append_column("reason", reasons.take(pa.array(mine))).cast(_SCHEMA)


def _bounds(gids: Ints) -> tuple[int, int]:
    return int(gids[0]), int(gids[-1]) + 1


def _shown(quarantine: pa.Table) -> str:
    rows = quarantine.slice(0, SHOWN).to_pylist()
    return "; ".join(f"{r['id'] or r['source'] or r['key']} (gid {r['gid']}): {r['reason']}" for r in rows)
