"""`rayscan shard DATA OUT`: one task per shard, here or on the fleet."""

from __future__ import annotations

import sys
from contextlib import ExitStack

from rayscan.cli.arguments import ShardArguments
from rayscan.cli.mapping import mapper


def shard_data(asked: ShardArguments) -> None:
    """Pack, and say what was made.

    Raises:
        RayscanError: see `packing.write_shards`.
    """
    from rayscan.data.classes import imagenet_subset
    from rayscan.data.packing import write_shards
    from rayscan.data.shard_writer import JPEG_QUALITY, RESIZE_PX
    from rayscan.stages.index import listed

    px = asked.resize_px or (RESIZE_PX if asked.resize else None)
    if px is not None:
        sys.stdout.write(f"larger pictures get a short side of {px} px; JPEG quality {JPEG_QUALITY}\n")
    listing = listed(asked.folder)
    with ExitStack() as stack:
        summary = write_shards(
            listing,
            asked.out,
            labels_from_folders=asked.labels_from_folders,
            shard_bytes=int(asked.shard_megabytes * 1e6),
            resize_px=px,
            wnids=frozenset(imagenet_subset(asked.imagenet_classes)) if asked.imagenet_classes else None,
            apply=mapper(listing.size, asked.address, stack),
        )
    sys.stdout.write(f"{summary}\n")
