"""The flat index on the fleet: one actor per shard, one task per block of queries.

The task that owns a block asks all shards, merges and writes its part; the driver sees file names only. A
shard is a pure function of its rows: an actor that dies is started again, reloads them and answers the same.
A block is whole when its part is noted, so a killed run goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayscan.artifacts import Draft, FileEntry
from rayscan.fleet.handed import Handed, handing
from rayscan.fleet.ray_errors import unwrapped
from rayscan.vectors.inverted import InvertedSearch
from rayscan.vectors.merge import (
    MARGIN,
    Block,
    Proposal,
    Searched,
    cut,
    neighbors_of,
    neighbors_of_rows,
)
from rayscan.vectors.parts import EmbeddingRows
from rayscan.vectors.recall import TOLERANCE
from rayscan.vectors.shard_search import ShardSearch
from rayscan.vectors.stored_rows import HALF_BOTH_MARGIN, HALF_MARGIN, StoredRows

SLIVER = 0.01
"""CPUs that an actor or owner reserves: enough to keep off machines that offer none, so little that all
shards and their owners find a place on any fleet. Owners wait for shards nearly all the time."""

LISTS_READ = "lists_read"
"""Fact of a block's part: how many lists each query read, 0 for all; None if there are none."""
BLOCKS_PER_SHARD = 2
"""Blocks under way per shard: one searched, one read, merged or written."""


@dataclass(frozen=True)
class Mining:
    """How to search; nothing here changes the result but `num_neighbors`."""

    num_neighbors: int
    """K."""
    num_shards: int
    """Index shards."""
    threads: int = 1
    """Search threads per shard."""
    gpus_per_shard: float = 0.0
    """GPUs each shard reserves; with any, it searches there."""
    lists: Lists | None = None
    """How to search approximately; exact without."""
    pending_seconds: float = 1800.0
    """Longest wait for a node that can hold a shard."""
    storage: str = "float32"
    """float16: shards hold rows in half precision, or lists alone, and read again what they must score."""

    def margin(self, rows: EmbeddingRows) -> float:
        """How far a proposed score may be off, twice (`merge.Shards`)."""
        if self.lists is not None:
            return np.inf if self.lists.codes == "sq8" else MARGIN
        if self.storage == "float32" or rows.is_half:
            return MARGIN
        return HALF_BOTH_MARGIN if self.gpus_per_shard > 0 else HALF_MARGIN


@dataclass(frozen=True)
class Lists:
    """Approximate search: lists of rows, of which as many are read as a sample needs."""

    centers: NDArray[np.float32]
    """Of the lists: [lists, D]."""
    codes: str
    """flat or sq8, see `InvertedSearch`."""
    sample: NDArray[np.int64]
    """Rows on which the number of lists read is chosen: [q]."""
    representatives: NDArray[np.int64]
    """Representative of each: [q]."""
    kth: NDArray[np.float64]
    """Exact score of the K-th neighbor of each: [q]."""
    recall: float
    """Recall wanted on them."""


class ShardActor:
    """Holds the rows of one shard, in a process of its own."""

    def __init__(
        self,
        rows: EmbeddingRows,
        share: Handed,
        threads: int,
        gpus: float,
        storage: str = "float32",
        centers: Handed | None = None,
        codes: str = "",
    ) -> None:
        """Load the rows: at the start, and again after every death.

        Args:
            rows: The matrix.
            share: Numbers of the rows of this shard, int64.
            threads: Search threads.
            gpus: Share of the GPU that Ray has assigned; with any, an exact search runs there.
            storage: Of the rows, see `Mining`.
            centers: Of the lists, float32 [lists, D], for approximate search.
            codes: What the lists hold.
        """
        numbers = share.read()
        where = f"rows {numbers[0]}..{numbers[-1]} of {rows.artifact.place.uri}"
        x = StoredRows(rows, numbers, where) if storage == "float16" else rows.take(numbers)
        self._search: ShardSearch | InvertedSearch = (
            ShardSearch(x, threads=threads, use_gpu=gpus > 0, where=where, gpu_share=min(1.0, gpus))
            if centers is None
            else InvertedSearch(x, centers.read(), codes=codes, threads=threads, where=where)
        )

    def propose(self, queries: NDArray[np.float32], width: int, probes: int | None) -> Proposal:
        """See `ShardSearch.search` and `InvertedSearch.search`."""
        if isinstance(self._search, InvertedSearch):
            return self._search.search(queries, width, probes or 0)
        return self._search.search(queries, width)

    def score(
        self, queries: NDArray[np.float32], pairs: tuple[NDArray[np.int64], NDArray[np.int64]]
    ) -> NDArray[np.float32]:
        """See `ShardSearch.score`."""
        return self._search.score(queries, *pairs)


