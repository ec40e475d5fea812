"""Images in Parquet files: found, kept as they are, read by range or by row group, never lost silently."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayscan.data.doctor import describe, examine, tasks
from rayscan.data.listing import list_sources
from rayscan.data.reader import Reader
from rayscan.data.sources.parquet import ParquetImages
from rayscan.data.sources.parquet_scan import ROW_ADDRESS, Places
from rayscan.data.table import IMAGES, ImageTable
from rayscan.data.verification import compare
from rayscan.errors import ConfigError, DataError
from rayscan.recipes import by_name
from rayscan.stages import index
from rayscan.storage import Place, locate
from tests.unit.data.conftest import encoded, make_tar, picture, samples, write_files

RECIPE = by_name("digits")
HF = pa.struct({"bytes": pa.binary(), "path": pa.string()})
WAYS = {
    "as pyarrow writes by default": {},
    "uncompressed": {"compression": "NONE"},
    "uncompressed, no dictionary": {"compression": "NONE", "use_dictionary": False},
    "zstd": {"compression": "ZSTD", "use_dictionary": False},
    "lengths first": {
        "compression": "NONE",
        "use_dictionary": False,
        "column_encoding": "DELTA_LENGTH_BYTE_ARRAY",
    },
    "prefixes cut": {"compression": "NONE", "use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"},
    "new pages": {"compression": "NONE", "data_page_version": "2.0", "write_page_checksum": True},
}
"""Ways of writing a Parquet file."""


def table(first, stop, paths=True):
    """Images first..stop as Hugging Face has them, between other columns."""
    cells = [{"bytes": data, "path": name if paths else None} for name, data in samples(first, stop)]
    return pa.table(
        {
            "caption": [f"n {n}" for n in range(first, stop)],
            "image": pa.array(cells, HF),
            "label": range(first, stop),
        }
    )


def write(path, rows, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    if "column_encoding" in options:
        options["column_encoding"] = {"image.bytes": options["column_encoding"]}
    pq.write_table(rows, path, **{"row_group_size": 3, **options})


def indexed(context, **given):
    context = dataclasses.replace(context, sources=dataclasses.replace(context.sources, **given))
    return index.run(RECIPE, {}, index.plan(RECIPE, {}, context.sources), context)


def rows_of(artifact):
    return artifact.read_table(IMAGES).to_pylist()


def here(fn, items):
    return [fn(item) for item in items]


@pytest.mark.parametrize("way", WAYS)
def test_the_images_are_those_of_a_tar_in_any_order(tmp_path, context_for, way):
    write(tmp_path / "p" / "train-0.parquet", table(0, 8), **WAYS[way])
    write(tmp_path / "p" / "train-1.parquet", table(8, 11), **WAYS[way])
    write_files(tmp_path / "t", {"0.tar": make_tar(samples(0, 8)), "1.tar": make_tar(samples(8, 11))})
    mine, theirs = (
        indexed(context_for(str(tmp_path / "p"), out="p-out")),
        indexed(context_for(str(tmp_path / "t"), out="t-out")),
    )
    for one, other in zip(rows_of(mine), rows_of(theirs), strict=True):
        assert one["key"] == other["key"] + ".png"
        same = ("gid", "split", "shard", "length", "crc32", "width", "height", "status")
        assert [one[name] for name in same] == [other[name] for name in same]
    gids = np.random.default_rng(0).integers(0, 11, 40)
    first, second = (Reader(ImageTable.from_artifact(a)) for a in (mine, theirs))
    assert first.read(gids) == second.read(gids) == [samples(n, n + 1)[0][1] for n in gids.tolist()]
    for one, other in zip(first.images(gids), second.images(gids), strict=True):
        np.testing.assert_array_equal(one, other)
    assert compare(mine, here) == []


def test_images_that_are_not_compressed_are_read_by_their_range(tmp_path, context_for):
    write(tmp_path / "a.parquet", table(0, 8), compression="NONE")
    whole = (tmp_path / "a.parquet").read_bytes()
    for n, row in enumerate(rows_of(indexed(context_for(str(tmp_path / "a.parquet"))))):
        assert whole[row["offset"] : row["offset"] + row["length"]] == samples(n, n + 1)[0][1]
        assert row["source"] == f"{tmp_path}/a.parquet#{n}" and row["key"] == f"img{n:03d}.png"


def test_equal_images_of_a_dictionary_are_found_once_and_read_twice(tmp_path, context_for):
    cells = [{"bytes": samples(n, n + 1)[0][1], "path": f"{k}"} for k, n in enumerate([4, 4, 2, 4])]
    write(
        tmp_path / "a.parquet", pa.table({"image": pa.array(cells, HF)}), compression="NONE", row_group_size=9
    )
    artifact = indexed(context_for(str(tmp_path / "a.parquet")))
    offsets = [row["offset"] for row in rows_of(artifact)]
    assert offsets[0] == offsets[1] == offsets[3] != offsets[2] < ROW_ADDRESS
    assert Reader(ImageTable.from_artifact(artifact)).read([3, 2]) == [
        samples(n, n + 1)[0][1] for n in (4, 2)
    ]
    assert compare(artifact, here) == []


def test_what_is_in_no_one_piece_has_a_row_address():
    places = Places(b"..abc..defg..")
    assert [places.find(value) for value in (b"abc", b"defg", b"abc", b"xyz", b"defg", b"..")] == [
        2,
        7,
        2,
        None,
        7,
        None,
    ]


def test_keys_are_rows_where_paths_do_not_tell_the_images_apart(tmp_path, context_for):
    cells = [{"bytes": data, "path": "image.png"} for _, data in samples(0, 3)]
    write(tmp_path / "d" / "a.parquet", pa.table({"image": pa.array(cells, HF), "id": [7, 8, 9]}))
    write(tmp_path / "d" / "b.parquet", table(3, 5, paths=False))
    rows = rows_of(indexed(context_for(str(tmp_path / "d"))))
    assert [row["key"] for row in rows] == [
        "a.parquet#0",
        "a.parquet#1",
        "a.parquet#2",
        "b.parquet#0",
        "b.parquet#1",
    ]
    assert [row["id"] for row in rows] == ["7", "8", "9", None, None]


def test_the_column_is_found_or_asked_for(tmp_path, context_for):
    data = [data for _, data in samples(0, 3)]
    write(tmp_path / "one.parquet", pa.table({"scan": data, "n": [1, 2, 3]}))
    write(tmp_path / "usual.parquet", pa.table({"mask": [b"?"] * 3, "jpg": data}))
    write(tmp_path / "several.parquet", pa.table({"left": data, "right": data[::-1]}))
    for name in ("one", "usual"):
        artifact = indexed(context_for(str(tmp_path / f"{name}.parquet"), out=name))
        assert Reader(ImageTable.from_artifact(artifact)).read(range(3)) == data
    with pytest.raises(DataError, match=r"left, right[\s\S]*--image-column"):
        list_sources(str(tmp_path / "several.parquet"))
    right = indexed(context_for(str(tmp_path / "several.parquet"), out="right"), image_column="right")
    assert Reader(ImageTable.from_artifact(right)).read(range(3)) == data[::-1]
    with pytest.raises(DataError, match="no such image column"):
        list_sources(str(tmp_path / "one.parquet"), image_column="n")
    write_files(tmp_path / "photos", {"a.png": data[0]})
    with pytest.raises(ConfigError, match="no columns to choose from"):
        list_sources(str(tmp_path / "photos"), image_column="n")


def test_a_list_stays_a_list(tmp_path):
    write_files(tmp_path, {"a.png": encoded(picture(1))})
    write(tmp_path / "list.parquet", pa.table({"path": ["a.png"], "thumbnail": [b"?"]}))
    assert [entry.key for entry in list_sources(str(tmp_path / "list.parquet")).entries] == ["a.png"]
    assert isinstance(
        list_sources(str(tmp_path / "list.parquet"), image_column="thumbnail").format, ParquetImages
    )


def test_tables_beside_images_are_no_images(tmp_path):
    write_files(tmp_path / "s", {"0.tar": make_tar(samples(0, 3))})
    write(tmp_path / "s" / "0.parquet", pa.table({"key": ["x"], "url": ["y"]}))
    write(tmp_path / "h" / "train.parquet", table(0, 3))
    write(tmp_path / "h" / "labels.parquet", pa.table({"key": ["x"], "label": [1]}))
    assert [entry.key for entry in list_sources(str(tmp_path / "s")).entries] == ["0.tar"]
    assert [entry.key for entry in list_sources(str(tmp_path / "h")).entries] == ["train.parquet"]
    with pytest.raises(DataError, match="mixed"):
        list_sources(f"{tmp_path}/s/0.tar,{tmp_path}/h/train.parquet")


def test_rows_without_an_image_go_into_quarantine(tmp_path):
    cells = [
        {"bytes": samples(0, 1)[0][1], "path": "a"},
        None,
        {"bytes": None, "path": "c"},
        {"bytes": b"", "path": "d"},
    ]
    write(
        tmp_path / "a.parquet",
        pa.table({"image": pa.array([*cells, {"bytes": b"no image", "path": "e"}], HF)}),
    )
    listing = list_sources(str(tmp_path / "a.parquet"))
    scan = listing.format.scan(listing.entries[0], max_pixels=10**6)
    assert [row["status"] for row in scan.rows] == ["ok", "missing", "missing", "empty", "format"]
    assert [row["length"] for row in scan.rows] == [len(samples(0, 1)[0][1]), 0, 0, 0, 8]


@pytest.mark.parametrize("compression", ["NONE", "SNAPPY"])
def test_every_changed_byte_of_an_image_is_found(tmp_path, context_for, compression):
    path = tmp_path / "a.parquet"
    write(path, table(0, 7), compression=compression)
    artifact = indexed(context_for(str(path)))
    changed = table(0, 7).to_pylist()
    changed[4]["image"]["bytes"] = samples(4, 5)[0][1][:-1] + b"?"
    write(path, pa.Table.from_pylist(changed, table(0, 7).schema), compression=compression)
    assert {finding.key for finding in compare(artifact, here)} == {"img004.png"}
    reader = Reader(ImageTable.from_artifact(artifact))
    assert reader.read([3, 6]) == [samples(n, n + 1)[0][1] for n in (3, 6)]
    with pytest.raises(DataError, match="not what was indexed"):
        reader.read([3, 4])


def test_files_that_are_cut_are_named(tmp_path):
    write(tmp_path / "a.parquet", table(0, 3))
    write(tmp_path / "b.parquet", table(3, 9))
    whole = (tmp_path / "b.parquet").read_bytes()
    for wrong in (whole[:-20], whole[:200], whole[:100] + whole[300:], b""):
        (tmp_path / "b.parquet").write_bytes(wrong)
        listing = list_sources(str(tmp_path))
        lines, is_whole = describe(listing, [examine(task) for task in tasks(listing, 10**6)])
        assert not is_whole and any("b.parquet" in line for line in lines) and "1 damaged" in lines[-1]


def test_remote_files_are_indexed_and_read(s3_uri, context_for):
    folder = Place(s3_uri).child("hf")
    for number, compression in enumerate(("NONE", "SNAPPY")):
        filesystem, path = locate(folder.uri_of(f"train-{number}.parquet"))
        with filesystem.open_output_stream(path) as stream:
            pq.write_table(
                table(5 * number, 5 * number + 5), stream, row_group_size=2, compression=compression
            )
    artifact = indexed(context_for(folder.uri_of("*.parquet")))
    gids = [9, 1, 4, 6, 1]
    assert Reader(ImageTable.from_artifact(artifact)).read(gids) == [samples(n, n + 1)[0][1] for n in gids]
