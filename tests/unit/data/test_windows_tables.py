"""Tables as spreadsheets on Windows leave them: first lines, header spelling, empty rows, backslashes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayscan.data.box_files import read_boxes
from rayscan.data.boxes import crops_of
from rayscan.data.labels import from_file
from rayscan.data.listing import list_sources
from rayscan.data.table import IMAGE_SCHEMA
from rayscan.errors import DataError
from tests.unit.data.conftest import write_files
from tests.unit.data.test_written_by_people import images, joined

NAMES = ["pics/a.jpg", "pics/b.jpg", "pics/c.jpg"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path, {name: b"x" for name in NAMES})
    return tmp_path


def listed(path: Path, text: str) -> list[str]:
    path.write_bytes(text.encode("utf-8-sig"))
    return [entry.key for entry in list_sources(str(path)).entries]


@pytest.mark.parametrize("first", ["", "sep=;\r\n"])
@pytest.mark.parametrize("header", ["path;note", "Path;Note", "PATH ;note", "file_name;note", "URI;note"])
@pytest.mark.parametrize("last", ["", ";\r\n ; \r\n"])
@pytest.mark.parametrize("slash", ["/", "\\"])
def test_a_list_names_the_same_files(folder: Path, first: str, header: str, last: str, slash: str) -> None:
    rows = "".join(f"{name.replace('/', slash)};x\r\n" for name in NAMES)
    assert listed(folder / "l.csv", f"{first}{header}\r\n{rows}{last}") == ["a.jpg", "b.jpg", "c.jpg"]


def test_an_empty_name_beside_something_is_still_told(folder: Path) -> None:
    with pytest.raises(DataError, match="empty row"):
        listed(folder / "l.csv", "path,note\npics/a.jpg,x\n,y\n")


def test_a_parquet_list_of_file_names_in_capitals(folder: Path) -> None:
    pq.write_table(pa.table({"File_Name": NAMES, "ID": [7, 8, 9]}), folder / "l.parquet")
    found = list_sources(str(folder / "l.parquet"))
    assert [entry.id for entry in found.entries] == ["7", "8", "9"]


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("filename\na.jpg\n", "--image-column"),
        ("path,a\nx\n", "quotes"),
        ("path,path\nx,y\n", "each column once"),
    ],
)
def test_what_to_do_fits_the_mistake(folder: Path, text: str, fix: str) -> None:
    with pytest.raises(DataError) as caught:
        listed(folder / "l.csv", text)
    told = str(caught.value).partition("to do:")[2]
    assert fix in told and "UTF-8" not in told


def test_ids_in_any_case_stay_text(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("Id,Label\n007,cat\n7,dog\n")
    assert joined(tmp_path / "l.csv", images("007", "7", column="id")) == {0: "cat", 1: "dog"}


def test_two_spellings_of_a_column_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("key,label,Label\nk0,cat,0\n")
    assert joined(tmp_path / "l.csv", images("")) == {0: "cat"}


@pytest.mark.parametrize(
    ("column", "name"), [("source", "x\\a.jpg"), ("source", "a.jpg"), ("key", "x\\a.jpg")]
)
def test_labels_of_paths_with_backslashes(tmp_path: Path, column: str, name: str) -> None:
    (tmp_path / "l.csv").write_text(f"{column},label\n{name},1\n")
    there = "/d/x/a.jpg" if column == "source" else "x/a.jpg"
    assert joined(tmp_path / "l.csv", images(there, column=column)) == {0: 1}


def test_a_backslash_that_is_in_the_name_comes_first(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("source,label\nx\\a.jpg,1\n")
    found = from_file(str(tmp_path / "l.csv"), images("/d/x\\a.jpg", "/d/x/a.jpg"))
    assert found.gids.tolist() == [0]


def test_metadata_of_a_folder_written_on_windows(folder: Path) -> None:
    (folder / "metadata.csv").write_bytes(b"File_Name;note\r\npics\\a.jpg;one\r\n;\r\n")
    told = list_sources(str(folder)).metadata
    assert told is not None
    assert told.to_pylist() == [{"note": "one", "uri": str(folder / "pics/a.jpg")}]


def test_boxes_of_a_table_from_a_german_spreadsheet(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_bytes(b"File_Name;X;Y;W;H\r\nx\\a.jpg;1,5;2;3;4\r\n;;;;\r\n")
    boxes = read_boxes(str(tmp_path / "b.csv"))
    assert boxes.table.to_pylist() == [{"name": "x\\a.jpg", "x": 1.5, "y": 2.0, "w": 3.0, "h": 4.0}]
    row = dict.fromkeys(IMAGE_SCHEMA.names, 0) | {"split": "train", "status": "ok", "id": None, "key": "a"}
    rows = pa.Table.from_pylist([row | {"source": "/d/x/a.jpg", "width": 9, "height": 9}], IMAGE_SCHEMA)
    assert crops_of(rows, boxes, 0.0, None, "b.csv").rows["status"].to_pylist() == ["ok"]


def test_metadata_in_an_unknown_encoding_is_refused_in_words(folder: Path) -> None:
    (folder / "metadata.csv").write_bytes(b"file_name,note\npics/a.jpg,K\xf6ln\n")
    with pytest.raises(DataError, match=r"(?s)metadata file cannot be read.*UTF-8"):
        list_sources(str(folder))
