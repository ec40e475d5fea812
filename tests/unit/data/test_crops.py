"""Boxes as images: each crop is what slicing the decoded picture gives, whatever the source."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rayscan.config.preprocessing import Preprocessing
from rayscan.context import Context
from rayscan.data import reader
from rayscan.data.decode import decode
from rayscan.data.pictures import PictureLoader
from rayscan.data.reader import Reader
from rayscan.data.table import ImageTable
from rayscan.errors import DataError
from rayscan.recipes import by_name
from rayscan.stages import index
from tests.unit.data.conftest import LIMIT, encoded, make_tar, picture, write_files

RECIPE = by_name("digits")
LOOSE = replace(RECIPE, images=replace(RECIPE.images, max_bad_fraction=1.0))
PICTURES = {f"{'ab'[n % 2]}/p{n}.png": encoded(picture(n, 30, 40)) for n in range(4)}
TABLE = """file_name,x,y,w,h,class
a/p0.png,2,3,10,20,cat
b/p1.png,0,0,40,30,dog
a/p0.png,30,20,10,10,dog
p2.png,5,5,4.5,4.2,cat
"""
EXPECTED = {  # left, top, right, bottom of each, by hand
    "a/p0.png#0": (2, 3, 12, 23),
    "a/p0.png#1": (30, 20, 40, 30),
    "a/p2.png#0": (5, 5, 10, 10),
    "b/p1.png#0": (0, 0, 40, 30),
}


def indexed(context, boxes, recipe=RECIPE, margin=0.0):
    given = replace(context.sources, boxes=str(boxes), boxes_margin=margin)
    context = Context(context.out, given, context.fleet, context.progress)
    return index.run(recipe, {}, index.plan(recipe, {}, given), context)


def said_by(context):
    return context.progress.stream.getvalue()


@pytest.fixture
def table(tmp_path):
    (tmp_path / "boxes.csv").write_text(TABLE)
    write_files(tmp_path / "in", PICTURES)
    return tmp_path / "boxes.csv"


def expected_crop(key):
    name, _, _ = key.partition("#")
    left, top, right, bottom = EXPECTED[key]
    return decode(PICTURES[name], max_pixels=LIMIT)[top:bottom, left:right]


def test_each_box_is_an_image_of_its_picture(tmp_path, context_for, table):
    context = context_for(str(tmp_path / "in"))
    artifact = indexed(context, table)
    found = artifact.read_table("images.parquet").to_pylist()
    assert [row["key"] for row in found] == list(EXPECTED)
    assert [row["gid"] for row in found] == [0, 1, 2, 3]
    assert [row["source"] for row in found] == [
        str(tmp_path / "in" / key.partition("#")[0]) for key in EXPECTED
    ]
    told = artifact.read_table("metadata.parquet").to_pylist()
    assert [(t["box_x"], t["box_w"], t["box_class"]) for t in told] == [
        (2, 10, "cat"),
        (30, 10, "dog"),
        (5, 4.5, "cat"),
        (0, 40, "dog"),
    ]
    crops = Reader(ImageTable.from_artifact(artifact)).images([3, 0, 2, 1, 0], threads=2)
    for gid, crop in zip([3, 0, 2, 1, 0], crops, strict=True):
        np.testing.assert_array_equal(crop, expected_crop(found[gid]["key"]))
        assert (found[gid]["height"], found[gid]["width"]) == crop.shape[:2]
    assert "1 pictures have no box" in said_by(context)


def test_a_picture_is_decoded_once_for_all_its_boxes(tmp_path, context_for, table, monkeypatch):
    images = Reader(ImageTable.from_artifact(indexed(context_for(str(tmp_path / "in")), table)))
    seen, original = [], reader.decode
    monkeypatch.setattr(reader, "decode", lambda data, **k: seen.append(data) or original(data, **k))
    images.images([0, 2, 1])
    assert len(seen) == 2


def test_networks_see_crops(tmp_path, context_for, table):
    artifact = indexed(context_for(str(tmp_path / "in")), table)
    square = Preprocessing(size_px=10, crop_share=1.0)
    loader = PictureLoader(ImageTable.from_artifact(artifact), RECIPE.images, square)
    pixels = loader.pictures(np.array([1]))  # 10 x 10 already
    np.testing.assert_array_equal(
        pixels[0].permute(1, 2, 0), torch.from_numpy(expected_crop("a/p0.png#1").copy())
    )


def test_tars_give_the_same_crops_as_the_folder(tmp_path, context_for, table):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "x.tar").write_bytes(make_tar(sorted(PICTURES.items())))
    folder = indexed(context_for(str(tmp_path / "in"), out="one"), table)
    tar = indexed(context_for(str(tmp_path / "t" / "x.tar"), out="two"), table)
    one, two = (Reader(ImageTable.from_artifact(a)).images(range(4)) for a in (folder, tar))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_yolo_finds_pictures_by_their_stems(tmp_path, context_for, table):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "p0.txt").write_text("0 0.5 0.5 0.5 0.4\n")
    artifact = indexed(context_for(str(tmp_path / "in")), tmp_path / "labels")
    (crop,) = Reader(ImageTable.from_artifact(artifact)).images([0])
    whole = decode(PICTURES["a/p0.png"], max_pixels=LIMIT)
    np.testing.assert_array_equal(crop, whole[9:21, 10:30])


def test_boxes_that_leave_their_picture_are_cut_and_counted(tmp_path, context_for, table):
    table.write_text(
        "file_name,x,y,w,h\n"
        "a/p0.png,-5,-5,10,10\na/p0.png,35,25,50,50\na/p0.png,100,0,5,5\na/p0.png,1,1,0,5\n"
        "a/p0.png,nan,1,1,5\na/p0.png,1,1,2,2\ngone.png,1,1,2,2\n"
    )
    context = context_for(str(tmp_path / "in"))
    artifact = indexed(context, table, LOOSE)
    found = artifact.read_table("images.parquet").to_pylist()
    assert [row["status"] for row in found] == ["ok", "ok", "box-outside", "box-empty", "box-empty", "ok"]
    assert [(row["width"], row["height"]) for row in found] == [
        (5, 5),
        (5, 5),
        (0, 0),
        (0, 0),
        (0, 0),
        (2, 2),
    ]
    said = said_by(context)
    assert (
        "2 boxes reach beyond their picture" in said and "1 boxes are of pictures that are not here" in said
    )
    with pytest.raises(DataError, match="1 box-outside"):
        indexed(context_for(str(tmp_path / "in"), out="strict"), table)


def test_a_margin_is_added_within_the_picture(tmp_path, context_for, table):
    artifact = indexed(context_for(str(tmp_path / "in")), table, margin=0.1)
    sizes = [(r["width"], r["height"]) for r in artifact.read_table("images.parquet").to_pylist()]
    # x 2 - 1 .. 12 + 1, y 3 - 2 .. 23 + 2; the second ends where the picture does
    assert sizes == [(12, 24), (11, 11), (6, 6), (40, 30)]


def test_other_boxes_are_another_content(tmp_path, context_for, table):
    first = indexed(context_for(str(tmp_path / "in"), out="one"), table)
    again = indexed(context_for(str(tmp_path / "in"), out="two"), table)
    table.write_text(TABLE.replace("2,3,10,20", "2,3,10,21"))
    other = indexed(context_for(str(tmp_path / "in"), out="three"), table)
    assert first.identity == again.identity != other.identity


def test_names_that_fit_several_pictures_or_none_are_refused(tmp_path, context_for, table):
    write_files(tmp_path / "in", {"c/p0.png": PICTURES["a/p0.png"]})
    table.write_text("file_name,x,y,w,h\np0.png,1,1,2,2\n")
    with pytest.raises(DataError, match="fits several"):
        indexed(context_for(str(tmp_path / "in"), out="one"), table)
    table.write_text("file_name,x,y,w,h\nq0.png,1,1,2,2\n")
    with pytest.raises(DataError, match="no box is in a picture"):
        indexed(context_for(str(tmp_path / "in"), out="two"), table)
