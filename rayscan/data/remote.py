"""Remote shards read by range, again after a failure, up to a deadline."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from rayscan.data.addresses import locate
from rayscan.data.local_files import unreadable
from rayscan.data.patience import PATIENCE, Patience, insist

MAX_OPEN = 128


class RemoteFiles:
    """Range readers of objects; the oldest are let go."""

    def __init__(self, uris: Sequence[str], patience: Patience = PATIENCE) -> None:
        """Nothing is opened yet."""
        self._uris, self._patience = uris, patience
        self._lock = threading.Lock()
        self._open: OrderedDict[int, Any] = OrderedDict()

    def read(self, shard: int, first: int, stop: int) -> bytes:
        """Bytes first..stop of a shard; fewer at its end.

        Raises:
            DataError: the store gives no answer, or no such object.
        """

        def ask() -> bytes:
            try:
                return bytes(self._file(shard).read_at(stop - first, first))
            except OSError:
                with self._lock:
                    self._open.pop(shard, None)  # the next try begins with a new connection
                raise

        try:
            return insist(ask, self._patience)
        except OSError as error:
            raise unreadable(self._uris[shard], first, error) from error

    def _file(self, shard: int) -> Any:
        with self._lock:
            if (known := self._open.get(shard)) is not None:
                self._open.move_to_end(shard)
                return known
        filesystem, path = locate(self._uris[shard])
        opened = filesystem.open_input_file(path)
        with self._lock:
            self._open[shard] = opened
            if len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
        return opened
