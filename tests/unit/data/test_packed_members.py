"""Zip archives and Parquet files packed into shards: every image, byte for byte, whatever its name."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayscan.data.file_types import extension_of
from rayscan.data.packing import write_shards
from rayscan.data.reader import Reader
from rayscan.data.sources.tar import scan_tar
from rayscan.data.table import IMAGES, ImageTable
from rayscan.errors import DataError
from rayscan.recipes import by_name
from rayscan.stages import index
from tests.unit.data.conftest import encoded, picture, samples, write_files

RECIPE = by_name("digits")


def zipped(files, method):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return sink.getvalue()


def in_parquet(files, compression, paths=True):
    cells = [{"bytes": data, "path": name if paths else None} for name, data in files]
    sink = io.BytesIO()
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pq.write_table(
        pa.table({"image": pa.array(cells, kind)}), sink, compression=compression, row_group_size=3
    )
    return sink.getvalue()


WAYS = {
    "stored.zip": lambda files: zipped(files, zipfile.ZIP_STORED),
    "deflated.zip": lambda files: zipped(files, zipfile.ZIP_DEFLATED),
    "plain.parquet": lambda files: in_parquet(files, "NONE"),
    "snappy.parquet": lambda files: in_parquet(files, "SNAPPY"),
}


def packed(out):
    """Source -> (key, length, crc32) of all shards."""
    rows = [row for path in sorted(out.glob("*.tar")) for row in scan_tar(str(path), max_pixels=10**6).rows]
    assert all(row["status"] == "ok" for row in rows)
    return {row["source"]: (row["key"], row["length"], row["crc32"]) for row in rows}


@pytest.mark.parametrize("name", WAYS)
def test_the_images_in_the_shards_are_those_that_were_packed(tmp_path, context_for, name):
    write_files(tmp_path / "in", {name: WAYS[name](samples(0, 8))})
    summary = write_shards(str(tmp_path / "in"), str(tmp_path / "out"), shard_bytes=2000)
    assert summary.images == 8 and len(summary.shards) > 1
    assert [key for key, *_ in packed(tmp_path / "out").values()] == [f"{name}/img{n:03d}" for n in range(8)]
    context = context_for(f"{tmp_path}/out/*.tar", out="index")
    artifact = index.run(RECIPE, {}, index.plan(RECIPE, {}, context.sources), context)
    assert Reader(ImageTable.from_artifact(artifact)).read(range(8)) == [data for _, data in samples(0, 8)]
    assert [row["source"] for row in artifact.read_table(IMAGES).to_pylist()] == [
        f"{name}/{n}" for n, _ in samples(0, 8)
    ]


def test_a_further_file_goes_into_new_shards(tmp_path):
    write_files(tmp_path / "in", {"b.zip": zipped(samples(0, 3), zipfile.ZIP_STORED)})
    write_shards(str(tmp_path / "in"), str(tmp_path / "out"))
    before = (tmp_path / "out" / "shard-000000.tar").read_bytes()
    write_files(tmp_path / "in", {"a.zip": zipped(samples(3, 5), zipfile.ZIP_STORED)})
    assert write_shards(str(tmp_path / "in"), str(tmp_path / "out")).images == 5
    assert (tmp_path / "out" / "shard-000000.tar").read_bytes() == before
    assert set(packed(tmp_path / "out")) == {f"b.zip/img00{n}.png" for n in range(3)} | {
        "a.zip/img003.png",
        "a.zip/img004.png",
    }


def test_rows_without_names_get_them_from_their_numbers_and_bytes(tmp_path):
    files = [("", encoded(picture(n), kind)) for n, kind in enumerate(("JPEG", "PNG", "WEBP"))]
    write_files(tmp_path / "in", {"t.parquet": in_parquet(files, "NONE", paths=False)})
    write_shards(str(tmp_path / "in"), str(tmp_path / "out"))
    with (tmp_path / "out" / "shard-000000.tar").open("rb") as stream:
        whole = stream.read()
    assert set(packed(tmp_path / "out")) == {"t.parquet/0", "t.parquet/1", "t.parquet/2"}
    assert all(name in whole for name in (b"t.parquet/0.jpg", b"t.parquet/1.png", b"t.parquet/2.webp"))


def test_files_that_change_while_they_are_packed_are_refused(tmp_path):
    write_files(tmp_path / "in", {"a.zip": zipped(samples(0, 3), zipfile.ZIP_STORED)})

    def shorten(fn, items):
        done = [fn(item) for item in items]
        if fn.__name__ == "stored_in":
            (tmp_path / "in" / "a.zip").write_bytes(b"PK")
        return done

    with pytest.raises(DataError, match=r"changed since it was found[\s\S]*img000\.png in .*a\.zip"):
        write_shards(str(tmp_path / "in"), str(tmp_path / "out"), apply=shorten)


@pytest.mark.parametrize(
    ("kind", "extension"),
    [
        ("JPEG", "jpg"),
        ("PNG", "png"),
        ("GIF", "gif"),
        ("BMP", "bmp"),
        ("TIFF", "tif"),
        ("WEBP", "webp"),
        ("AVIF", "avif"),
        ("JPEG2000", "jp2"),
    ],
)
def test_pictures_are_told_by_their_first_bytes(kind, extension):
    data = encoded(np.zeros((8, 8, 3), np.uint8), kind)
    assert extension_of(data) == extension_of(data[:12]) == extension


def test_what_is_no_picture_is_left_for_the_index_to_name():
    assert extension_of(b"") == extension_of(b"text") == "jpg"
