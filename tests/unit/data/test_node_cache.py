"""Remote shards in the node's cache, from a real S3 server, also through a line that breaks in mid-object."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rayscan.data.node_cache import NodeCache, Shard
from rayscan.data.reader import Reader
from rayscan.data.table import ImageTable
from rayscan.errors import DataError
from rayscan.storage import Place, RetryPolicy, locate, retry
from tests.unit.data.conftest import encoded, make_tar, picture
from tests.unit.data.test_loader import table_of

QUICK = RetryPolicy(deadline_s=20.0, first_wait_s=0.01, longest_wait_s=0.05)
SHARDS, EACH = 3, 4


class Line:
    """A TCP relay in front of a server that cuts its first answers after some bytes."""

    def __init__(self, port: int) -> None:
        self.to, self.cuts, self.after, self.dropped = port, 0, 0, 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.server.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.to))
            threading.Thread(target=self._relay, args=(near, far), daemon=True).start()
            threading.Thread(target=self._answer, args=(far, near), daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _answer(self, source: socket.socket, target: socket.socket) -> None:
        sent = 0
        try:
            while data := source.recv(4096):
                sent += len(data)
                if self.cuts and sent > self.after:
                    self.cuts -= 1
                    self.dropped += 1
                    target.sendall(data[: len(data) // 2])
                    break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # close alone sends nothing while another thread waits on it
            end.close()


@pytest.fixture(scope="module")
def bucket(
    s3_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Line, ImageTable, list[bytes]]]:
    """Shards on the server, their index with addresses through the line, and the images."""
    server = re.search(r"endpoint_override=127\.0\.0\.1:(\d+)", s3_uri)
    assert server is not None
    line = Line(int(server[1]))
    folder = Place(s3_uri).child("cache")
    rng = np.random.default_rng(0)
    parts, images, uris, sizes, hashes = [], [], [], [], []
    for number in range(SHARDS):
        members = [(f"{number}-{n}.png", encoded(picture(10 * number + n, 40, 50))) for n in range(EACH)]
        data = make_tar([*members, (f"{number}-x.txt", rng.bytes(40_000))])
        images += [image for _, image in members]
        filesystem, path = locate(folder.uri_of(f"{number}.tar"))
        with filesystem.open_output_stream(path) as stream:
            stream.write(data)
        local = tmp_path_factory.mktemp("tars") / f"{number}.tar"
        local.write_bytes(data)
        parts.append(table_of(local, EACH))
        uris.append(folder.uri_of(f"{number}.tar").replace(f":{server[1]}", f":{line.port}"))
        sizes.append(len(data))
        hashes.append(hashlib.sha256(data).hexdigest())
    columns = ("offset", "length", "crc32", "width", "height", "is_ok", "is_eval")
    table = ImageTable(
        shard=np.repeat(np.arange(SHARDS), EACH).astype(np.int32),
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns},
        shard_uris=tuple(uris),
        shard_bytes=tuple(sizes),
        shard_sha256=tuple(hashes),
    )
    yield line, table, images
    line.server.close()


def shards_of(table: ImageTable) -> list[Shard]:
    return [
        Shard(*told) for told in zip(table.shard_uris, table.shard_bytes, table.shard_sha256, strict=True)
    ]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.shard"))


def test_shards_are_fetched_once_and_read_from_disk(bucket, tmp_path):
    _, table, images = bucket
    cache = NodeCache(tmp_path / "c", 10**9, QUICK)
    gids = np.random.default_rng(0).permutation(len(images))
    assert Reader(table, cache).read(gids) == [images[gid] for gid in gids]
    assert files(cache.folder) == sorted(shard.name for shard in shards_of(table))
    away = replace(table, shard_uris=tuple(uri.replace("cache/", "gone/") for uri in table.shard_uris))
    with pytest.raises(DataError, match="cannot be read"):
        Reader(away, NodeCache(tmp_path / "d", 10**9, RetryPolicy(0.1))).read([0])
    assert not list(cache.folder.glob(".*.partial"))


def test_a_line_that_breaks_in_mid_object_costs_time_only(bucket, tmp_path):
    line, table, images = bucket
    line.cuts, line.after, line.dropped = 4, 9_000, 0
    cache = NodeCache(tmp_path / "c", 10**9, QUICK)
    assert Reader(table, cache).read(np.arange(len(images))) == images
    assert line.dropped == 4
    line.cuts = 2
    assert Reader(table).read(np.arange(len(images))) == images  # by range
    assert line.dropped == 6


def test_a_store_that_stays_away_ends_at_the_deadline(bucket, tmp_path):
    line, table, _ = bucket
    line.cuts, line.after = 10**6, 0
    try:
        with pytest.raises(DataError, match="cannot be read"):
            Reader(table, NodeCache(tmp_path / "c", 10**9, RetryPolicy(0.5, 0.01, 0.05))).read([0])
    finally:
        line.cuts = 0
    assert files(tmp_path / "c") == []


def test_changed_shards_are_refused(bucket, tmp_path):
    _, table, _ = bucket
    wrong = replace(table, shard_sha256=("0" * 64, *table.shard_sha256[1:]))
    with pytest.raises(DataError, match="not what was indexed"):
        Reader(wrong, NodeCache(tmp_path / "c", 10**9, QUICK)).read([0])
    assert files(tmp_path / "c") == []


def test_the_cap_holds_and_what_is_in_use_stays(bucket, tmp_path):
    _, table, images = bucket
    first, second, third = shards_of(table)
    cache = NodeCache(tmp_path / "c", first.size + second.size + 100, QUICK)
    pinned = cache.fetch(first)
    assert pinned is not None
    for shard in (second, third, second):
        descriptor = cache.fetch(shard)
        assert descriptor is not None
        os.close(descriptor)
        assert files(cache.folder) == sorted([first.name, shard.name])
        held = sum(path.stat().st_size for path in cache.folder.glob("*.shard"))
        assert held <= cache.max_bytes
    other = cache.fetch(second)
    assert other is not None and cache.fetch(third) is None  # both are in use: no room, read by range
    os.close(other)
    os.close(pinned)
    assert files(cache.folder) == sorted([first.name, second.name])
    assert Reader(table, cache).read(np.arange(len(images))) == images  # a set larger than the cache


def test_the_one_not_used_for_longest_goes(bucket, tmp_path):
    _, table, _ = bucket
    first, second, third = shards_of(table)
    cache = NodeCache(tmp_path / "c", first.size + second.size + 100, QUICK)
    for shard in (first, second, first, third):
        os.close(cache.fetch(shard) or -1)
    assert files(cache.folder) == sorted([first.name, third.name])


def test_many_at_once_fetch_each_shard_once(bucket, tmp_path, monkeypatch):
    _, table, images = bucket
    fetched = []
    real = NodeCache._download
    monkeypatch.setattr(NodeCache, "_download", lambda *given: fetched.append(given[1].uri) or real(*given))

    def work(seed: int) -> bool:
        gids = np.random.default_rng(seed).integers(0, len(images), 6)
        reader = Reader(table, NodeCache(tmp_path / "c", 10**9, QUICK))  # as if in a process of its own
        return reader.read(gids) == [images[gid] for gid in gids]

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(12)))
    assert sorted(fetched) == sorted(set(fetched))


def test_leftovers_of_a_process_that_died_are_replaced(bucket, tmp_path):
    _, table, images = bucket
    first = shards_of(table)[0]
    cache = NodeCache(tmp_path / "c", first.size, QUICK)
    cache.folder.mkdir()
    (cache.folder / f".{first.name}.partial").write_bytes(b"half")
    (cache.folder / f".{'0' * 32}.shard.partial").write_bytes(bytes(first.size))
    (cache.folder / f"{'1' * 32}.shard").write_bytes(bytes(first.size))
    os.close(cache.fetch(first) or -1)
    assert files(cache.folder) == [first.name]
    (cache.folder / first.name).write_bytes(b"cut")  # as after a full disk
    assert cache.open(first) is None
    assert Reader(table, cache).read([0]) == [images[0]]


def test_expected_shards_are_fetched_ahead_in_order(bucket, tmp_path):
    _, table, images = bucket
    cache = NodeCache(tmp_path / "c", sum(table.shard_bytes[:2]), QUICK)  # too small for all
    reader = Reader(table, cache)
    assert reader.read([0]) == [images[0]] and files(cache.folder) == []
    reader.expect([5, 1, 4])
    cache._pool.shutdown(wait=True)
    assert files(cache.folder) == sorted(shard.name for shard in shards_of(table)[:2])
    assert reader.read([0, 5, 9]) == [images[0], images[5], images[9]]


def test_waits_double_and_end_at_the_deadline(monkeypatch):
    waits, now = [], [0.0]
    monkeypatch.setattr("rayscan.storage.policy.time.monotonic", lambda: now[0])

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("rayscan.storage.policy.time.sleep", sleep)

    def ask() -> None:
        raise OSError("503")

    with pytest.raises(OSError, match="503"):
        retry(ask, RetryPolicy(deadline_s=100.0, first_wait_s=1.0, longest_wait_s=16.0))
    assert sum(waits) <= 100 and len(waits) >= 9
    for wait, most in zip(waits, [1, 2, 4, 8, 16, 16, 16], strict=False):
        assert most / 2 <= wait <= most
    with pytest.raises(FileNotFoundError):
        retry(lambda: (_ for _ in ()).throw(FileNotFoundError()), RetryPolicy())
