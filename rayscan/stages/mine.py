"""Stage mine: embeddings -> the K nearest neighbors of every train image (SCAN Sec. 2.2).

Exact up to a number of operations in the settings; beyond it lists of rows are read (`vectors.inverted`), as
many as a recall of 0.99 takes.

Equal rows are found and searched once (`vectors.duplicates`), shard actors search (`fleet.shards`), the
blocks are put together, and a sample is held against brute force before anything is published
(`vectors.recall`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rayscan.artifacts import Artifact, Draft, FileEntry, Step, find
from rayscan.config import Recipe
from rayscan.context import Context, Sources
from rayscan.data.equal_lists import as_lists
from rayscan.errors import ArtifactError, ConfigError
from rayscan.fleet.memory import require_memory
from rayscan.fleet.shards import LISTS_READ, Mining, mine_blocks
from rayscan.sections import require, semantic
from rayscan.stages.chosen import rule_of, write_chosen
from rayscan.stages.layout import shards_and_threads
from rayscan.stages.lists import SPAN_ROWS, all_representatives, is_approximate, lists_of
from rayscan.stages.partial import part_array
from rayscan.vectors.duplicates import collapse, copy_pairs, digest_span, verify_copies
from rayscan.vectors.merge import Block, Searched, blocks
from rayscan.vectors.parts import EmbeddingRows, spans
from rayscan.vectors.recall import TOLERANCE, judge, look_up, questions, sample

NAME = "mine"
SCHEMA = 1

ROW_GROUP = 131_072
"""Rows of a Parquet row group, whatever the blocks were."""
COLUMNS = pa.schema([("gid", pa.int64()), ("ids", pa.list_(pa.int64())), ("scores", pa.list_(pa.float32()))])

Neighbors: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float32]]
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
    if not recipe.mine.chooses:
        return _mined(recipe, done, step, context)
    whole = replace(recipe, mine=recipe.mine.unchosen)
    below = plan(whole, done, context.sources)
    lists = find(context.out.child(below.directory), below) or _mined(whole, done, below, context)
    artifact = write_chosen(lists, context.draft(step), rule_of(recipe.mine))
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
    searched, work = _collapsed(rows, recipe, context)
    mining = _mining(recipe, searched, work, context)
    require_memory(searched, mining)
    context.progress.start(NAME, rows.train_rows, "images")
    began = time.monotonic()
    pairs = 0

    def tell(block: Block, was_there: bool) -> None:
        nonlocal pairs
        pairs += 0 if was_there else len(block.representatives) * len(searched.uniques)
        speed = pairs / max(time.monotonic() - began, 1e-6) / 1e9
        context.progress.advance(len(block.representatives), **{"1e9 pairs/s": speed})

    parts = mine_blocks(work, searched, draft, mining, on_done=tell)
    sampled = sample(rows.train_rows)
    entry, found = _publish(draft, _read(draft, work, parts, k), rows, sampled)
    recall = _recall(
        searched, work, sampled, found, context, recipe.mine.min_recall, is_exact=mining.lists is None
    )
    unique = len(searched.uniques)
    facts: dict[str, object] = {
        "rows": rows.train_rows,
        "unique_rows": unique,
        "num_neighbors": k,
        "recall": recall,
    }
    if mining.lists is not None:
        facts |= {"search": "approximate", "lists": len(mining.lists.centers), "codes": mining.lists.codes}
        facts[LISTS_READ] = _lists_read(draft, work[0])
    artifact = draft.commit({"neighbors.parquet": entry}, facts=facts)
    for part in parts:
        for file in part.values():
            draft.place.delete(file.path)
    context.progress.finish(f"{k} neighbors of {rows.train_rows:,} images, recall {recall:.4f}")
    return artifact


def _lists_read(draft: Draft, block: Block) -> object:
    """How many lists a query read: all blocks were asked alike, and an earlier attempt by the same sample."""
    part = draft.finished_part(block.name)
    return None if part is None else part[1].get(LISTS_READ)


def _collapsed(rows: EmbeddingRows, recipe: Recipe, context: Context) -> tuple[Searched, list[Block]]:
    """The rows to search, equal ones once, and the blocks of queries."""
    pieces = spans(rows, SPAN_ROWS)
    context.progress.start("mine: equal rows", len(pieces), "parts")
    digests = context.fleet.map(digest_span, pieces, on_done=lambda _, __: context.progress.advance())
    representatives, copies = collapse(np.concatenate(digests), recipe.mine.num_neighbors + 1)
    context.fleet.map(verify_copies, copy_pairs(rows, representatives, SPAN_ROWS))
    uniques = np.flatnonzero(representatives == np.arange(len(representatives)))
    limit, k = recipe.mine.max_copies, recipe.mine.num_neighbors
    require(
        limit is None or len(uniques) > k,
        "mine.max_copies",
        f"none, or more than {k} different train images",
        f"{limit} with {len(uniques)} different images",
    )
    return Searched(rows, uniques, copies, limit), blocks(representatives, recipe.mine.query_block)


def _mining(recipe: Recipe, searched: Searched, work: Sequence[Block], context: Context) -> Mining:
    fleet, wanted = context.fleet, recipe.mine
    num_shards, threads = shards_and_threads(fleet, wanted.num_shards)
    gpus = fleet.gpus_per_worker * min(1.0, fleet.num_workers / num_shards)  # more shards share the same GPUs
    mining = Mining(
        wanted.num_neighbors,
        num_shards,
        threads,
        gpus,
        pending_seconds=fleet.config.pending_seconds,
        storage=wanted.storage,
    )
    if not is_approximate(recipe, len(searched.uniques), searched.rows.dim):
        return mining
    return replace(mining, gpus_per_shard=0.0, lists=lists_of(recipe, searched, work, context))


def _read(
    draft: Draft, work: Sequence[Block], parts: Sequence[Mapping[str, FileEntry]], k: int
) -> Iterator[Neighbors]:
    """The blocks' neighbors by row number, in order, each checked."""
    for block, part in zip(work, parts, strict=True):
        neighbors = part_array(draft, part["ids"]), part_array(draft, part["scores"])
        require_neighbors(block.rows, neighbors, k)
        yield neighbors


