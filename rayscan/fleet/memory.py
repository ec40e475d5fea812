"""Whether the shards of a search fit on the machines, asked before they start."""

from __future__ import annotations

from rayscan.errors import FleetError
from rayscan.fleet.search_settings import SearchSettings
from rayscan.fleet.shards import BLOCKS_PER_SHARD
from rayscan.vectors.half_limits import BYTES_OF_A_BLOCK, MIN_ROWS
from rayscan.vectors.merge import PROPOSALS_AT_ONCE, IndexedRows
from rayscan.vectors.shard_search import QUERY_BLOCK, ROW_BLOCK
from rayscan.vectors.stored_rows import PIECE_BYTES

PROCESS_BYTES = 300_000_000
"""Python, Ray, Arrow and faiss in one worker."""
BLOCK_ROWS = 16_384
"""Generous rows of a block of queries."""


def shard_bytes(num_rows: int, dim: int, settings: SearchSettings) -> int:
    """Memory of one actor: its rows, their copies in bfloat16 and in lists, tiles, two blocks of queries.

    As if all nodes had units for bfloat16. Under float16 the rows take half, or nothing beside lists, and
    those that are read at a time a piece.

    Args:
        num_rows: Rows of all shards.
        dim: D.
        settings: How they are searched.
    """
    rows = -(-num_rows // settings.num_shards)
    is_half = settings.storage == "float16"
    copies = 2 * dim if is_half else 4 * dim
    is_halved = settings.ivf is None and not is_half and not settings.gpus_per_shard and rows >= MIN_ROWS
    copies += 2 * dim if is_halved else 0
    if settings.ivf is not None:
        copies = (0 if is_half else copies) + 8 + (dim if settings.ivf.codes == "sq8" else 4 * dim)
    tiles = settings.threads * QUERY_BLOCK * ROW_BLOCK * 4 + (3 * PIECE_BYTES if is_half else 0)
    tiles += settings.threads * BYTES_OF_A_BLOCK if is_halved else 0
    return PROCESS_BYTES + rows * copies + tiles + 2 * BLOCK_ROWS * dim * 4


def owner_bytes(dim: int) -> int:
    """Memory of the owner of a block: its queries and the proposals of all shards."""
    return PROCESS_BYTES + 2 * BLOCK_ROWS * dim * 4 + 24 * PROPOSALS_AT_ONCE


def require_memory(indexed: IndexedRows, settings: SearchSettings) -> None:
    """Refuse a search whose shards and owners do not fit; Ray must have been joined.

    Raises:
        FleetError: with the numbers.
    """
    import ray

    sizes = [
        float(node["Resources"].get("memory", 0.0))
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU", 0.0) > 0
    ]
    if not sizes or not min(sizes):
        return  # a Ray that does not say what it has
    per_node = -(-settings.num_shards // len(sizes))
    one = shard_bytes(len(indexed.uniques), indexed.rows.dim, settings)
    need = per_node * (one + BLOCKS_PER_SHARD * owner_bytes(indexed.rows.dim) // 2)
    if need > min(sizes):
        raise FleetError(
            "mine: the shards do not fit in memory",
            expected=f"at most {min(sizes) / 1e9:.2f} GB a node, what Ray gives out on the smallest",
            got=f"{need / 1e9:.2f} GB: {per_node} of {settings.num_shards} shards on each of"
            f" {len(sizes)} nodes, {one / 1e9:.2f} GB each",
            where=indexed.rows.artifact.place.uri,
            fix="use more nodes and --mine.num-shards"
            + (", or --mine.storage float16" if settings.storage == "float32" else "")
            + ", or --pretext.projection-dim to mine narrower rows",
        )
