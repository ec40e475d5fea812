"""Boxes of objects in pictures, as annotation tools write them: COCO, Pascal VOC, YOLO, or a table.

Whatever the format, a box becomes a row: the name of its picture, left, top, width and height, and what else
the file says. Classes are metadata, as captions are: no stage reads them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.compute as pc

from rayscan import picture_formats, storage
from rayscan.data import addresses
from rayscan.data.folders import files_below
from rayscan.data.metadata_columns import flat, of_records
from rayscan.data.sources.table import read_table
from rayscan.errors import DataError
from rayscan.text import decoded, lines_of

SIDES = ("x", "y", "w", "h")
NAMES = ("file_name", "source", "path", "image", "key")
"""Columns of a table that may name the picture, the first of them that is there."""
CLASS = "box_class"
_CAPITALS = frozenset("XYWH")
_CLASS_FILES = ("classes.txt", "obj.names")
_PROSE = ("readme", "license")
"""How names of texts begin that are no notes of pictures."""
_YOLO_YAML = ("data.yaml", "dataset.yaml")


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes as a file has them."""

    table: pa.Table
    """Columns name, x, y, w, h as float64, and further ones; a row per box, in the order of the file."""
    is_relative: bool = False
    """Whether sides are fractions of the picture's."""
    has_endings: bool = True
    """Whether names end as those of the pictures do."""


def read_boxes(uri: str) -> Boxes:
    """Boxes of a file or folder, its format told by what is there.

    Args:
        uri: A COCO `.json`; a `.csv`, `.tsv` or `.parquet` with x, y, w, h and a name; a Pascal VOC `.xml`;
            or a folder of such `.xml`, or of YOLO's `.txt`.

    Raises:
        DataError: it is none of them, or has no boxes.
    """
    try:
        boxes = _read(uri)
    except (KeyError, TypeError, ValueError, AttributeError, ElementTree.ParseError) as error:
        raise _unusable(uri, repr(error)) from error
    if not len(boxes.table):
        raise _unusable(uri, "no box")
    return boxes


def _unusable(uri: str, got: object) -> DataError:
    return DataError(
        "the boxes cannot be read",
        expected="COCO .json; .csv, .tsv or .parquet with x, y, w, h and file_name; "
        "or a folder of Pascal VOC .xml or YOLO .txt",
        got=got,
        where=uri,
        fix="export the boxes again in one of these formats",
    )


def _read(uri: str) -> Boxes:
    name = addresses.plain(uri).lower()
    if name.endswith(".json"):
        return _coco(uri, json.loads(decoded(storage.read(uri))))
    if name.endswith((".csv", ".tsv", ".parquet")):
        return _table(uri, read_table(addresses.plain(uri), storage.read(uri)))
    if name.endswith(".xml"):
        return _of_notes(_voc(uri))
    files = [file.uri for file in files_below(uri)]
    if notes := [file for file in files if file.lower().endswith(".xml")]:
        return _of_notes([row for note in notes for row in _voc(note)])
    return Boxes(_made(_yolo(uri, files)), is_relative=True, has_endings=False)


