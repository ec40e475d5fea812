"""Boxes as annotation tools write them: expected values are written down by hand from each format's rules."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayscan.data.box_files import read_boxes
from rayscan.errors import DataError

COCO = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "sub/b.jpg"}],
    "categories": [{"id": 3, "name": "cat"}],
    "annotations": [
        {"id": 100, "image_id": 9, "category_id": 3, "bbox": [10, 20.5, 30, 40], "iscrowd": 0},
        {"id": 101, "image_id": 7, "category_id": 4, "bbox": [0, 0, 5, 6], "iscrowd": 1},
        {"id": 102, "image_id": 7, "category_id": 4},
    ],
}
VOC = """<?xml version="1.0"?><annotation><folder>VOC</folder><filename>a.jpg</filename>
<object><name>dog</name><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>11</ymin><xmax>20</xmax><ymax>40</ymax></bndbox>
<part><name>head</name></part></object></annotation>"""


def rows(boxes, *more):
    return boxes.table.select(["name", "x", "y", "w", "h", *more]).to_pylist()


def box(name, x, y, w, h, **more):
    return {"name": name, "x": x, "y": y, "w": w, "h": h, **more}


def test_coco(tmp_path):
    (tmp_path / "instances.json").write_text(json.dumps(COCO))
    boxes = read_boxes(str(tmp_path / "instances.json"))
    assert rows(boxes, "box_class", "box_id", "iscrowd") == [
        box("sub/b.jpg", 10, 20.5, 30, 40, box_class="cat", box_id="100", iscrowd=0),
        box("a.jpg", 0, 0, 5, 6, box_class="4", box_id="101", iscrowd=1),
    ]
    assert not boxes.is_relative and boxes.has_endings


def test_voc_counts_pixels_from_one_with_both_ends(tmp_path):
    (tmp_path / "a.xml").write_text(VOC)
    (tmp_path / "b.xml").write_text(VOC.replace("<filename>a.jpg</filename>", ""))
    expected = {"x": 0, "y": 10, "w": 20, "h": 30, "box_class": "dog"}
    assert rows(read_boxes(str(tmp_path)), "box_class") == [
        {"name": "a.jpg"} | expected,
        {"name": "b"} | expected,
    ]
    assert len(read_boxes(str(tmp_path / "a.xml")).table) == 1


@pytest.mark.parametrize("classes", ["classes.txt", "data.yaml", "lines.yaml", "numbered.yaml", None])
def test_yolo(tmp_path, classes):
    text = {
        "classes.txt": "person\nbicycle\n",
        "data.yaml": "train: images\nnames: ['person', \"bicycle\"]\n",
        "lines.yaml": "nc: 2\nnames:\n  - person\n  - bicycle\nval: x\n",
        "numbered.yaml": "names:\n  0: person\n  1: bicycle\n",
    }
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.txt").write_text("1 0.5 0.5 0.5 0.25\r\n0 0.1 0.2 0.3 0.2 0.5 0.4\n")
    (tmp_path / "b.txt").write_text("0 0.25 0.5 0.5 1.0 0.9\n")
    if classes:
        (tmp_path / ("data.yaml" if "yaml" in classes else classes)).write_text(text[classes])
    boxes = read_boxes(str(tmp_path))
    names = ("person", "bicycle") if classes else ("0", "1")
    assert boxes.is_relative and not boxes.has_endings
    found = rows(boxes, "box_class")
    assert found[0] == box("b", 0.0, 0.0, 0.5, 1.0, box_class=names[0])
    assert found[1] == box("train/a", 0.25, 0.375, 0.5, 0.25, box_class=names[1])
    polygon = box("train/a", 0.1, 0.2, pytest.approx(0.4), pytest.approx(0.2), box_class=names[0])
    assert found[2] == polygon


def test_tables_keep_their_other_columns(tmp_path):
    (tmp_path / "boxes.csv").write_text("file_name;x;y;w;h;class;score\na.jpg;1;2;3;4;cat;0.5\n")
    expected = [box("a.jpg", 1, 2, 3, 4, box_class="cat", score=0.5)]
    assert rows(read_boxes(str(tmp_path / "boxes.csv")), "box_class", "score") == expected
    table = pa.table({"source": ["a.jpg"], "x": [1], "y": [2], "w": [3], "h": [4], "class": ["cat"]})
    pq.write_table(table.append_column("score", [[0.5]]), tmp_path / "boxes.parquet")
    assert rows(read_boxes(str(tmp_path / "boxes.parquet")), "box_class", "score") == expected


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.json", "{"),
        ("a.json", "[1, 2]"),
        ("a.json", '{"images": [], "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}]}'),
        (
            "a.json",
            '{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1, "bbox": [1]}]}',
        ),
        ("a.json", '{"images": [], "annotations": []}'),
        ("a.csv", "file_name,x,y\na,1,2\n"),
        ("a.csv", "file_name,x,y,w,h\na,one,2,3,4\n"),
        ("a.xml", "<annotation>"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotation><filename>&b;</filename></annotation>'),
        ("d/a.txt", "0 0.5 0.5\n"),
        ("d/a.txt", "0 0.5 0.5 wide 0.1\n"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, text):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with pytest.raises(DataError, match="boxes cannot be read") as caught:
        read_boxes(str(path.parent if name.startswith("d/") else path))
    assert str(path if not name.startswith("d/") else path.parent) in caught.value.text
