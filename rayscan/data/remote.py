"""Remote shards: read by range, again after a failure, up to a deadline."""

from __future__ import annotations

import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rayscan.data.addresses import locate
from rayscan.data.local_files import unreadable

T = TypeVar("T")
MAX_OPEN = 128


@dataclass(frozen=True)
class Patience:
    """How long a store that does not answer is asked again."""

    deadline_s: float = 300.0
    """Give up so long after the first try."""
    first_wait_s: float = 0.1
    """Wait after the first failure; it doubles each time."""
    longest_wait_s: float = 15.0
    """At most so long between two tries."""


PATIENCE = Patience()
GONE = (FileNotFoundError, PermissionError)
"""What another try does not change."""


def insist(ask: Callable[[], T], patience: Patience = PATIENCE) -> T:
    """Ask a store until it answers.

    Waits are drawn between half and all of what they have doubled to, so that many workers do not come back
    at once; nothing but speed depends on the draw.

    Raises:
        OSError: of the last try: the deadline is over, or the file is not there or not ours to read.
    """
    began, wait = time.monotonic(), patience.first_wait_s
    while True:
        try:
            return ask()
        except GONE:
            raise
        except OSError:
            pause = wait * random.uniform(0.5, 1.0)
            if time.monotonic() + pause - began > patience.deadline_s:
                raise
            time.sleep(pause)
            wait = min(2 * wait, patience.longest_wait_s)


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
