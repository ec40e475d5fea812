"""Shards as local files: themselves, or their copies in the node's cache; others are read by range."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rayscan.config import ImagesConfig
from rayscan.data.local_files import open_local
from rayscan.data.node_cache import NodeCache, Shard
from rayscan.data.table import ImageTable
from rayscan.errors import DataError
from rayscan.storage import is_local


class CachedFiles:
    """The shards of an index by number, opened as local files."""

    def __init__(self, table: ImageTable, cache: NodeCache | None) -> None:
        """Nothing is opened yet.

        Args:
            table: The index.
            cache: Holds remote shards on this node; without it none is opened.
        """
        self.table = table
        self.cache = cache if table.shard_sha256 else None
        self.is_remote = np.array([not is_local(uri) for uri in table.shard_uris], bool)
        sizes = np.array(table.shard_bytes, np.int64) if table.shard_bytes else np.zeros(len(self.is_remote))
        self.is_roomy = self.cache is not None and sizes[self.is_remote].sum() <= self.cache.max_bytes
        """Whether all remote shards fit into the cache together."""

    def open(self, shard: int) -> int | None:
        """A descriptor. A remote shard is fetched if all of them fit, else only taken if it is here already.

        Raises:
            DataError: it cannot be opened, or is not what was indexed.
        """
        if not self.is_remote[shard]:
            return open_local(self.table.shard_uris[shard])
        if self.cache is None or not self.table.shard_sha256[shard]:
            return None
        known = self._known(shard)
        return self.cache.fetch(known) if self.is_roomy else self.cache.open(known)

    def expect(self, shards: Iterable[int]) -> None:
        """Have remote shards fetched in the background, in this order."""
        if self.cache is not None:
            wanted = [n for n in shards if self.is_remote[n] and self.table.shard_sha256[n]]
            self.cache.prefetch(self._known(number) for number in wanted)

    def _known(self, shard: int) -> Shard:
        table = self.table
        return Shard(table.shard_uris[shard], table.shard_bytes[shard], table.shard_sha256[shard])


def cache_for(table: ImageTable, images: ImagesConfig) -> NodeCache | None:
    """The cache of this node and user, if the settings want one and there is anything remote.

    Raises:
        DataError: the folder belongs to somebody else, who could put other images there.
    """
    if not images.cache_bytes or not any(not is_local(uri) for uri in table.shard_uris):
        return None
    default = Path(tempfile.gettempdir()) / f"rayscan-cache-{os.getuid()}"
    folder = Path(images.cache_dir).expanduser() if images.cache_dir else default
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.getuid():
        raise DataError(
            "the cache belongs to another user",
            expected=f"a folder of user {os.getuid()}",
            got=f"user {folder.stat().st_uid}",
            where=str(folder),
            fix="name another one with --images.cache-dir",
        )
    return NodeCache(folder, images.cache_bytes)
