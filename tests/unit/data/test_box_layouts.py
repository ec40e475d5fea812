"""Boxes as Roboflow, Ultralytics and COCO tools export them: beside texts, in other folders, with gaps."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from rayscan.data.box_files import read_boxes
from rayscan.data.boxes import crops_of
from rayscan.data.table import IMAGE_SCHEMA
from rayscan.errors import DataError
from tests.unit.data.conftest import write_files

NOTE = b"0 0.5 0.5 0.5 0.5\r\n"


def pictures(*sources: str) -> pa.Table:
    """An index by hand of pictures of 8 x 8 px."""
    fixed = dict.fromkeys(IMAGE_SCHEMA.names, 0) | {"split": "train", "status": "ok", "id": None}
    size = {"width": 8, "height": 8}
    rows = [fixed | size | {"gid": n, "key": f"k{n}", "source": s} for n, s in enumerate(sources)]
    return pa.Table.from_pylist(rows, IMAGE_SCHEMA)


@pytest.mark.parametrize("split_first", [True, False])  # Roboflow; Ultralytics
def test_notes_in_labels_are_of_pictures_in_images(tmp_path: Path, split_first: bool) -> None:
    def path(kind: str, split: str, end: str) -> str:
        return f"{split}/{kind}/a.{end}" if split_first else f"{kind}/{split}/a.{end}"

    splits = ("train", "valid")
    write_files(tmp_path, {path("labels", split, "txt"): NOTE for split in splits})
    write_files(tmp_path, {path("images", split, "jpg"): b"x" for split in splits})
    write_files(tmp_path, {name: b"made by a tool\n" for name in ("README.roboflow.txt", "readme.txt")})
    boxes = read_boxes(str(tmp_path))
    sources = [str(tmp_path / path("images", split, "jpg")) for split in splits]
    crops = crops_of(pictures(*sources), boxes, 0.0, None, "x")
    assert crops.rows["source"].to_pylist() == sources and crops.counts["unmatched"] == 0


def test_a_folder_called_labels_may_hold_the_pictures_too(tmp_path: Path) -> None:
    write_files(tmp_path, {"labels/a.txt": NOTE, "labels/a.jpg": b"x"})
    boxes = read_boxes(str(tmp_path))
    found = crops_of(pictures(str(tmp_path / "labels/a.jpg")), boxes, 0.0, None, "x")
    assert found.rows["width"].to_pylist() == [4]


def test_names_of_pascal_voc_may_lack_their_end(tmp_path: Path) -> None:
    sides = "<xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax>"
    note = f"<annotation><filename>a</filename><object><bndbox>{sides}</bndbox></object></annotation>"
    write_files(tmp_path, {"a.xml": note.encode()})
    boxes = read_boxes(str(tmp_path))
    assert crops_of(pictures("/d/a.jpg"), boxes, 0.0, None, "x").rows["status"].to_pylist() == ["ok"]


def coco(**changes: Any) -> dict[str, Any]:
    note = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 1, 2, 2]} | changes
    return {"images": [{"id": 7, "file_name": "a.jpg"}], "annotations": [note]}


@pytest.mark.parametrize("bbox", [[], None])
def test_an_annotation_without_a_box_is_an_empty_one(tmp_path: Path, bbox: object) -> None:
    (tmp_path / "c.json").write_text(json.dumps(coco(bbox=bbox)))
    boxes = read_boxes(str(tmp_path / "c.json"))
    assert math.isnan(boxes.table["w"][0].as_py())
    assert crops_of(pictures("/d/a.jpg"), boxes, 0.0, None, "x").rows["status"].to_pylist() == ["box-empty"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (coco(image_id=9), "an annotation of image 9, which is not among its images"),
        ([{"image_id": 7, "bbox": [1, 1, 2, 2], "score": 0.5}], "results of a detector"),
        ({"annotations": []}, "without `images`"),
        (3, "without `images`"),
    ],
)
def test_what_is_wrong_with_a_coco_file_is_told_in_words(tmp_path: Path, content: object, told: str) -> None:
    (tmp_path / "c.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=told):
        read_boxes(str(tmp_path / "c.json"))