def _made(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows with name, x, y, w, h and more as a table."""
    told = of_records([{k: v for k, v in row.items() if k not in ("name", *SIDES)} for row in rows])
    table = pa.table(
        {"name": pa.array([str(row["name"]) for row in rows], pa.string())}
        | {side: pa.array([float(row[side]) for row in rows], pa.float64()) for side in SIDES}
    )
    if told is not None:
        for column in told.column_names:
            table = table.append_column(column, told[column])
    return table


def _coco(uri: str, data: Any) -> Boxes:
    """COCO's instances: bbox is left, top, width, height in px (cocodataset.org, data format)."""
    if not isinstance(data, dict) or not {"images", "annotations"} <= data.keys():
        raise _unusable(uri, "JSON without `images` and `annotations`, as results of a detector are")
    names = {image["id"]: image["file_name"] for image in data["images"]}
    classes = {kind["id"]: kind["name"] for kind in data.get("categories", ())}
    rows: list[dict[str, Any]] = []
    for note in data["annotations"]:
        if "bbox" not in note:
            continue
        if note["image_id"] not in names:
            raise _unusable(uri, f"an annotation of image {note['image_id']}, which is not among its images")
        kind = note.get("category_id")
        row = dict(zip(SIDES, note["bbox"] or (math.nan,) * 4, strict=True))  # none: an empty box
        more = {key: note[key] for key in ("area", "iscrowd", "score") if key in note}
        more |= {"box_id": str(note["id"])} if "id" in note else {}
        rows.append({"name": names[note["image_id"]], **row, CLASS: str(classes.get(kind, kind)), **more})
    return Boxes(_made(rows))


def _table(uri: str, table: pa.Table) -> Boxes:
    table = table.rename_columns([c.lower() if c in _CAPITALS else c for c in table.column_names])
    name = next((column for column in NAMES if column in table.column_names), None)
    if name is None or not {*SIDES} <= {*table.column_names}:
        raise _unusable(uri, f"columns {', '.join(table.column_names)}")
    own = {"name": table[name].cast(pa.string())}
    own |= {side: _numbers(table[side]) for side in SIDES}
    kinds = [column for column in ("class", "label", "category", CLASS) if column in table.column_names]
    own |= {CLASS: table[kinds[0]].cast(pa.string())} if kinds else {}
    more = flat(table, [name, *SIDES, *kinds])
    return Boxes(pa.table(own | {column: more[column] for column in more.column_names}))


def _numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers, some of which may have a decimal comma."""
    if pa.types.is_string(column.type):
        column = pc.replace_substring(column, ",", ".")
    return column.cast(pa.float64())


def _voc(uri: str) -> list[dict[str, Any]]:
    """Pascal VOC: corners are pixels counted from 1, both within the box (VOC 2012 devkit, Sec. 4)."""
    data = storage.read(uri)
    # Without a document type there are no entities that could grow without end.
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise _unusable(uri, "a document type of its own")
    root = ElementTree.fromstring(data)
    stem = addresses.plain(uri).rpartition("/")[2].rpartition(".")[0]
    name = root.findtext("filename") or stem
    rows = []
    for note in root.iter("object"):
        box = note.find("bndbox")
        if box is None:
            continue
        left, top, right, bottom = (
            float(box.findtext(side) or "nan") for side in ("xmin", "ymin", "xmax", "ymax")
        )
        row = {
            "name": name.strip(),
            "x": left - 1,
            "y": top - 1,
            "w": right - left + 1,
            "h": bottom - top + 1,
        }
        flags = {key: note.findtext(key) for key in ("difficult", "truncated") if note.findtext(key)}
        rows.append({**row, CLASS: (note.findtext("name") or "").strip(), **flags})
    return rows


def _of_notes(rows: Sequence[dict[str, Any]]) -> Boxes:
    """Boxes of Pascal VOC, whose names may lack their ends."""
    return Boxes(_made(rows), has_endings=any(row["name"] != without_ending(row["name"]) for row in rows))


def _yolo(folder: str, uris: Sequence[str]) -> list[dict[str, Any]]:
    """YOLO: a line is class, middle and sides as fractions, perhaps a score; or class and a polygon."""
    classes = _yolo_classes(uris)
    skipped = {*_CLASS_FILES, "train.txt", "val.txt", "test.txt"}
    # Ultralytics and Roboflow put notes into `labels`, pictures beside it into `images`.
    is_apart = not any(_is_picture_in_labels(uri) for uri in uris)
    rows = []
    for uri in uris:
        path = addresses.plain(uri)
        base = path.rpartition("/")[2].lower()
        if not base.endswith(".txt") or base in skipped or base.startswith(_PROSE):
            continue
        name = path[len(addresses.plain(folder).rstrip("/")) + 1 :].rpartition(".")[0]
        if is_apart:
            name = "/".join("images" if part == "labels" else part for part in name.split("/"))
        for number, line in enumerate(lines_of(decoded(storage.read(uri))), start=1):
            cells = line.split()
            if len(cells) < 5:
                raise _unusable(f"{uri} line {number}", repr(line))
            kind, *numbers = cells
            rows.append(
                {"name": name, **_yolo_sides([float(n) for n in numbers]), CLASS: classes.get(kind, kind)}
            )
    return rows


def _is_picture_in_labels(uri: str) -> bool:
    return "/labels/" in uri and addresses.plain(uri).lower().rpartition(".")[2] in picture_formats.READ


def _yolo_sides(numbers: Sequence[float]) -> dict[str, float]:
    if len(numbers) <= 5:
        middle_x, middle_y, width, height = numbers[:4]
        return {"x": middle_x - width / 2, "y": middle_y - height / 2, "w": width, "h": height}
    xs, ys = numbers[0::2], numbers[1::2]
    return {"x": min(xs), "y": min(ys), "w": max(xs) - min(xs), "h": max(ys) - min(ys)}


def _yolo_classes(uris: Sequence[str]) -> dict[str, str]:
    """Names of classes by their number as text."""
    for uri in uris:
        base = addresses.plain(uri).rpartition("/")[2]
        if base in _CLASS_FILES:
            return {str(number): name for number, name in enumerate(lines_of(decoded(storage.read(uri))))}
        if base in _YOLO_YAML:
            return _names_in_yaml(decoded(storage.read(uri)))
    return {}


def _names_in_yaml(text: str) -> dict[str, str]:
    """The entry `names` of a YOLO `data.yaml`: a list in brackets, or a line for each name."""
    if (listed := re.search(r"^names:\s*\[(.*?)\]", text, re.DOTALL | re.MULTILINE)) is not None:
        names = [name.strip().strip("'\"") for name in listed[1].split(",")]
        return {str(number): name for number, name in enumerate(names)}
    block = re.search(r"^names:[ \t]*\n((?:[ \t]*(?:-|\d+:)[^\n]*(?:\n|$))+)", text, re.MULTILINE)
    found: dict[str, str] = {}
    for line in () if block is None else lines_of(block[1]):
        number, _, name = line.partition(":") if not line.startswith("-") else (str(len(found)), "", line[1:])
        found[number] = name.strip().strip("'\"")
    return found


def without_ending(name: str) -> str:
    """A name without what follows the last dot of its last part."""
    return re.sub(r"\.[^./]*$", "", name)
