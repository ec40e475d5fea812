"""Remote shards on this node's disk: fetched once for all workers, checked, evicted only when nobody reads.

    <folder>/<hash>.shard            a whole shard, its size and sha256 compared with the index
    <folder>/.<hash>.shard.partial   one that is being fetched; whoever holds its lock fetches it
    <folder>/.lock                   held while room is made

Locks are flock(2): the system lets go of those of a process that dies. A reader holds a shared lock on the
shard it has open, and eviction takes only what it can lock alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rayscan.data.local_files import unreadable
from rayscan.errors import DataError
from rayscan.storage import RetryPolicy, locate, retry

CHUNK = 8 << 20
MODE = 0o600
TRIES = 3
"""Times a shard is fetched whose bytes are not those that were indexed, before that is believed."""


@dataclass(frozen=True)
class Shard:
    """What the index says of a remote shard."""

    uri: str
    size: int
    """Bytes."""
    sha256: str

    @property
    def name(self) -> str:
        """Name of its file in the cache: another content is another file."""
        told = f"{self.uri}\n{self.size}\n{self.sha256}"
        return hashlib.sha256(told.encode()).hexdigest()[:32] + ".shard"


@dataclass(eq=False)
class NodeCache:
    """A folder that several processes may use at once."""

    folder: Path
    max_bytes: int
    """Whole shards and those being fetched stay within this."""
    policy: RetryPolicy | None = None
    """How requests to the store are repeated; as the environment says if not given."""
    _pool: ThreadPoolExecutor | None = field(default=None, init=False, repr=False)
    _mutex: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def open(self, shard: Shard) -> int | None:
        """A descriptor of a shard that is here, pinned until it is closed; None if it is not here."""
        path = self.folder / shard.name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # whoever evicts holds it for an instant only
        if not path.exists() or os.fstat(descriptor).st_size != shard.size:
            os.close(descriptor)
            return None
        now = time.time_ns()  # finer than the system's own clock for files
        os.utime(descriptor, ns=(now, now))  # eviction takes the one that was not used for longest
        return descriptor

    def fetch(self, shard: Shard) -> int | None:
        """A descriptor of a shard as from `open`, fetched before if need be; None if there is no room for it.

        Raises:
            DataError: the store does not give it, or gives other bytes than were indexed.
        """
        while True:
            if (descriptor := self.open(shard)) is not None:
                return descriptor
            if shard.size > self.max_bytes:
                return None
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _alone(self.folder / f".{shard.name}.partial") as partial:
                if (path := self.folder / shard.name).exists():
                    if path.stat().st_size != shard.size:
                        path.unlink()  # cut, as by a full disk
                    continue  # somebody else was quicker
                if not self._make_room(shard.size, partial):
                    return None
                self._download(shard, partial)

    def prefetch(self, shards: Iterable[Shard]) -> None:
        """Fetch shards in the background, in this order; what fails is met again by whoever reads it."""
        with self._mutex:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, thread_name_prefix="rayscan-cache")
        for shard in shards:
            self._pool.submit(self._ahead, shard)

    def _ahead(self, shard: Shard) -> None:
        with suppress(DataError):
            if (descriptor := self.fetch(shard)) is not None:
                os.close(descriptor)

    def _make_room(self, size: int, partial: int) -> bool:
        """Evict what was not used for longest until a file of `size` bytes fits, and promise them to it."""
        with _alone(self.folder / ".lock"):
            os.ftruncate(partial, 0)
            files = sorted(self.folder.glob("*.shard"), key=lambda path: path.stat().st_mtime_ns)
            held = sum(path.stat().st_size for path in files) + self._being_fetched()
            for path in files:
                if held + size <= self.max_bytes:
                    break
                freed = path.stat().st_size
                held -= freed if _evicted(path) else 0
            if held + size > self.max_bytes:
                return False  # the rest is in use
            os.ftruncate(partial, size)
            return True

    def _being_fetched(self) -> int:
        """Bytes promised to downloads that run; leftovers of those that died are removed."""
        promised = 0
        for path in self.folder.glob(".*.shard.partial"):
            with suppress(FileNotFoundError):
                if path.stat().st_size and not _evicted(path):
                    promised += path.stat().st_size
        return promised

    def _download(self, shard: Shard, partial: int) -> None:
        """Fetch into a locked file, compare, and give it its name."""
        path = self.folder / f".{shard.name}.partial"
        for _ in range(TRIES):
            found = hashlib.sha256()
            for start in range(0, shard.size, CHUNK):
                data = self._chunk(shard, start, min(CHUNK, shard.size - start))
                found.update(data)
                os.pwrite(partial, data, start)
            if found.hexdigest() == shard.sha256:
                os.fsync(partial)
                os.replace(path, self.folder / shard.name)  # noqa: PTH105
                return
        os.ftruncate(partial, 0)
        raise DataError(
            "a shard is not what was indexed",
            expected=f"{shard.size:,} bytes with sha256 {shard.sha256[:12]}...",
            got=f"sha256 {found.hexdigest()[:12]}..., {TRIES} times",
            where=shard.uri,
            fix="put the original back, or index again with a new --out",
        )

    def _chunk(self, shard: Shard, start: int, length: int) -> bytes:
        def ask() -> bytes:
            filesystem, path = locate(shard.uri)
            with filesystem.open_input_file(path) as stream:
                data = bytes(stream.read_at(length, start))
            if len(data) != length:
                raise OSError(f"{len(data):,} of {length:,} bytes came")
            return data

        try:
            return retry(ask, self.policy)
        except OSError as error:
            raise unreadable(shard.uri, start, error) from error


@contextmanager
def _alone(path: Path) -> Iterator[int]:
    """A file that only one process has open here at a time; made if it is not there."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
                yield descriptor
                return
            # It was renamed or removed while we waited: begin again with the file that has the name now.
        finally:
            os.close(descriptor)
        time.sleep(0)


def _evicted(path: Path) -> bool:
    """Remove a file unless somebody holds it; whether it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
