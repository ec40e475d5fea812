"""Zip archives: the images are those of a folder, however they were packed; what cannot be read is named."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest

from rayscan.data.doctor import describe, examine, tasks
from rayscan.data.listing import list_sources
from rayscan.data.reader import Reader
from rayscan.data.sources.zip import DEFLATED
from rayscan.data.table import IMAGES, ImageTable
from rayscan.data.verification import compare
from rayscan.errors import DataError
from rayscan.recipes import by_name
from rayscan.stages import index
from rayscan.storage import Place, locate
from tests.unit.data.conftest import encoded, picture, samples, write_files

RECIPE = by_name("digits")
STORED, INFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


class Unseekable(io.RawIOBase):
    """A pipe: sizes then stand behind each member, not before it."""

    def __init__(self):
        self.data = b""

    def writable(self):
        return True

    def write(self, data):
        self.data += bytes(data)
        return len(data)


def packed(files, method=STORED, sink=None, zip64=False):
    """Files by name as an archive of the standard library."""
    sink = io.BytesIO() if sink is None else sink
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, data in files:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            with archive.open(info, "w", force_zip64=zip64) as member:
                member.write(data)
    return sink.data if isinstance(sink, Unseekable) else sink.getvalue()


WAYS = {
    "stored": lambda files: packed(files),
    "deflated": lambda files: packed(files, INFLATED),
    "zip64": lambda files: packed(files, INFLATED, zip64=True),
    "zip64, stored": lambda files: packed(files, zip64=True),
    "from a pipe": lambda files: packed(files, INFLATED, Unseekable()),
    "behind a program": lambda files: b"#!/bin/sh\nexit\n" + packed(files),
}


def flat(first, stop):
    """Pictures that deflate well, and such that do not."""
    return [(f"d{n % 2}/{n}.bmp", encoded(picture(n), "BMP")) for n in range(first, stop)] + samples(
        first, stop
    )


def indexed(context):
    return index.run(RECIPE, {}, index.plan(RECIPE, {}, context.sources), context)


def rows_of(artifact):
    return artifact.read_table(IMAGES).to_pylist()


def here(fn, items):
    return [fn(item) for item in items]


def examined(uri):
    listing = list_sources(str(uri))
    return describe(listing, [examine(task) for task in tasks(listing, 10**6)])


@pytest.mark.parametrize("way", WAYS)
def test_the_images_are_those_of_a_folder_in_any_order(tmp_path, context_for, way):
    files = dict(sorted(flat(0, 5)))
    write_files(tmp_path / "folder", files)
    write_files(tmp_path, {"a.zip": WAYS[way](files.items())})
    mine = indexed(context_for(str(tmp_path / "a.zip"), out="z-out"))
    theirs = indexed(context_for(str(tmp_path / "folder"), out="f-out"))
    assert mine.identity == theirs.identity
    assert [row["key"] for row in rows_of(mine)] == list(files)
    gids = np.random.default_rng(0).integers(0, 10, 40)
    first, second = (Reader(ImageTable.from_artifact(a)) for a in (mine, theirs))
    assert first.read(gids) == second.read(gids) == [list(files.values())[n] for n in gids.tolist()]
    for one, other in zip(first.images(gids), second.images(gids), strict=True):
        np.testing.assert_array_equal(one, other)
    assert compare(mine, here) == []


def test_stored_members_are_ranges_and_deflated_ones_read_no_more_than_a_unit_too_much(tmp_path, context_for):
    files = flat(0, 3)
    write_files(tmp_path, {"a.zip": packed(files), "b.zip": packed(files, INFLATED)})
    whole = (tmp_path / "a.zip").read_bytes()
    for row in rows_of(indexed(context_for(str(tmp_path / "a.zip"), out="a"))):
        assert whole[row["offset"] : row["offset"] + row["length"]] == dict(files)[row["key"]]
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        sizes = {info.filename: info.compress_size for info in archive.infolist()}
    for row in rows_of(indexed(context_for(str(tmp_path / "b.zip"), out="b"))):
        units = (row["offset"] - DEFLATED) >> 40
        assert 0 <= units * 1024 - sizes[row["key"]] < 1024


def test_both_kinds_in_one_archive(tmp_path, context_for):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for number, (name, data) in enumerate(flat(0, 4)):
            archive.writestr(name, data, (STORED, INFLATED)[number % 2])
    write_files(tmp_path, {"a.zip": sink.getvalue()})
    artifact = indexed(context_for(str(tmp_path / "a.zip")))
    assert Reader(ImageTable.from_artifact(artifact)).read(range(8)) == [data for _, data in flat(0, 4)]
    assert compare(artifact, here) == []


def test_what_an_operating_system_added_is_passed_over_and_counted(tmp_path):
    extra = [("__MACOSX/d0/._0.png", b"x"), ("d0/.hidden.png", b"x"), ("readme.txt", b"x"), ("d0/", b"")]
    write_files(tmp_path, {"a.zip": packed([*samples(0, 2), *extra])})
    lines, is_whole = examined(tmp_path / "a.zip")
    assert is_whole and "images: 2, 2 of them usable" in lines
    assert "left out of the shards, hidden or in folders of the system: 2" in lines
    assert "left out of the shards, of other kinds: 1 .txt" in lines


def test_encrypted_and_unknown_compression_are_refused_by_name(tmp_path):
    whole = bytearray(packed(samples(0, 2)))
    for at in (whole.find(b"PK\x03\x04") + 6, whole.find(b"PK\x01\x02") + 8):
        whole[at] |= 1  # APPNOTE 4.4.4: bit 0 of the flags
    write_files(tmp_path, {"locked.zip": bytes(whole), "bz.zip": packed(samples(0, 2), zipfile.ZIP_BZIP2)})
    for name, why in (
        ("locked", "img000.png' is encrypted"),
        ("bz", "2 of 2; 'img000.png' is compressed by bzip2"),
    ):
        lines, is_whole = examined(tmp_path / f"{name}.zip")
        assert not is_whole and any(why in line and f"{name}.zip" in line for line in lines)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice_is_refused(tmp_path):
    write_files(tmp_path, {"a.zip": packed([*samples(0, 2), *samples(1, 2)])})
    lines, _ = examined(tmp_path / "a.zip")
    assert any("two files of the same name" in line and "img001.png" in line for line in lines)


@pytest.mark.parametrize("method", [STORED, INFLATED])
def test_a_changed_byte_of_an_image_is_found_when_indexed_and_later(tmp_path, context_for, method):
    path, files = tmp_path / "a.zip", samples(0, 40)
    write_files(tmp_path, {"a.zip": packed(files, method)})
    artifact = indexed(context_for(str(path)))
    whole = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("img003.png")
    whole[info.header_offset + 30 + len("img003.png") + info.compress_size // 2] ^= 1
    path.write_bytes(whole)
    listing = list_sources(str(path))
    statuses = {
        row["key"]: row["status"] for row in listing.format.scan(listing.entries[0], max_pixels=10**6).rows
    }
    assert {key for key, status in statuses.items() if status != "ok"} == {"img003.png"}
    assert statuses["img003.png"] == "checksum"
    assert {finding.key for finding in compare(artifact, here)} == {"img003.png"}
    reader = Reader(ImageTable.from_artifact(artifact))
    assert reader.read([2, 39]) == [files[2][1], files[39][1]]
    with pytest.raises(DataError, match="not what was indexed"):
        reader.read([3])


def test_archives_that_are_cut_or_lie_are_named(tmp_path):
    whole = packed(samples(0, 4))
    second = struct.pack("<I", whole.find(b"PK\x03\x04", 1))
    wrong = {
        "cut": whole[:-40],
        "behind": whole[: len(whole) // 2],
        "empty": b"",
        "moved": whole.replace(second, struct.pack("<I", 5)),
        "twice": whole.replace(second, struct.pack("<I", 0)),
    }
    for name, data in wrong.items():
        (tmp_path / "a.zip").write_bytes(data)
        lines, is_whole = examined(tmp_path / "a.zip")
        assert not is_whole, name
        assert any("a.zip" in line and "damaged" in line for line in lines), name


def test_archives_beside_pictures_are_not_those_pictures(tmp_path):
    write_files(tmp_path, {"a.png": encoded(picture(1)), "backup.zip": packed(samples(0, 2))})
    assert [entry.key for entry in list_sources(str(tmp_path)).entries] == ["a.png"]
    assert [entry.key for entry in list_sources(f"{tmp_path}/*.zip").entries] == ["backup.zip"]
    with pytest.raises(DataError, match="mixed"):
        list_sources(f"{tmp_path}/a.png,{tmp_path}/backup.zip")


def test_remote_archives_are_indexed_and_read(s3_uri, context_for):
    folder = Place(s3_uri).child("zips")
    for number, method in enumerate((STORED, INFLATED)):
        filesystem, path = locate(folder.uri_of(f"{number}.zip"))
        with filesystem.open_output_stream(path) as stream:
            stream.write(packed(samples(5 * number, 5 * number + 5), method))
    artifact = indexed(context_for(folder.uri_of("*.zip")))
    gids = [9, 1, 4, 6, 1]
    assert Reader(ImageTable.from_artifact(artifact)).read(gids) == [samples(n, n + 1)[0][1] for n in gids]