class ActorShards:
    """The shards as the owner of a block sees them (`merge.Shards`)."""

    def __init__(
        self,
        actors: Sequence[Any],
        sizes: Sequence[int],
        probes: int | None = None,
        margin: float = MARGIN,
    ) -> None:
        """Keep the handles, in shard order."""
        self.actors = actors
        self.sizes = sizes
        self.probes = probes
        self.margin = margin

    def reading(self, probes: int) -> ActorShards:
        """These shards, reading that many lists."""
        return ActorShards(self.actors, self.sizes, probes, self.margin)

    def everything(self) -> ActorShards:
        """These shards, reading all lists."""
        return self.reading(0)

    def propose(self, queries: NDArray[np.float32], width: int) -> list[Proposal]:
        """Ask all at once; the queries are stored once and pulled once per node."""
        import ray

        shared = ray.put(queries)
        answers: list[Proposal] = ray.get(
            [actor.propose.remote(shared, width, self.probes) for actor in self.actors]
        )
        return answers

    def score(
        self, queries: NDArray[np.float32], pairs: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
    ) -> list[NDArray[np.float32]]:
        """Have each score its own pairs."""
        import ray

        shared = ray.put(queries)
        asked = [actor.score.remote(shared, pair) for actor, pair in zip(self.actors, pairs, strict=True)]
        answers: list[NDArray[np.float32]] = ray.get(asked)
        return answers


def own(block: Block, searched: Searched, shards: ActorShards, num_neighbors: int, draft: Draft) -> None:
    """Find the neighbors of a block, write its part and note it as finished; runs as a task."""
    scores, ids = neighbors_of(block, searched, shards, num_neighbors)
    entries = {
        "ids": draft.write_array(f"{block.name}-ids.npy", ids),
        "scores": draft.write_array(f"{block.name}-scores.npy", scores),
    }
    draft.finish_part(block.name, entries, {LISTS_READ: shards.probes})


def mine_blocks(
    blocks: Sequence[Block],
    searched: Searched,
    draft: Draft,
    mining: Mining,
    on_done: Callable[[Block, bool], None],
) -> list[dict[str, FileEntry]]:
    """Find the neighbors of all blocks; Ray must have been joined.

    Args:
        blocks: Of the rows whose neighbors are wanted.
        searched: The rows to search among.
        draft: Where each block leaves its part: `ids` int64 (row numbers) and `scores` float32, [m, K] each.
        mining: K, and the size of the fleet.
        on_done: Told (block, whether it was there already) as each one is whole.

    Returns:
        The files of every block, in order.

    Raises:
        RayscanError: what a shard or an owner met.
        FleetError: Ray lost what it cannot bring back.
    """
    missing: list[Block] = []
    for block in blocks:
        if draft.finished_part(block.name) is None:
            missing.append(block)
        else:
            on_done(block, True)
    if missing:
        with handing(draft) as hand:
            _search(missing, searched, draft, mining, on_done, hand)
    return [_files(draft, block) for block in blocks]


def _search(
    blocks: Sequence[Block],
    searched: Searched,
    draft: Draft,
    mining: Mining,
    on_done: Callable[[Block, bool], None],
    hand: Callable[[str, NDArray[Any]], Handed],
) -> None:
    import ray

    from rayscan.fleet.placement import first_ready

    anywhere = {"num_cpus": SLIVER, "scheduling_strategy": "SPREAD"}
    start = ray.remote(max_restarts=-1, max_task_retries=-1, num_gpus=mining.gpus_per_shard, **anywhere)(
        ShardActor
    )
    task = ray.remote(max_retries=-1, **anywhere)(own)
    numbers = cut(searched.uniques, mining.num_shards)
    need = {"CPU": SLIVER, "GPU": mining.gpus_per_shard}
    lists = () if mining.lists is None else (hand("centers", mining.lists.centers), mining.lists.codes)
    how = (mining.threads, mining.gpus_per_shard, mining.storage, *lists)
    actors = [
        start.remote(searched.rows, hand(f"share-{i:05d}", share), *how) for i, share in enumerate(numbers)
    ]
    shards = ActorShards(actors, [len(share) for share in numbers], margin=mining.margin(searched.rows))
    known = ray.put(searched)
    running: dict[Any, Block] = {}
    waiting = iter(blocks)
    try:
        if mining.lists is not None:
            shards = enough(shards, mining.lists, searched, mining.num_neighbors)
        while True:
            while (
                len(running) < BLOCKS_PER_SHARD * len(actors) and (block := next(waiting, None)) is not None
            ):
                running[task.remote(block, known, shards, mining.num_neighbors, draft)] = block
            if not running:
                return
            ready = first_ready(list(running), need, mining.pending_seconds)
            ray.get(ready)
            on_done(running.pop(ready), False)
    except ray.exceptions.RayError as error:
        raise unwrapped(error, "mining neighbors") from error
    finally:
        for actor in actors:  # the owners still at work end with an error, for want of shards
            ray.kill(actor, no_restart=True)


def enough(shards: ActorShards, lists: Lists, searched: Searched, num_neighbors: int) -> ActorShards:
    """The shards, reading as few lists as the wanted recall on the sample takes, within a sixteenth."""

    def suffices(probes: int) -> bool:
        scores, _ = neighbors_of_rows(
            lists.sample, lists.representatives, searched, shards.reading(probes), num_neighbors
        )
        return float((scores >= lists.kth[:, None] - TOLERANCE).mean()) >= lists.recall

    most = len(lists.centers)
    few, many = 0, 1
    while many < most and not suffices(many):
        few, many = many, min(most, many + max(1, many // 2))
    while many - few > max(1, few // 16):
        between = (few + many) // 2
        few, many = (few, between) if suffices(between) else (between, many)
    return shards.everything() if many == most else shards.reading(many)


def _files(draft: Draft, block: Block) -> dict[str, FileEntry]:
    part = draft.finished_part(block.name)
    assert part is not None, block.name  # it was there, or its task noted it and did not raise
    return part[0]
