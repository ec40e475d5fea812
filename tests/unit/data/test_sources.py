"""The seam of source formats: one more, not readable by range, goes through all that reads images."""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from rayscan.data import sources
from rayscan.data.doctor import describe, examine, tasks
from rayscan.data.inspection import inspected
from rayscan.data.listing import list_sources
from rayscan.data.packing import write_shards
from rayscan.data.reader import Reader
from rayscan.data.sources.base import Format, Images, Scan
from rayscan.data.table import ImageTable
from rayscan.data.tones import PLAIN
from rayscan.data.verification import compare
from rayscan.errors import DataError
from rayscan.recipes import by_name
from rayscan.stages import index
from rayscan.storage import Place, locate, open_file
from tests.unit.data.conftest import encoded, make_tar, picture, samples, write_files

RECIPE = by_name("digits")


def bundle(members: list[tuple[str, bytes]]) -> bytes:
    """All images as one compressed block behind a line with their names and sizes."""
    head = json.dumps([[name, len(data)] for name, data in members]).encode() + b"\n"
    return head + bz2.compress(b"".join(data for _, data in members))


class Bundle(Format):
    """A file of many images; `offset` is the position of an image in the block, once that is decompressed."""

    name = "bundles"
    suffixes = (".bundle",)
    has_many = True

    def scan(self, entry, *, max_pixels, how=PLAIN):
        with open_file(entry.uri) as stream:
            whole = stream.read()
        head, _, packed = whole.partition(b"\n")
        try:
            block = bz2.decompress(packed)
        except (OSError, ValueError) as error:
            raise DataError("a bundle is damaged", got=error, where=entry.uri) from error
        rows, at = [], 0
        for name, size in json.loads(head):
            data = block[at : at + size]
            seen = inspected(data, max_pixels=max_pixels, how=how)
            row = {"key": name.partition(".")[0], "source": f"{entry.uri}#{name}", "offset": at}
            rows.append({**row, "length": size, "crc32": zlib.crc32(data), **seen})
            at += size
        return Scan(entry.uri, len(whole), hashlib.sha256(whole).hexdigest(), rows, {"other": 0})

    def read(self, files, rows):
        images = Images([b""] * len(rows.shard), np.zeros(len(rows.shard), np.int64))
        for shard in np.unique(rows.shard).tolist():
            stream, opening = files.open(shard)
            with stream:
                stream.readline()
                block = bz2.decompress(stream.read())
            for row in np.flatnonzero(rows.shard == shard).tolist():
                images.data[row] = block[rows.offset[row] : rows.offset[row] + rows.length[row]]
                images.openings[row] = opening
        return images


@pytest.fixture(autouse=True)
def table(monkeypatch):
    monkeypatch.setattr(sources, "FORMATS", (Bundle(), *sources.FORMATS))


@pytest.fixture
def both(tmp_path):
    """The same images as bundles and as tars."""
    parts = [samples(0, 5), samples(5, 9)]
    write_files(tmp_path / "b", {f"{n}.bundle": bundle(part) for n, part in enumerate(parts)})
    write_files(tmp_path / "t", {f"{n}.tar": make_tar(part) for n, part in enumerate(parts)})
    return tmp_path


def indexed(context):
    return index.run(RECIPE, {}, index.plan(RECIPE, {}, context.sources), context)


def here(fn, items):
    return [fn(item) for item in items]


def test_the_index_and_the_images_are_those_of_tars(both, context_for):
    mine = indexed(context_for(str(both / "b"), out="b-out"))
    theirs = indexed(context_for(str(both / "t"), out="t-out"))
    assert mine.identity == theirs.identity
    gids = np.random.default_rng(0).integers(0, 9, 30)
    first, second = (Reader(ImageTable.from_artifact(a)) for a in (mine, theirs))
    assert first.read(gids) == second.read(gids) == [samples(n, n + 1)[0][1] for n in gids.tolist()]
    for one, other in zip(first.images(gids), second.images(gids), strict=True):
        np.testing.assert_array_equal(one, other)


