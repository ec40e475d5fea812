"""Stage mine: embeddings -> the K nearest neighbors of every train image (SCAN Sec. 2.2).

Exact up to a number of operations in the settings; beyond it lists of rows are read (`vectors.ivf`), as
many as a recall of 0.99 takes.

Equal rows are found and searched once (`vectors.duplicates`), shard actors search (`fleet.shards`), the
blocks are put together, and a sample is held against brute force before anything is published
(`vectors.recall`). Where `mine.space` is whitened all this goes for the rows of `stages.whitened_rows`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rayscan.artifacts import Artifact, Draft, FileEntry, Step, find
from rayscan.config import MineConfig, Recipe
from rayscan.context import Context, Sources
from rayscan.errors import ArtifactError, ConfigError
from rayscan.fleet.ivf import train_ivf
from rayscan.fleet.memory import require_memory
from rayscan.fleet.search_settings import SearchSettings
from rayscan.fleet.shard_layout import shards_and_threads
from rayscan.fleet.shards import mine_blocks, search_facts
from rayscan.sections import require, semantic
from rayscan.stages import whitened_rows
from rayscan.tables import as_lists, write_tables
from rayscan.training.whitened import WHITENED
from rayscan.types import Ints
from rayscan.vectors.duplicates import collapse, copy_pairs, hash_rows, verify_copies
from rayscan.vectors.merge import Block, IndexedRows, blocks
from rayscan.vectors.neighbor_table import FILE, write_mutual
from rayscan.vectors.neighbor_table import SCHEMA as TABLE_SCHEMA
from rayscan.vectors.parts import EmbeddingRows, row_ranges
from rayscan.vectors.recall import (
    ROWS_PER_RANGE,
    TOLERANCE,
    check_recall,
    exact_scores,
    recall_tasks,
    sample,
)

NAME = "mine"
SCHEMA = 1

Neighbors: TypeAlias = tuple[Ints, NDArray[np.float32]]
"""ids [m, K] and scores [m, K]."""


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do."""
    return Step(NAME, SCHEMA, semantic(recipe.mine), {"embed": done["embed"].identity})


def check_size(recipe: Recipe, num_train: int) -> None:
    """Refuse more neighbors than there are other images; possible as soon as the index is known.

    Raises:
        ConfigError: naming mine.num_neighbors.
    """
    if recipe.mine.num_neighbors >= num_train:
        raise ConfigError(
            "mine.num_neighbors asks for more neighbors than there are other train images",
            expected=f"mine.num_neighbors < {num_train}, the number of usable train images",
            got=recipe.mine.num_neighbors,
            where="mine.num_neighbors",
            fix="pass a smaller --mine.num-neighbors (and --scan.num-neighbors), or more images",
        )


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Mine, and choose among the neighbors if that is asked for: from lists that are there, if they are.

    Raises:
        ArtifactError: see `_mined`, as for all below.
        ConfigError: K is not below the number of train images.
        DataError: an embedding is not finite.
    """
    if recipe.mine.mutual is None:
        if recipe.mine.space == WHITENED:
            done = {"embed": whitened_rows.find_or_write(done["embed"], context)}
        return _mined(recipe, done, step, context)
    whole = replace(recipe, mine=recipe.mine.unchosen)
    below = plan(whole, done, context.sources)
    lists = find(context.out.child(below.directory), below) or run(whole, done, below, context)
    artifact = write_mutual(lists, context.draft(step), recipe.mine.mutual)
    context.progress.say(f"  mine: {artifact.facts['chosen']['mean']:.1f} neighbors chosen per image")
    return artifact


def _mined(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Mine all blocks on the fleet; blocks that an earlier attempt finished are taken over.

    Raises:
        ArtifactError: the neighbors do not stand up to brute force, or a stored block is damaged.
        ConfigError: K is not below the number of train images.
        DataError: an embedding is not finite.
    """
    rows = EmbeddingRows(done["embed"])
    check_size(recipe, rows.train_rows)
    draft = context.draft(step)
    k = recipe.mine.num_neighbors
    indexed, representatives = _collapsed(rows, recipe, context)
    work = blocks(representatives, recipe.mine.query_block)
    settings = _settings(recipe, indexed, representatives, context)
    require_memory(indexed, settings)
    context.progress.start(NAME, rows.train_rows, "images")
    began = time.monotonic()
    pairs = 0

    def tell(block: Block, was_there: bool) -> None:
        nonlocal pairs
        pairs += 0 if was_there else len(block.representatives) * len(indexed.uniques)
        speed = pairs / max(time.monotonic() - began, 1e-6) / 1e9
        context.progress.advance(len(block.representatives), **{"1e9 pairs/s": speed})

    parts = mine_blocks(work, indexed, draft, settings, on_done=tell)
    sampled = sample(rows.train_rows)
    entry, found = _publish(draft, work, parts, rows, k, sampled)
    recall = _recall(
        recipe.mine, indexed, representatives, sampled, found, context, is_exact=settings.ivf is None
    )
    unique = len(indexed.uniques)
    facts: dict[str, object] = {
        "rows": rows.train_rows,
        "unique_rows": unique,
        "num_neighbors": k,
        "recall": recall,
    }
    facts |= search_facts(draft, work, settings)
    if recipe.mine.space == WHITENED:
        facts["space"] = WHITENED
    artifact = draft.commit({FILE: entry}, facts=facts)
    for part in parts:
        for file in part.values():
            draft.place.delete(file.path)
    context.progress.finish(f"{k} neighbors of {rows.train_rows:,} images, recall {recall:.4f}")
    return artifact


