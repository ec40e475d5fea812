"""The flat index on the fleet: one actor per shard, one task per block of queries.

The task that owns a block asks all shards, merges and writes its part; the driver sees file names only. A
shard is a pure function of its rows: an actor that dies is started again, reloads them and answers the same.
A block is whole when its part is noted, so a killed run goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayscan.artifacts import Draft, FileEntry
from rayscan.fleet.ray_errors import unwrapped
from rayscan.fleet.search_settings import IvfSettings, SearchSettings
from rayscan.fleet.shard_layout import ACTOR_CPUS
from rayscan.fleet.stored_array import StoredArray, temporary_arrays
from rayscan.types import Ints
from rayscan.vectors.ivf import IvfSearch
from rayscan.vectors.merge import (
    MARGIN,
    Block,
    IndexedRows,
    Proposal,
    neighbors_of,
    neighbors_of_rows,
    split_rows,
)
from rayscan.vectors.parts import EmbeddingRows
from rayscan.vectors.recall import TOLERANCE
from rayscan.vectors.shard_search import ShardSearch
from rayscan.vectors.stored_rows import StoredRows

NPROBE = "nprobe"
"""Fact of a block's part: how many lists each query read; None in an exact search."""
PROPOSALS = "proposals"
"""Fact of a block's part: queries of shards that bfloat16 settled, and those that float32 did."""
BLOCKS_PER_SHARD = 2
"""Blocks under way per shard: one searched, one read, merged or written."""


class ShardActor:
    """Holds the rows of one shard, in a process of its own."""

    def __init__(
        self,
        rows: EmbeddingRows,
        numbers: StoredArray,
        threads: int,
        gpus: float,
        storage: str = "float32",
        centroids: StoredArray | None = None,
        codes: str = "",
    ) -> None:
        """Load the rows: at the start, and again after every death.

        Args:
            rows: The matrix.
            numbers: Numbers of the rows of this shard, int64.
            threads: Search threads.
            gpus: Share of the GPU that Ray has assigned; with any, an exact search runs there.
            storage: Of the rows, see `SearchSettings`.
            centroids: Of the coarse quantizer, float32 [nlist, D], for approximate search.
            codes: What the lists hold.
        """
        shard = numbers.read()
        where = f"rows {shard[0]}..{shard[-1]} of {rows.artifact.place.uri}"
        x = StoredRows(rows, shard, where) if storage == "float16" else rows.take(shard)
        self._search: ShardSearch | IvfSearch = (
            ShardSearch(x, threads=threads, use_gpu=gpus > 0, where=where, gpu_share=min(1.0, gpus))
            if centroids is None
            else IvfSearch(x, centroids.read(), codes=codes, threads=threads, where=where)
        )

    def propose(
        self, queries: NDArray[np.float32], width: int, nprobe: int | None
    ) -> tuple[Proposal, tuple[int, int]]:
        """See `ShardSearch.search` and `IvfSearch.search`; beside, queries by bfloat16 and by float32."""
        if isinstance(self._search, IvfSearch):
            assert nprobe is not None  # told at every call: a restarted actor knows of no earlier one
            return self._search.search(queries, width, nprobe), (0, 0)
        proposal = self._search.search(queries, width)
        return proposal, (self._search.by_half, self._search.by_float)

    def score(self, queries: NDArray[np.float32], pairs: tuple[Ints, Ints]) -> NDArray[np.float32]:
        """See `ShardSearch.score`."""
        return self._search.score(queries, *pairs)


class ActorShards:
    """The shards as the owner of a block sees them (`merge.Shards`)."""

    def __init__(
        self,
        actors: Sequence[Any],
        sizes: Sequence[int],
        *,
        nlist: int | None = None,
        nprobe: int | None = None,
        margin: float = MARGIN,
    ) -> None:
        """Keep the handles, in shard order."""
        self.actors = actors
        self.sizes = sizes
        self.nlist = nlist
        self.nprobe = nprobe
        self.margin = margin
        self.by_half = self.by_float = 0
        """Queries of shards that bfloat16 settled, and those that float32 did, through this object."""

    def with_nprobe(self, nprobe: int) -> ActorShards:
        """These shards, reading `nprobe` lists per query."""
        return ActorShards(self.actors, self.sizes, nlist=self.nlist, nprobe=nprobe, margin=self.margin)

    def exhaustive(self) -> ActorShards:
        """These shards, reading all lists."""
        assert self.nlist is not None
        return self.with_nprobe(self.nlist)

    def propose(self, queries: NDArray[np.float32], width: int) -> list[Proposal]:
        """Ask all at once; the queries are stored once and pulled once per node."""
        import ray

        shared = ray.put(queries)
        answers = ray.get([actor.propose.remote(shared, width, self.nprobe) for actor in self.actors])
        self.by_half += sum(by_half for _, (by_half, _) in answers)
        self.by_float += sum(by_float for _, (_, by_float) in answers)
        return [proposal for proposal, _ in answers]

    def score(
        self, queries: NDArray[np.float32], pairs: Sequence[tuple[Ints, Ints]]
    ) -> list[NDArray[np.float32]]:
        """Have each score its own pairs."""
        import ray

        shared = ray.put(queries)
        asked = [actor.score.remote(shared, pair) for actor, pair in zip(self.actors, pairs, strict=True)]
        answers: list[NDArray[np.float32]] = ray.get(asked)
        return answers


