"""Metadata of images: kept beside the index by gid, wherever it came from; the index stays as it was."""

from __future__ import annotations

import io
import json
import zlib
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayscan.data.listing import list_sources
from rayscan.data.metadata import metadata_of
from rayscan.data.metadata_columns import flat, of_records, together
from rayscan.errors import DataError
from rayscan.recipes import by_name
from rayscan.stages import index
from tests.unit.data.conftest import encoded, make_tar, picture, samples, write_files

RECIPE = by_name("digits")


def indexed(context):
    return index.run(RECIPE, {}, index.plan(RECIPE, {}, context.sources), context)


def told(artifact):
    return metadata_of(artifact).to_pylist()


def parquet(**columns):
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


@pytest.fixture
def photos(tmp_path):
    write_files(
        tmp_path / "in",
        {name: encoded(picture(n)) for n, name in enumerate(("a/0.png", "a/1.png", "b/0.png"))},
    )
    return tmp_path / "in"


FILES = {
    "metadata.csv": b"file_name,place,year,label\na/1.png,Rome,1999,x\nb/0.png,,2001,y\n"
    b"not/there.png,Oslo,3,z\n",
    "metadata.jsonl": b'{"file_name": "a/1.png", "place": "Rome", "year": 1999, "objects": [1]}\n'
    b'{"file_name": "./b/0.png", "year": 2001}\n',
    "metadata.parquet": parquet(
        file_name=["a/1.png", "b/0.png"],
        place=["Rome", None],
        year=[1999, 2001],
        image=[b"x", b"y"],
        label=[0, 1],
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_what_a_folder_says_of_its_pictures_is_kept_by_gid(photos, context_for, name):
    before = indexed(context_for(str(photos), out="before"))
    assert metadata_of(before) is None
    write_files(photos, {name: FILES[name]})
    artifact = indexed(context_for(str(photos), out="after"))
    missing = "" if name.endswith("csv") else None
    assert told(artifact) == [
        {"gid": 1, "place": "Rome", "year": 1999},
        {"gid": 2, "place": missing, "year": 2001},
    ]
    assert artifact.identity == before.identity and artifact.read("images.parquet") == before.read(
        "images.parquet"
    )


def test_files_below_speak_of_their_own_folder_and_types_that_differ_become_text(photos, context_for):
    write_files(
        photos, {"a/metadata.csv": b"file_name,n\n0.png,1\n", "b/metadata.csv": b"file_name,n\n0.png,one\n"}
    )
    assert told(indexed(context_for(str(photos)))) == [{"gid": 0, "n": "1"}, {"gid": 2, "n": "one"}]


def test_rows_that_name_no_picture_are_counted_and_some_named(photos, context_for):
    rows = "".join(f"gone{n}.png,{n}\n" for n in range(4))
    write_files(photos, {"metadata.csv": f"file_name,n\na/1.png,7\n{rows}".encode()})
    context = context_for(str(photos))
    assert [row["n"] for row in told(indexed(context))] == [7]
    said = context.progress.stream.getvalue()
    assert "4 rows of metadata name no picture that is here: gone0.png, gone1.png, gone2.png\n" in said
    write_files(photos, {"metadata.csv": b"file_name,n\na/1.png,7\n"})
    whole = context_for(str(photos), out="whole")
    assert told(indexed(whole)) and "name no picture" not in whole.progress.stream.getvalue()


def test_a_change_of_metadata_is_another_index_with_the_same_images(photos, context_for):
    steps = []
    for year in (b"1", b"2"):
        write_files(photos, {"metadata.csv": b"file_name,year\na/1.png," + year + b"\n"})
        context = context_for(str(photos))
        steps.append(index.plan(RECIPE, {}, context.sources))
    assert steps[0].directory != steps[1].directory


def test_two_rows_about_one_picture_are_refused(photos):
    write_files(
        photos, {"metadata.csv": b"file_name,n\na/0.png,1\n", "a/metadata.csv": b"file_name,n\n0.png,2\n"}
    )
    with pytest.raises(DataError, match=r"twice[\s\S]*a/0\.png"):
        list_sources(str(photos))


def test_files_of_this_name_about_something_else_are_passed_over(photos):
    write_files(photos, {"metadata.csv": b"title,rows\nx,1\n"})
    assert list_sources(str(photos)).metadata is None
    write_files(photos, {"metadata.csv": b"a,b\n1\n"})
    with pytest.raises(DataError, match=r"cannot be read[\s\S]*metadata\.csv"):
        list_sources(str(photos))


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_further_columns_of_a_list_are_kept(photos, context_for, form):
    text = b"path,id,camera,label\nb/0.png,x,Leica,1\na/0.png,y,,2\n"
    table = parquet(path=["b/0.png", "a/0.png"], id=["x", "y"], camera=["Leica", ""], label=[1, 2])
    write_files(photos, {f"list.{form}": text if form == "csv" else table})
    artifact = indexed(context_for(str(photos / f"list.{form}")))
    assert told(artifact) == [{"gid": 0, "camera": ""}, {"gid": 1, "camera": "Leica"}]


def test_a_list_of_nothing_but_addresses_has_none(photos):
    write_files(photos, {"list.csv": b"path,label\nb/0.png,1\n", "list.txt": b"a/0.png\n"})
    for name in ("list.csv", "list.txt"):
        assert list_sources(str(photos / name)).metadata is None


def test_further_columns_of_parquet_images_are_kept_for_both_splits(tmp_path, context_for):
    for name, first in (("train", 0), ("eval", 3)):
        data = [data for _, data in samples(first, first + 2)]
        rows = {
            "image": data,
            "caption": [f"{name} {n}" for n in range(2)],
            "label": [0, 1],
            "box": [[1], [2]],
        }
        write_files(tmp_path, {f"{name}.parquet": parquet(**rows)})
    artifact = indexed(context_for(str(tmp_path / "train.parquet"), str(tmp_path / "eval.parquet")))
    captions = ["train 0", "train 1", "eval 0", "eval 1"]
    assert told(artifact) == [{"gid": gid, "caption": caption} for gid, caption in enumerate(captions)]


def test_notes_beside_the_images_of_shards_are_kept(tmp_path, context_for):
    note = {
        "caption": "a dog",
        "width": 3,
        "exif": {"a": 1},
        "label": 7,
        "source": "d.jpg",
        "crc32": None,
        "url": None,
    }
    members = [
        *samples(0, 1),
        ("img000.json", json.dumps(note).encode()),
        ("img000.txt", b"a dog\n"),
        *samples(1, 2),
        ("lost.txt", b"no image"),
        *samples(2, 3),
        ("img002.json", b'{"width": 4.5}'),
        ("img002.cls", b"1"),
    ]
    write_files(tmp_path, {"0.tar": make_tar(members), "1.tar": make_tar(samples(3, 4))})
    assert told(indexed(context_for(str(tmp_path)))) == [
        {"gid": 0, "caption": "a dog", "width": 3.0, "source": "d.jpg", "txt": "a dog"},
        {"gid": 1, "caption": None, "width": None, "source": None, "txt": None},
        {"gid": 2, "caption": None, "width": 4.5, "source": None, "txt": None},
    ]


@pytest.mark.parametrize("note", [{"source": "x.png", "crc32": None}, {"label": 3}, [1], "x"])
def test_notes_of_ours_and_labels_are_no_metadata(tmp_path, context_for, note):
    if isinstance(note, dict) and "crc32" in note:
        note["crc32"] = zlib.crc32(samples(0, 1)[0][1])
    beside = ("img000.json", json.dumps(note).encode())
    write_files(tmp_path, {"0.tar": make_tar([*samples(0, 1), beside])})
    assert metadata_of(indexed(context_for(str(tmp_path)))) is None


def test_columns_of_several_kinds_become_text():
    records = [{"a": 1, "b": True, "c": 2**70}, {"a": "x", "b": False, "d": None}]
    assert of_records(records).to_pydict() == {
        "a": ["1", "x"],
        "b": [True, False],
        "c": [str(2**70), None],
    }
    parts = [pa.table({"a": [1], "b": [1]}), pa.table({"a": [1.5]}), pa.table({"b": ["x"]})]
    assert together(parts).to_pydict() == {"a": ["1", "1.5", None], "b": ["1", None, "x"]}
    assert together(parts[:2]).to_pydict() == {"a": [1.0, 1.5], "b": [1, None]}


def test_labels_bytes_and_lists_are_left_out():
    table = pa.table(
        {
            "Label": [1],
            "class": ["x"],
            "raw": [b"x"],
            "many": [[1]],
            "kept": ["y"],
            "when": pa.array([0], pa.date32()),
        }
    )
    assert flat(table).column_names == ["kept", "when"]


def test_a_picture_without_a_box_is_there_all_the_same(photos, context_for):
    write_files(photos, {"metadata.csv": b"file_name,n\na/0.png,1\na/1.png,2\n"})
    (photos.parent / "boxes.csv").write_text("file_name,x,y,w,h\na/0.png,1,1,6,6\n")
    context = context_for(str(photos))
    context = replace(context, sources=replace(context.sources, boxes=str(photos.parent / "boxes.csv")))
    assert [row["n"] for row in told(indexed(context))] == [1]
    assert "name no picture" not in context.progress.stream.getvalue()