def _collapsed(rows: EmbeddingRows, recipe: Recipe, context: Context) -> tuple[IndexedRows, Ints]:
    """The rows to search, equal ones once, and the representative of every row [N]."""
    pieces = row_ranges(rows, ROWS_PER_RANGE)
    context.progress.start("mine: equal rows", len(pieces), "parts")
    digests = context.fleet.map(hash_rows, pieces, on_done=lambda _, __: context.progress.advance())
    representatives, copies = collapse(np.concatenate(digests), recipe.mine.num_neighbors + 1)
    context.fleet.map(verify_copies, copy_pairs(rows, representatives, ROWS_PER_RANGE))
    uniques = np.flatnonzero(representatives == np.arange(len(representatives)))
    limit, k = recipe.mine.max_copies, recipe.mine.num_neighbors
    require(
        limit is None or len(uniques) > k,
        "mine.max_copies",
        f"none, or more than {k} different train images",
        f"{limit} with {len(uniques)} different images",
    )
    return IndexedRows(rows, uniques, copies, limit), representatives


def is_approximate(settings: MineConfig, num_rows: int, dim: int) -> bool:
    """Whether inverted lists are searched: asked for, or 2 N^2 D is above the limit."""
    too_many = 2.0 * num_rows**2 * dim > settings.max_exact_flops
    return settings.search == "approximate" or (settings.search == "auto" and too_many)


def _settings(
    recipe: Recipe, indexed: IndexedRows, representatives: Ints, context: Context
) -> SearchSettings:
    fleet, wanted = context.fleet, recipe.mine
    num_shards, threads = shards_and_threads(fleet, wanted.num_shards)
    gpus = fleet.gpus_per_worker * min(1.0, fleet.num_workers / num_shards)  # more shards share the same GPUs
    settings = SearchSettings(
        wanted.num_neighbors,
        num_shards,
        threads,
        gpus,
        pending_seconds=fleet.config.pending_seconds,
        storage=wanted.storage,
    )
    if not is_approximate(wanted, len(indexed.uniques), indexed.rows.dim):
        return settings
    context.progress.start("mine: lists", 2, "steps")
    ivf = train_ivf(fleet, indexed, representatives, wanted, context.progress.advance)
    return replace(settings, gpus_per_shard=0.0, ivf=ivf)


