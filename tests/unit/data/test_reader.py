"""Random access: the bytes that were indexed, in the order asked, or an error that says where."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest

from rayscan.data import local_files, stored_files
from rayscan.data.reader import Reader
from rayscan.data.sources.base import Rows
from rayscan.data.table import ImageTable
from rayscan.errors import DataError
from rayscan.storage import Place, locate
from tests.unit.data.conftest import encoded, make_tar, picture, write_files

DESCRIPTORS = Path("/proc/self/fd")


def table_of(uris, rows):
    """An index of (shard, offset, bytes) by hand."""
    shard, offset, data = zip(*rows, strict=True)
    return ImageTable(
        shard=np.array(shard, np.int32),
        offset=np.array(offset, np.int64),
        length=np.array([len(d) for d in data], np.int64),
        crc32=np.array([zlib.crc32(d) for d in data], np.uint32),
        width=np.full(len(data), 16, np.int32),
        height=np.full(len(data), 12, np.int32),
        is_ok=np.ones(len(data), np.bool_),
        is_eval=np.zeros(len(data), np.bool_),
        shard_uris=tuple(uris),
    )


def make(place_of, num_shards=3, per_shard=7):
    """Tars of pictures, and their index."""
    uris, rows, pictures = [], [], []
    for shard in range(num_shards):
        images = [encoded(picture(100 * shard + n)) for n in range(per_shard)]
        data = make_tar([(f"s{shard}-{n}.png", image) for n, image in enumerate(images)])
        uris.append(place_of(f"{shard}.tar", data))
        rows += [(shard, data.index(image), image) for image in images]
        pictures += [picture(100 * shard + n) for n in range(per_shard)]
    return table_of(uris, rows), [row[2] for row in rows], pictures


@pytest.fixture
def local(tmp_path):
    def place(name, data):
        write_files(tmp_path, {name: data})
        return str(tmp_path / name)

    return make(place)


def orders(count):
    rng = np.random.default_rng(0)
    return [
        np.arange(count),
        np.arange(count)[::-1],
        rng.permutation(count),
        rng.integers(0, count, 50),
        np.array([], int),
    ]


def test_bytes_come_in_the_order_asked(local):
    table, stored, _ = local
    reader = Reader(table)
    for gids in orders(len(stored)):
        assert reader.read(gids) == [stored[gid] for gid in gids]
    assert reader.read([4]) == [stored[4]]
    every = np.arange(len(stored)).repeat(2)
    rows = Rows(table.shard[every], table.offset[every], table.length[every])
    reads = stored_files.planned(rows, 0, stored_files.LONGEST_LOCAL_READ)
    assert len(reads.shard) == len(stored)  # repeats are read once
    joined = stored_files.planned(rows, stored_files.LOCAL_GAP, stored_files.LONGEST_LOCAL_READ)
    assert len(joined.shard) == 3  # neighbors of a shard come with one read


@pytest.mark.parametrize("threads", [1, 3])
def test_pictures_come_in_the_order_asked(local, threads):
    table, _, pictures = local
    reader = Reader(table)
    for gids in orders(len(pictures)):
        for gid, pixels in zip(gids, reader.images(gids, threads), strict=True):
            np.testing.assert_array_equal(pixels, pictures[gid])


def test_object_store_ranges_near_and_far(s3_uri, tmp_path, monkeypatch):
    folder = Place(s3_uri).child(tmp_path.name)

    def place(name, data):
        filesystem, path = locate(folder.uri_of(name))
        with filesystem.open_output_stream(path) as stream:
            stream.write(data)
        return folder.uri_of(name)

    table, stored, _ = make(place)
    for gap, span in ((128 << 10, 8 << 20), (0, 8 << 20), (1 << 20, 3000)):
        monkeypatch.setattr(stored_files, "REMOTE_GAP", gap)
        monkeypatch.setattr(stored_files, "LONGEST_REMOTE_READ", span)
        reader = Reader(table)
        for gids in orders(len(stored)):
            assert reader.read(gids) == [stored[gid] for gid in gids]
    monkeypatch.setattr(stored_files, "LONGEST_REMOTE_READ", 8 << 20)
    rows = Rows(table.shard, table.offset, table.length)
    reads = stored_files.planned(rows, stored_files.REMOTE_GAP, stored_files.LONGEST_REMOTE_READ)
    assert len(reads.shard) == 3  # one request per shard instead of seven


def test_local_files_one_by_one_have_few_open_descriptors(tmp_path, monkeypatch):
    monkeypatch.setattr(local_files, "MAX_OPEN", 4)
    images = [encoded(picture(n)) for n in range(30)]
    write_files(tmp_path, {f"{n}.png": image for n, image in enumerate(images)})
    reader = Reader(
        table_of([str(tmp_path / f"{n}.png") for n in range(30)], [(n, 0, i) for n, i in enumerate(images)])
    )
    before = len(list(DESCRIPTORS.iterdir()))
    assert reader.read(np.arange(30)) == images
    assert len(list(DESCRIPTORS.iterdir())) <= before + 4
    del reader
    assert len(list(DESCRIPTORS.iterdir())) <= before


def test_many_threads_share_one_reader(local, monkeypatch):
    monkeypatch.setattr(local_files, "MAX_OPEN", 1)  # files are closed under each other's feet
    table, stored, _ = local
    reader = Reader(table)
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(60):
            gids = rng.integers(0, len(stored), 8)
            try:
                if reader.read(gids) != [stored[gid] for gid in gids]:
                    wrong.append(gids)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def child(reader, gids, queue):
    queue.put([len(data) for data in reader.read(gids)] + [reader.images(gids, 2)[0].shape])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_reader_in_use_survives_a_fork_and_travels(local):
    table, stored, _ = local
    reader = Reader(table)
    reader.images(np.arange(6), threads=2)  # files are open and threads run
    expected = [len(stored[n]) for n in (9, 2)] + [(12, 16, 3)]
    again = pickle.loads(pickle.dumps(reader))
    assert [len(data) for data in again.read([9, 2])] == expected[:2]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    reader._lock.acquire()  # as if another thread held it at the fork
    process = context.Process(target=child, args=(reader, np.array([9, 2]), queue))
    process.start()
    reader._lock.release()
    try:
        assert queue.get(timeout=60) == expected
    finally:
        process.join(timeout=10)
        if process.is_alive():
            process.kill()


def test_a_changed_byte_is_found_and_named(local):
    table, stored, _ = local
    path, at = table.shard_uris[1], int(table.offset[9]) + 20
    with Path(path).open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ 1]))
    reader = Reader(table)
    assert reader.read([8, 10]) == [stored[8], stored[10]]
    with pytest.raises(DataError, match="not what was indexed") as caught:
        reader.read([8, 9])
    assert (
        "gid 9" in caught.value.text
        and path in caught.value.text
        and f"{table.offset[9]:,}" in caught.value.text
    )


def test_cut_and_missing_shards_are_named(local):
    table, stored, _ = local
    os.truncate(table.shard_uris[2], int(table.offset[18]) + 5)
    Path(table.shard_uris[0]).unlink()
    reader = Reader(table)
    assert reader.read([17]) == [stored[17]]
    for gid, shard, message in (
        (18, 2, "not what was indexed"),
        (20, 2, "not what was indexed"),
        (0, 0, "cannot be read"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            reader.read([gid])
        assert table.shard_uris[shard] in caught.value.text


@pytest.mark.parametrize("gids", [[-1], [21], [0, 99]])
def test_gids_outside_of_the_index_are_refused(local, gids):
    with pytest.raises(DataError, match="no such image"):
        Reader(local[0]).read(gids)


def test_quarantined_images_are_not_decoded(local):
    table, stored, _ = local
    table.is_ok[3] = False
    assert Reader(table).read([3]) == [stored[3]]
    with pytest.raises(DataError, match="quarantine"):
        Reader(table).images([2, 3])


def test_a_picture_of_another_size_than_indexed_is_refused(local):
    table, _, _ = local
    table.width[5], table.height[5] = 12, 16  # as if the decoder now turned it
    with pytest.raises(DataError, match=r"16 x 12 px, 12 x 16 indexed"):
        Reader(table).images([5])
