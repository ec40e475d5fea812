"""Stage duplicates: mined neighbors -> groups of near-copies, and how far each image lies from all others.

duplicates.parquet                gid, duplicate_of, outlier of every train image; see SCHEMA of assignments
duplicates.json                   the threshold, where it came from, and the likenesses as a histogram

Proposed are the mined neighbors; small grey pictures tell which of them are copies (`duplicates.alignment`),
since features of different pictures can be as near as those of a picture and its recompressed copy. Exact
copies are taken together first, so that a thousand of them do not hide behind their lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rayscan.artifacts import Artifact, Draft, Step
from rayscan.assignments import MINED
from rayscan.config import Recipe
from rayscan.context import Context, Sources
from rayscan.data.table import ImageTable
from rayscan.duplicates.groups import stars
from rayscan.duplicates.outliers import knn_distance, quantiles
from rayscan.duplicates.threshold import FEATURES_FLOOR, PIXELS_FLOOR, threshold
from rayscan.sections import semantic
from rayscan.stages import near_copies, signatures
from rayscan.stages.near_copies import Compared
from rayscan.tables import as_rows, row_groups
from rayscan.types import Ints
from rayscan.vectors.duplicates import collapse, hash_rows
from rayscan.vectors.neighbor_table import FILE as NEIGHBORS
from rayscan.vectors.parts import EmbeddingRows, row_ranges
from rayscan.vectors.recall import ROWS_PER_RANGE

NAME = "duplicates"
SCHEMA = 1
TABLE = "duplicates.parquet"
FOUND = "duplicates.json"
INPUTS = ("index", "embed", "mine")
BINS = 50


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do."""
    return Step(NAME, SCHEMA, semantic(recipe.duplicates), {name: done[name].identity for name in INPUTS})


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Find near-copies on the fleet, and score outliers.

    Raises:
        DataError: an image cannot be read any more.
    """
    draft, rows = context.draft(step), EmbeddingRows(done["embed"])
    gids = rows.gids[: rows.train_rows]
    columns: dict[str, Any] = {"gid": gids, "outlier": _outliers(recipe, done["mine"])}
    found: dict[str, Any] = {"compared": _compared_by(recipe, done["index"])}
    duplicate_of = pa.nulls(len(gids), pa.int64())
    if found["compared"] != "none":
        medoids, told = _near_copies(recipe, done, draft, context, rows)
        found |= told
        is_copy = medoids != np.arange(len(gids))
        duplicate_of = pa.array(gids[medoids], mask=~is_copy)
        found |= {"copies": int(is_copy.sum()), "groups": len(np.unique(medoids[is_copy]))}
    table = pa.table({**columns, "duplicate_of": duplicate_of})
    files = {TABLE: draft.write_table(TABLE, table), FOUND: draft.write_json(FOUND, found)}
    facts = {key: value for key, value in found.items() if not isinstance(value, list)}
    artifact = draft.commit(files, facts=facts)
    context.progress.finish(in_words(facts))
    return artifact


def in_words(facts: Mapping[str, Any]) -> str:
    """What was found, as a line."""
    if facts["compared"] == "none":
        return "outliers alone; near-copies were not asked for"
    return (
        f"{facts['copies']:,} near-copies in {facts['groups']:,} groups, by {facts['compared']} "
        f"from a likeness of {facts['threshold']:.3f} on"
    )


def columns_of(artifact: Artifact, gids: Ints) -> dict[str, pa.Array]:
    """The columns MINED of images, null for those that were not mined.

    Args:
        artifact: Result of this stage.
        gids: Images [n].
    """
    table = artifact.read_table(TABLE)
    at = pc.index_in(pa.array(gids), table["gid"])
    return {name: table[name].combine_chunks().take(at) for name in MINED}


def _compared_by(recipe: Recipe, index: Artifact) -> str:
    """What is compared: features where there are no pictures."""
    asked = recipe.duplicates.compare
    return "features" if asked == "pixels" and index.facts.get("pictures") == 0 else asked


def _outliers(recipe: Recipe, mine: Artifact) -> NDArray[np.float32]:
    """Quantile of the distance to the k-th neighbor: [N]."""
    k = recipe.duplicates.outlier_neighbors or recipe.mine.num_neighbors
    lists = (as_rows(group["scores"]) for group in row_groups(mine, NEIGHBORS, ["scores"]))
    return quantiles(np.concatenate([knn_distance(scores, k) for scores in lists]))


def _near_copies(
    recipe: Recipe, done: Mapping[str, Artifact], draft: Draft, context: Context, rows: EmbeddingRows
) -> tuple[Ints, dict[str, Any]]:
    """The medoid of every row's group [N], and what is to be told of the threshold."""
    gids = rows.gids[: rows.train_rows]
    images = pictures = None
    if by_pixels := _compared_by(recipe, done["index"]) == "pixels":
        images = ImageTable.from_artifact(done["index"])
        pictures = signatures.find_or_write(done["index"], images.gids("train"), recipe.images, context)
    asked, floor = recipe.duplicates.threshold, PIXELS_FLOOR if by_pixels else FEATURES_FLOOR
    parts = [
        near_copies.Part(
            done["mine"],
            pictures,
            draft,
            len(gids),
            floor if asked is None else asked,
            first,
            min(first + near_copies.ROWS_PER_TASK, len(gids)),
        )
        for first in range(0, len(gids), near_copies.ROWS_PER_TASK)
    ]
    todo = [part for part in parts if draft.finished_part(part.name) is None]
    context.progress.start(NAME, sum(p.stop - p.first for p in todo), "images")
    context.fleet.map(
        near_copies.compare_part,
        todo,
        on_done=lambda i, _: context.progress.advance(todo[i].stop - todo[i].first),
    )
    compared = [Compared.read(part) for part in parts]
    background = np.concatenate([one.background for one in compared])
    num_pairs = len(gids) * recipe.mine.num_neighbors
    least = threshold(background, num_pairs, floor) if asked is None else asked
    pairs = np.concatenate([one.pairs[one.pairs["likeness"] >= least] for one in compared])
    exact = _same_rows(rows, context) if images is None else _same_bytes(images, gids)
    first, second = (exact[np.searchsorted(gids, pairs[name])] for name in ("first", "second"))
    differ = first != second
    medoids = stars(first[differ], second[differ], pairs["likeness"][differ], len(gids))[exact]
    told = {
        "threshold": least,
        "asked": asked is not None,
        "floor": floor,
        "exact": int((exact != np.arange(len(gids))).sum()),
        "nearest": _histogram([one.nearest for one in compared]),
        "background": _histogram([background]),
    }
    return medoids, told


def _histogram(values: list[NDArray[np.float32]]) -> list[int]:
    """How many in each of BINS equal bins over -1..1."""
    counts = sum(np.histogram(some, bins=BINS, range=(-1.0, 1.0))[0] for some in values)
    return [int(count) for count in np.asarray(counts)]


def _same_bytes(table: ImageTable, gids: Ints) -> Ints:
    """The first row of the same file, by checksum, number of bytes and sides: [N]."""
    keys = np.stack(
        [x[gids].astype(np.int64) for x in (table.crc32, table.length, table.width, table.height)]
    )
    _, first, which = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    return np.asarray(first[which.reshape(-1)], np.int64)


def _same_rows(rows: EmbeddingRows, context: Context) -> Ints:
    """The first row of the same features: [N]."""
    digests = context.fleet.map(hash_rows, row_ranges(rows, ROWS_PER_RANGE))
    return collapse(np.concatenate(digests), 1)[0]