def search_block(
    block: Block, indexed: IndexedRows, shards: ActorShards, num_neighbors: int, draft: Draft
) -> None:
    """Find the neighbors of a block, write its part and note it as finished; runs as a task."""
    scores, ids = neighbors_of(block, indexed, shards, num_neighbors)
    entries = {
        "ids": draft.write_array(f"{block.name}-ids.npy", ids),
        "scores": draft.write_array(f"{block.name}-scores.npy", scores),
    }
    draft.finish_part(
        block.name, entries, {NPROBE: shards.nprobe, PROPOSALS: [shards.by_half, shards.by_float]}
    )


def mine_blocks(
    blocks: Sequence[Block],
    indexed: IndexedRows,
    draft: Draft,
    settings: SearchSettings,
    on_done: Callable[[Block, bool], None],
) -> list[dict[str, FileEntry]]:
    """Find the neighbors of all blocks; Ray must have been joined.

    Args:
        blocks: Of the rows whose neighbors are wanted.
        indexed: The rows to search among.
        draft: Where each block leaves its part: `ids` int64 (row numbers) and `scores` float32, [m, K] each.
        settings: K, and the size of the fleet.
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
        with temporary_arrays(draft) as store:
            _search(missing, indexed, draft, settings, on_done, store)
    return [_files(draft, block) for block in blocks]


def _search(
    blocks: Sequence[Block],
    indexed: IndexedRows,
    draft: Draft,
    settings: SearchSettings,
    on_done: Callable[[Block, bool], None],
    store: Callable[[str, NDArray[Any]], StoredArray],
) -> None:
    import ray

    from rayscan.fleet.placement import first_ready

    anywhere = {"num_cpus": ACTOR_CPUS, "scheduling_strategy": "SPREAD"}
    start = ray.remote(max_restarts=-1, max_task_retries=-1, num_gpus=settings.gpus_per_shard, **anywhere)(
        ShardActor
    )
    task = ray.remote(max_retries=-1, **anywhere)(search_block)
    numbers = split_rows(indexed.uniques, settings.num_shards)
    need = {"CPU": ACTOR_CPUS, "GPU": settings.gpus_per_shard}
    ivf, nlist = settings.ivf, None if settings.ivf is None else len(settings.ivf.centroids)
    lists = () if ivf is None else (store("centroids", ivf.centroids), ivf.codes)
    how = (settings.threads, settings.gpus_per_shard, settings.storage, *lists)
    actors = [
        start.remote(indexed.rows, store(f"shard-{i:05d}", shard), *how) for i, shard in enumerate(numbers)
    ]
    sizes = [len(shard) for shard in numbers]
    shards = ActorShards(actors, sizes, nlist=nlist, margin=settings.margin(indexed.rows))
    known = ray.put(indexed)
    running: dict[Any, Block] = {}
    waiting = iter(blocks)
    try:
        if ivf is not None:
            shards = tune_nprobe(shards, ivf, indexed, settings.num_neighbors)
        while True:
            while (
                len(running) < BLOCKS_PER_SHARD * len(actors) and (block := next(waiting, None)) is not None
            ):
                running[task.remote(block, known, shards, settings.num_neighbors, draft)] = block
            if not running:
                return
            ready = first_ready(list(running), need, settings.pending_seconds)
            ray.get(ready)
            on_done(running.pop(ready), False)
    except ray.exceptions.RayError as error:
        raise unwrapped(error, "mining neighbors") from error
    finally:
        for actor in actors:  # the owners still at work end with an error, for want of shards
            ray.kill(actor, no_restart=True)


def tune_nprobe(
    shards: ActorShards, ivf: IvfSettings, indexed: IndexedRows, num_neighbors: int
) -> ActorShards:
    """The shards, reading as few lists as the wanted recall on the sample takes, within a sixteenth."""

    def suffices(nprobe: int) -> bool:
        scores, _ = neighbors_of_rows(
            ivf.sample, ivf.representatives, indexed, shards.with_nprobe(nprobe), num_neighbors
        )
        return float((scores >= ivf.kth[:, None] - TOLERANCE).mean()) >= ivf.recall

    nlist = len(ivf.centroids)
    few, many = 0, 1
    while many < nlist and not suffices(many):
        few, many = many, min(nlist, many + max(1, many // 2))
    while many - few > max(1, few // 16):
        between = (few + many) // 2
        few, many = (few, between) if suffices(between) else (between, many)
    return shards.with_nprobe(many)


def search_facts(draft: Draft, blocks: Sequence[Block], settings: SearchSettings) -> dict[str, Any]:
    """How finished blocks were searched, for a manifest: lists read, or what bfloat16 left to float32."""
    parts = [part[1] for block in blocks if (part := draft.finished_part(block.name)) is not None]
    if settings.ivf is not None:
        # all blocks were asked alike, and those of an earlier attempt by the same sample
        lists = {"nlist": len(settings.ivf.centroids), NPROBE: parts[0].get(NPROBE) if parts else None}
        return {"search": "approximate", "codes": settings.ivf.codes, **lists}
    by_half, by_float = (sum(part.get(PROPOSALS, (0, 0))[i] for part in parts) for i in range(2))
    return {PROPOSALS: {"bfloat16": by_half, "float32": by_float}} if by_half else {}


def _files(draft: Draft, block: Block) -> dict[str, FileEntry]:
    part = draft.finished_part(block.name)
    assert part is not None, block.name  # it was there, or its task noted it and did not raise
    return part[0]