def require_neighbors(rows: NDArray[np.int64], neighbors: Neighbors, k: int) -> None:
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


def _fault(
    rows: NDArray[np.int64], ids: NDArray[np.int64], scores: NDArray[np.float32], shape: tuple[int, int]
) -> str:
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
    draft: Draft, pieces: Iterable[Neighbors], rows: EmbeddingRows, sampled: NDArray[np.int64]
) -> tuple[FileEntry, Neighbors]:
    """Write `neighbors.parquet` row group by row group; also returns the lists of the sampled rows."""
    gids = rows.gids[: rows.train_rows]
    sink = pa.BufferOutputStream()
    first = 0
    kept: list[Neighbors] = []
    with pq.ParquetWriter(sink, COLUMNS, compression="zstd") as writer:
        for ids, scores in _regrouped(pieces):
            stop = first + len(ids)
            columns = [pa.array(gids[first:stop]), as_lists(gids[ids]), as_lists(scores)]
            writer.write_table(pa.table(columns, schema=COLUMNS), row_group_size=ROW_GROUP)
            here = sampled[(sampled >= first) & (sampled < stop)] - first
            kept.append((ids[here], scores[here]))
            first = stop
    entry = draft.write("neighbors.parquet", memoryview(sink.getvalue()))
    return entry, _joined(kept)


def _regrouped(pieces: Iterable[Neighbors]) -> Iterator[Neighbors]:
    """Rows in pieces of ROW_GROUP, so that equal neighbors give equal bytes."""
    held: list[Neighbors] = []
    for piece in pieces:
        ids, scores = _joined([*held, piece])
        while len(ids) >= ROW_GROUP:
            yield ids[:ROW_GROUP], scores[:ROW_GROUP]
            ids, scores = ids[ROW_GROUP:], scores[ROW_GROUP:]
        held = [(ids, scores)] if len(ids) else []
    yield from held


def _joined(pieces: Sequence[Neighbors]) -> Neighbors:
    return np.concatenate([ids for ids, _ in pieces]), np.concatenate([scores for _, scores in pieces])


def _recall(
    searched: Searched,
    work: Sequence[Block],
    sampled: NDArray[np.int64],
    found: Neighbors,
    context: Context,
    min_recall: float,
    *,
    is_exact: bool,
) -> float:
    """Hold the sample against brute force on the fleet.

    Raises:
        ArtifactError: below the demanded recall, or stored scores are off.
    """
    ids, scores = found
    rows = searched.rows
    verdict = judge(
        context.fleet.map(look_up, questions(searched, all_representatives(work), sampled, ids, SPAN_ROWS)),
        scores,
    )
    if verdict.recall < min_recall or verdict.max_score_error > TOLERANCE:
        is_honest = not is_exact and verdict.max_score_error <= TOLERANCE
        raise ArtifactError(
            "mine: the neighbors do not stand up to brute force"
            + ("" if is_honest else "; this is a defect of rayscan"),
            expected=f"recall >= {min_recall} over {len(sampled)} images, scores within {TOLERANCE}",
            got=f"recall {verdict.recall:.4f}, scores off by {verdict.max_score_error:.2g}",
            where=rows.artifact.place.uri,
            fix="pass --mine.search exact, or knowingly a lower --mine.min-recall"
            if is_honest
            else "please report it, with the embeddings if you can",
        )
    return verdict.recall
