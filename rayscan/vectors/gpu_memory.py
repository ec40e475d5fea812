"""Whether the rows of a shard fit on its GPU, asked before they are put there."""

from __future__ import annotations

from rayscan.errors import FleetError

SCRATCH_BYTES = 2_000_000_000
"""What faiss sets aside for products and selections on a large GPU (1.5 GiB), and some for the queries."""


def require_gpu_memory(
    num_rows: int, dim: int, value_bytes: int, *, free: int, total: int, share: float, where: str
) -> None:
    """Refuse a shard that its GPU cannot hold.

    Args:
        num_rows: Rows of the shard.
        dim: D.
        value_bytes: Bytes of a value: 4, or 2 in half precision.
        free: Bytes that are free on the GPU now.
        total: Bytes that it has.
        share: Of the GPU that this shard may use, 0..1; others load at the same time.
        where: Name of the shard.

    Raises:
        FleetError: with the numbers.
    """
    need = num_rows * dim * value_bytes + SCRATCH_BYTES
    room = min(free, int(share * total))
    if need > room:
        raise FleetError(
            "mine: a shard does not fit on its GPU",
            expected=f"at most {room / 1e9:.2f} GB: {free / 1e9:.2f} GB of {total / 1e9:.2f} GB are free, and"
            f" {share:g} of the GPU is this shard's",
            got=f"{need / 1e9:.2f} GB: {num_rows:,} rows x {dim} x {value_bytes} bytes and"
            f" {SCRATCH_BYTES / 1e9:.2f} GB of faiss",
            where=where,
            fix="use more GPUs and --mine.num-shards"
            + (", or --mine.storage float16" if value_bytes > 2 else "")
            + ", or --fleet.gpus-per-worker 0 to search on CPUs",
        )
