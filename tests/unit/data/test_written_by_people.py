"""Lists and labels as Excel, pandas, Macs and Windows write them: read as meant, or refused in words."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayscan.data.class_map import read_class_map
from rayscan.data.labels import from_file, read_members
from rayscan.data.listing import list_sources
from rayscan.errors import ConfigError, DataError
from rayscan.recipes import by_name
from rayscan.run import recipe_from_json, recipe_to_json
from rayscan.training.prior import read_prior
from tests.unit.data.conftest import encoded, make_tar, picture, write_files

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]
NAMES = ["../pics/a.jpg", "../pics/b c.jpg", "../pics/\u00e4.jpg"]


def images(*sources: str, column: str = "source") -> pa.Table:
    """An index by hand of usable images."""
    n = len(sources)
    table = {
        "gid": pa.array(range(n), pa.int64()),
        "split": ["train"] * n,
        "key": [f"k{i}" for i in range(n)],
        "source": [f"s{i}" for i in range(n)],
        "id": pa.nulls(n, pa.string()),
        "status": ["ok"] * n,
    }
    return pa.table({**table, column: list(sources)})


def joined(path: Path, table: pa.Table) -> dict[int, int | str]:
    found = from_file(str(path), table)
    return {gid: found.classes[n] for gid, n in zip(found.gids.tolist(), found.labels.tolist(), strict=True)}


@pytest.fixture
def pics(tmp_path: Path) -> Path:
    write_files(tmp_path, {name[3:]: b"x" for name in NAMES})
    (tmp_path / "lists").mkdir()
    return tmp_path / "lists"


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("kind", ["txt", "quoted", "comment", "backslash", ";", "\t", "|"])
def test_lists_name_the_same_files(pics: Path, encoding: str, end: str, kind: str) -> None:
    lines = {
        "txt": NAMES,
        "quoted": [f'"{name}"' for name in NAMES],
        "comment": ["# my pictures", *NAMES],
        "backslash": [name.replace("/", "\\") for name in NAMES],
    }.get(kind) or [f"nr{kind}path", *(f"{n}{kind}{name}" for n, name in enumerate(NAMES))]
    path = pics / ("list.txt" if kind in ("txt", "quoted", "comment", "backslash") else "list.csv")
    path.write_bytes(end.join(lines).encode(encoding))
    listing = list_sources(str(path))
    assert [entry.uri for entry in listing.entries] == sorted(str(pics.parent / name[3:]) for name in NAMES)
    assert all(entry.size == 1 for entry in listing.entries)


@pytest.mark.parametrize("line", ["{name} {n}", "{n}\t{name}", "{name},{n}", "{n}, {name}", "{name}\tcat"])
def test_a_list_with_more_than_names_is_refused(pics: Path, line: str) -> None:
    (pics / "l.txt").write_text("\n".join(line.format(name=name, n=n) for n, name in enumerate(NAMES)))
    with pytest.raises(DataError, match="more than a name"):
        list_sources(str(pics / "l.txt"))


def test_paths_from_another_folder_are_told(pics: Path) -> None:
    (pics / "l.txt").write_text("pics/a.jpg\n")  # as seen from above
    with pytest.raises(DataError, match=r"(?s)not one file.*folder of the list.*lists/pics/a\.jpg"):
        list_sources(str(pics / "l.txt"))


def test_a_list_in_an_unknown_encoding_is_refused(pics: Path) -> None:
    for name in ("l.txt", "l.csv"):
        (pics / name).write_bytes("path\n../pics/\u00e4.jpg\n".encode("cp1252"))
        with pytest.raises(DataError, match=r"(?s)cannot be read.*UTF-8"):
            list_sources(str(pics / name))


def test_dots_are_kept_where_a_link_would_make_them_another_file(tmp_path: Path) -> None:
    write_files(tmp_path, {"real/deep/x": b"", "real/a.jpg": b"right", "a.jpg": b"wrong!"})
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    (tmp_path / "l.txt").write_text("link/../a.jpg\n")
    assert [entry.size for entry in list_sources(str(tmp_path / "l.txt")).entries] == [5]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_labels_in_any_dialect(tmp_path: Path, encoding: str, end: str, separator: str) -> None:
    rows = [["key", "label"], ["k0", "cat"], ["k1", "dog"], ['"k2"', '"b,a;t"']]
    path = tmp_path / "labels.csv"
    path.write_bytes((end.join(separator.join(row) for row in rows) + end).encode(encoding))
    assert joined(path, images("", "", "")) == {0: "cat", 1: "dog", 2: "b,a;t"}


@pytest.mark.parametrize("word", ["NA", "nan", "None", "null", "", "-1", "-1.0", "N/A"])
def test_a_missing_value_is_no_class(tmp_path: Path, word: str) -> None:
    path = tmp_path / "labels.csv"
    for first, expected in (("cat", "cat"), ("7", 7), ("7.0", 7)):
        path.write_text(f"key,label\nk0,{first}\nk1,{word}\n")
        assert joined(path, images("", "")) == {0: expected}


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1], [2]]),
        pa.array([{"a": 1}, {"a": 2}]),
        pa.array([0.25, 0.5]),
        pa.array([b"\xff\xfe", b"\xff"]),
    ],
)
def test_columns_that_are_no_classes_are_refused_in_words(tmp_path: Path, column: pa.Array) -> None:
    pq.write_table(pa.table({"key": ["k0", "k1"], "label": column}), tmp_path / "l.parquet")
    with pytest.raises(DataError, match="label"):
        joined(tmp_path / "l.parquet", images("", ""))


def test_lists_of_odd_columns_are_refused_in_words(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": [["a.jpg"]]}), tmp_path / "l.parquet")
    with pytest.raises(DataError, match=r"column path cannot be used"):
        list_sources(str(tmp_path / "l.parquet"))


def test_repeated_columns_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("key,label,label\nk0,1,2\n")
    pq.write_table(pa.table([["k0"], [1], [2]], names=["key", "label", "label"]), tmp_path / "l.parquet")
    for name in ("l.csv", "l.parquet"):
        with pytest.raises(DataError, match="several columns are called label"):
            joined(tmp_path / name, images("", ""))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("column", ["key", "source", "id"])
def test_names_match_in_every_form_of_unicode(tmp_path: Path, form: str, column: str) -> None:
    name = "gr\u00f6\u00dfe.jpg"
    there = unicodedata.normalize("NFC" if form == "NFD" else "NFD", name)
    (tmp_path / "l.csv").write_text(f"{column},label\n{unicodedata.normalize(form, name)},1\n", "utf-8")
    assert joined(tmp_path / "l.csv", images(there, column=column)) == {0: 1}


@pytest.mark.parametrize("written", ["./x/a.jpg", "x//a.jpg", "y/../x/a.jpg", "x/./a.jpg", "/d/y/../x/a.jpg"])
def test_paths_match_however_they_are_spelled(tmp_path: Path, written: str) -> None:
    (tmp_path / "l.csv").write_text(f"source,label\n{written},1\n")
    assert joined(tmp_path / "l.csv", images("/d/x/a.jpg")) == {0: 1}
    assert joined(tmp_path / "l.csv", images("/d/y/../x/a.jpg")) == {0: 1}


def test_absolute_paths_match_through_links(tmp_path: Path) -> None:
    write_files(tmp_path / "disk", {"a.jpg": b""})
    (tmp_path / "photos").symlink_to(tmp_path / "disk")
    (tmp_path / "l.csv").write_text(f"source,label\n{tmp_path}/disk/a.jpg,1\n")
    assert joined(tmp_path / "l.csv", images(f"{tmp_path}/photos/a.jpg")) == {0: 1}


def test_the_query_of_an_address_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("source,label\nx/a.jpg,1\ny.tar/b.jpg,2\n")
    query = "?scheme=http&endpoint_override=h:1"
    table = images(f"s3://b/x/a.jpg{query}", f"s3://b/y.tar{query}#b.jpg")
    assert joined(tmp_path / "l.csv", table) == {0: 1, 1: 2}


def test_labels_in_shards(tmp_path: Path) -> None:
    image = encoded(picture(0))
    notes = {
        "a.cls": "\ufeff7\r\n".encode(),
        "b.cls": "7".encode("utf-16"),
        "c.json": b'{"label": 7.0}',
        "d.json": b'{"label": 7.5}',
        "e.json": b'{"label": "NA"}',
        "f.json": b'{"label": NaN}',
        "g.cls": b"None",
    }
    members = [(n, d) for name, data in notes.items() for n, d in ((f"{name[0]}.png", image), (name, data))]
    (tmp_path / "t.tar").write_bytes(make_tar([(n, bytes(d)) for n, d in members]))
    rows = read_members(str(tmp_path / "t.tar"), 0).to_pylist()
    assert sorted((row["key"], row["label"]) for row in rows) == [("a", "7"), ("b", "7"), ("c", "7")]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_recipe_and_a_prior_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    recipe = by_name("digits")
    text = recipe_to_json(recipe).decode()
    assert recipe_from_json(text.encode(encoding), "") == recipe
    ten = [1.0] * 10
    for written in (json.dumps(ten), "\r\n".join(map(str, ten)), "; ".join(map(str, ten)), "1,\n" * 10):
        (tmp_path / "prior").write_bytes(written.encode(encoding))
        assert read_prior(recipe, str(tmp_path / "prior")) == [0.1] * 10


def test_a_prior_that_is_not_there_is_a_mistake_in_the_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="prior cannot be read"):
        read_prior(by_name("digits"), str(tmp_path / "nothing"))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_class_map_in_any_dialect(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "map.csv").write_bytes("class;maps_to\r\na;x\r\na;y\r\nb;x\r\n".encode(encoding))
    assert read_class_map(str(tmp_path / "map.csv")) == {"a": ["x", "y"], "b": ["x"]}