def test_splits_of_two_formats_are_read_together(both, context_for):
    artifact = indexed(context_for(str(both / "b"), str(both / "t" / "1.tar")))
    gids = np.array([11, 0, 9, 4, 12, 9])
    numbers = [7, 0, 5, 4, 8, 5]  # eval rows 9..12 are images 5..8
    assert Reader(ImageTable.from_artifact(artifact)).read(gids) == [samples(n, n + 1)[0][1] for n in numbers]


def test_formats_are_not_mixed_within_a_split(both):
    with pytest.raises(DataError, match="2 bundles and 2 shards"):
        list_sources(f"{both}/b,{both}/t")


def test_what_changed_is_found_by_the_reader_and_by_doctor(both, context_for):
    artifact = indexed(context_for(str(both / "b")))
    assert compare(artifact, here) == []
    changed = samples(0, 5)
    changed[3] = (changed[3][0], encoded(picture(99)).ljust(len(changed[3][1]), b"\0")[: len(changed[3][1])])
    (both / "b" / "0.bundle").write_bytes(bundle(changed))
    assert {finding.key for finding in compare(artifact, here)} - {""} == {"img003"}
    reader = Reader(ImageTable.from_artifact(artifact))
    assert reader.read([2]) == [samples(2, 3)[0][1]]
    with pytest.raises(DataError, match="not what was indexed"):
        reader.read([2, 3])


def test_doctor_goes_on_past_a_damaged_one_and_names_it(both):
    (both / "b" / "1.bundle").write_bytes(b"[]\nnothing")
    listing = list_sources(str(both / "b"))
    lines, is_whole = describe(listing, [examine(task) for task in tasks(listing, 10**6)])
    assert not is_whole and "1 damaged" in lines[-1] and any("1.bundle" in line for line in lines)
    with pytest.raises(DataError, match="shards already"):
        write_shards(listing, str(both / "out"))


def test_files_that_are_opened_can_be_remote(s3_uri, context_for):
    folder = Place(s3_uri).child("bundles")
    filesystem, path = locate(folder.uri_of("0.bundle"))
    with filesystem.open_output_stream(path) as stream:
        stream.write(bundle(samples(0, 4)))
    artifact = indexed(context_for(folder.uri_of("*.bundle")))
    assert Reader(ImageTable.from_artifact(artifact)).read([3, 1]) == [
        samples(n, n + 1)[0][1] for n in (3, 1)
    ]


def test_an_opened_file_is_a_stream_like_any_other(tmp_path, context_for):
    write_files(tmp_path, {"0.bundle": bundle(samples(0, 3))})
    whole = (tmp_path / "0.bundle").read_bytes()
    files = Reader(ImageTable.from_artifact(indexed(context_for(str(tmp_path / "0.bundle")))))._files
    stream, opening = files.open(0)
    with stream, (tmp_path / "0.bundle").open("rb") as reference:
        rng = np.random.default_rng(0)
        for at, length in rng.integers(0, len(whole) + 20, (40, 2)).tolist():
            assert stream.seek(at) == reference.seek(at)
            assert stream.read(length) == reference.read(length)
        assert stream.seek(-7, io.SEEK_END) == reference.seek(-7, io.SEEK_END)
        assert stream.read() == reference.read()
    assert opening > 0


def test_no_module_but_the_table_knows_a_format_by_name():
    """No branch on a kind of source: outside of `sources` nothing compares the name of a format."""
    root = Path(sources.__file__).parents[2]
    words = [f'"{known.name}"' for known in sources.FORMATS]
    wrong = [
        f"{path.relative_to(root)}:{number}: {line.strip()}"
        for path in root.rglob("*.py")
        if path.parent != Path(sources.__file__).parent
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if any(f"{sign} {word}" in line for word in words for sign in ("==", "!=", "in"))
    ]
    assert wrong == []