def require_neighbors(rows: Ints, neighbors: Neighbors, k: int) -> None:
    """Refuse neighbor lists that cannot be right.

    Args:
        rows: Numbers of the m rows whose lists these are: [m].
        neighbors: Lists by row number.
        k: K.

    Raises:
        ArtifactError: a list is of another length, holds the row itself, a number below 0 or one twice, or is
            not in the order (-score, id).
    """
    if wrong := _fault(rows, *neighbors, (len(rows), k)):
        raise ArtifactError(
            "mine: neighbor lists are wrong; this is a defect of rayscan",
            expected=f"{k} distinct other rows each, in the order (-score, id)",
            got=wrong,
            where=f"rows {rows[0]}..{rows[-1]}",
            fix="please report it, with the embeddings if you can",
        )


def _fault(rows: Ints, ids: Ints, scores: NDArray[np.float32], shape: tuple[int, int]) -> str:
    """What is wrong with the lists; empty if nothing is."""
    if not ids.shape == scores.shape == shape:
        return f"lists of shape {ids.shape} and {scores.shape}, not {shape}"
    if (ids < 0).any():
        return "a number below 0"
    if (ids == rows[:, None]).any():
        return "a row among its own neighbors"
    falls, ties = scores[:, 1:] < scores[:, :-1], scores[:, 1:] == scores[:, :-1]
    if not (falls | (ties & (ids[:, 1:] > ids[:, :-1]))).all():
        return "a list that is not in the order (-score, id)"
    if (np.diff(np.sort(ids, axis=1), axis=1) == 0).any():
        return "a neighbor twice in a list"
    return ""


def _publish(
    draft: Draft,
    work: Sequence[Block],
    parts: Sequence[Mapping[str, FileEntry]],
    rows: EmbeddingRows,
    k: int,
    sampled: Ints,
) -> tuple[FileEntry, Neighbors]:
    """Write `neighbors.parquet` from the checked blocks; also returns the lists of the sampled rows."""
    gids = rows.gids[: rows.train_rows]
    kept: list[Neighbors] = []

    def tables() -> Iterator[pa.Table]:
        kept.clear()
        for block, part in zip(work, parts, strict=True):
            ids, scores = draft.read_part_array(part["ids"]), draft.read_part_array(part["scores"])
            require_neighbors(block.rows, (ids, scores), k)
            first, stop = block.first, block.first + len(ids)
            columns = [pa.array(gids[first:stop]), as_lists(gids[ids]), as_lists(scores)]
            here = sampled[(sampled >= first) & (sampled < stop)] - first
            kept.append((ids[here], scores[here]))
            yield pa.table(columns, schema=TABLE_SCHEMA)

    entry = write_tables(draft, FILE, TABLE_SCHEMA, tables)
    return entry, (np.concatenate([ids for ids, _ in kept]), np.concatenate([s for _, s in kept]))


def _recall(
    settings: MineConfig,
    indexed: IndexedRows,
    representatives: Ints,
    sampled: Ints,
    found: Neighbors,
    context: Context,
    *,
    is_exact: bool,
) -> float:
    """Hold the sample against brute force on the fleet.

    Raises:
        ArtifactError: below the demanded recall, or stored scores are off.
    """
    ids, scores = found
    tasks = recall_tasks(indexed, representatives, sampled, ids, ROWS_PER_RANGE)
    check = check_recall(context.fleet.map(exact_scores, tasks), scores)
    if check.recall < settings.min_recall or check.max_score_error > TOLERANCE:
        is_honest = not is_exact and check.max_score_error <= TOLERANCE
        raise ArtifactError(
            "mine: the neighbors do not stand up to brute force"
            + ("" if is_honest else "; this is a defect of rayscan"),
            expected=f"recall >= {settings.min_recall} over {len(sampled)} images, scores within {TOLERANCE}",
            got=f"recall {check.recall:.4f}, scores off by {check.max_score_error:.2g}",
            where=indexed.rows.artifact.place.uri,
            fix="pass --mine.search exact, or knowingly a lower --mine.min-recall"
            if is_honest
            else "please report it, with the embeddings if you can",
        )
    return check.recall
