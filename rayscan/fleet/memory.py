"""Whether the shards of a search fit on the machines, asked before they start."""

from __future__ import annotations

from rayscan.errors import FleetError
from rayscan.fleet.shards import BLOCKS_PER_SHARD, Mining
from rayscan.vectors.merge import PROPOSALS_AT_ONCE, Searched
from rayscan.vectors.shard_search import QUERY_BLOCK, ROW_BLOCK
from rayscan.vectors.stored_rows import PIECE_BYTES

PROCESS_BYTES = 300_000_000
"""Python, Ray, Arrow and faiss in one worker."""
BLOCK_ROWS = 16_384
"""Generous rows of a block of queries."""


def shard_bytes(num_rows: int, dim: int, mining: Mining) -> int:
    """Memory of one actor: its rows, their copy in lists, tiles of scores, two blocks of queries.

    Under float16 the rows take half, or nothing beside lists, and those that are read at a time a piece.

    Args:
        num_rows: Rows of all shards.
        dim: D.
        mining: How they are searched.
    """
    rows = -(-num_rows // mining.num_shards)
    is_half = mining.storage == "float16"
    copies = 2 * dim if is_half else 4 * dim
    if mining.lists is not None:
        copies = (0 if is_half else copies) + 8 + (dim if mining.lists.codes == "sq8" else 4 * dim)
    tiles = mining.threads * QUERY_BLOCK * ROW_BLOCK * 4 + (3 * PIECE_BYTES if is_half else 0)
    return PROCESS_BYTES + rows * copies + tiles + 2 * BLOCK_ROWS * dim * 4


def owner_bytes(dim: int) -> int:
    """Memory of the owner of a block: its queries and the proposals of all shards."""
    return PROCESS_BYTES + 2 * BLOCK_ROWS * dim * 4 + 24 * PROPOSALS_AT_ONCE


def require_memory(searched: Searched, mining: Mining) -> None:
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
    per_node = -(-mining.num_shards // len(sizes))
    one = shard_bytes(len(searched.uniques), searched.rows.dim, mining)
    need = per_node * (one + BLOCKS_PER_SHARD * owner_bytes(searched.rows.dim) // 2)
    if need > min(sizes):
        raise FleetError(
            "mine: the shards do not fit in memory",
            expected=f"at most {min(sizes) / 1e9:.2f} GB a node, what Ray gives out on the smallest",
            got=f"{need / 1e9:.2f} GB: {per_node} of {mining.num_shards} shards on each of {len(sizes)} nodes"
            f", {one / 1e9:.2f} GB each",
            where=searched.rows.artifact.place.uri,
            fix="use more nodes and --mine.num-shards"
            + (", or --mine.storage float16" if mining.storage == "float32" else "")
            + ", or --pretext.projection-dim to mine narrower rows",
        )
