"""Exports: a table of formats, an address that is taken, and CSV as other readers read it."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from rayscan.artifacts import Draft, Step
from rayscan.cli import main
from rayscan.errors import ArtifactError, ConfigError
from rayscan.exports import EXPORTERS, export
from rayscan.recipes import by_name
from rayscan.run import Run, record
from rayscan.storage import Place, split_uri

ODD = [
    'a "b"',
    "line\nbreak",
    "cr\r\nlf",
    "comma, comma",
    "\u00e9t\u00e9 \u732b \U0001f431",
    "'",
    "",
    " lead",
    "\t",
]
HEADER = ["gid", "id", "source", "key", "split", "cluster", "name", "confidence", "margin", "is_prototype"]


def table_of(num_images: int, seed: int = 0) -> pa.Table:
    """Assignments with every odd text among them."""
    draw = random.Random(seed)
    odd = [ODD[i % len(ODD)] for i in range(num_images)]
    confidence = np.array([draw.random() for _ in range(num_images)], np.float32)
    return pa.table(
        {
            "gid": pa.array(range(num_images), pa.int64()),
            "id": pa.array([None if i % 3 else f"{i} {text}" for i, text in enumerate(odd)], pa.string()),
            "source": pa.array([f"photos/{text}/{i}.jpg" for i, text in enumerate(odd)]),
            "key": pa.array(odd),
            "split": pa.array(["eval" if i % 5 == 0 else "train" for i in range(num_images)]),
            "cluster": pa.array([i % 3 for i in range(num_images)], pa.int32()),
            "confidence": pa.array(confidence),
            "margin": pa.array(confidence / 2),
            "top5": pa.array([[0, 1]] * num_images),
            "is_prototype": pa.array([i < 3 for i in range(num_images)]),
        }
    )


def run_with(place: Place, table: pa.Table, row_group: int = 1 << 17) -> Run:
    """A run that has assigned these images to three clusters."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=row_group)
    draft = Draft(place, Step("assign", 1, {}))
    clusters = [{"cluster": c, "name": f"cluster {c}", "size": 1} for c in range(3)]
    files = {
        "assignments.parquet": draft.write("assignments.parquet", sink.getvalue().to_pybytes()),
        "clusters.json": draft.write_json("clusters.json", clusters),
    }
    draft.commit(files)
    stage = {"directory": draft.step.directory, "seconds": 1.0, "reused": False}
    sources = {"data": "x", "eval_data": None, "labels": None}
    record(place, by_name("digits"), sources, {"assign": stage})
    return Run(place.uri)


def rename(run: Run, names: list[str]) -> None:
    """What a user does to clusters.json."""
    edited = [{**cluster, "name": name} for cluster, name in zip(run.clusters, names, strict=True)]
    run.place.write("clusters.json", json.dumps(edited).encode())


def test_python_and_arrow_read_the_same_values_back(place: Place) -> None:
    table = table_of(60)
    run = run_with(place, table, row_group=7)
    names = ['cats, "big"', "\u732b\nand dogs", "cluster 2"]
    rename(run, names)
    assert export(run, "csv", place.uri_of("out/a.csv")).startswith("60 rows: ")
    data = place.read("out/a.csv")
    header, *rows = list(csv.reader(io.StringIO(data.decode("utf-8"), newline="")))
    assert header == HEADER
    expected = table.drop_columns(["top5"]).to_pylist()
    assert len(rows) == len(expected)
    for row, want in zip(rows, expected, strict=True):
        got = dict(zip(header, row, strict=True))
        assert got["name"] == names[want["cluster"]]
        for column in ("source", "key", "split"):
            assert got[column] == want[column]
        assert got["id"] == (want["id"] or "")
        assert (int(got["gid"]), int(got["cluster"])) == (want["gid"], want["cluster"])
        assert np.float32(got["confidence"]) == np.float32(want["confidence"]), "every bit of it"
        assert np.float32(got["margin"]) == np.float32(want["margin"])
        assert got["is_prototype"] == str(want["is_prototype"]).lower()
    types = {name: table.schema.field(name).type for name in table.column_names if name != "top5"}
    options = pacsv.ConvertOptions(
        column_types={**types, "name": pa.string()},
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        null_values=[""],
    )
    parse = pacsv.ParseOptions(newlines_in_values=True)
    read = pacsv.read_csv(io.BytesIO(data), parse_options=parse, convert_options=options)
    assert read.drop_columns(["name"]).to_pylist() == expected
    assert read.column("name").to_pylist() == [names[row["cluster"]] for row in expected]


def test_lines_and_quotes_are_those_of_rfc_4180(tmp_path: Path) -> None:
    """Sec. 2: lines end in CR LF, a quote inside of quotes is doubled."""
    place = Place(str(tmp_path))
    export(run_with(place, table_of(2)), "csv", str(tmp_path / "a.csv"))
    confidence, margin = (table_of(2).column(c).to_pylist() for c in ("confidence", "margin"))
    cells = [f"{np.float32(c)!s},{np.float32(m)!s}" for c, m in zip(confidence, margin, strict=True)]
    assert (tmp_path / "a.csv").read_bytes().decode() == (
        "gid,id,source,key,split,cluster,name,confidence,margin,is_prototype\r\n"
        '0,"0 a ""b""","photos/a ""b""/0.jpg","a ""b""","eval",0,"cluster 0",' + cells[0] + ",true\r\n"
        '1,,"photos/line\nbreak/1.jpg","line\nbreak","train",1,"cluster 1",' + cells[1] + ",true\r\n"
    )


def test_nothing_is_replaced_unasked(place: Place) -> None:
    run = run_with(place, table_of(3))
    export(run, "csv", place.uri_of("a.csv"))
    before = place.read("a.csv")
    rename(run, ["x", "y", "z"])
    with pytest.raises(ConfigError, match="something at OUT"):
        export(run, "csv", place.uri_of("a.csv"))
    with pytest.raises(ConfigError, match="something at OUT"):
        export(run, "csv", place.uri)
    assert place.read("a.csv") == before
    export(run, "csv", place.uri_of("a.csv"), force=True)
    assert b'"x"' in place.read("a.csv")


def test_what_fails_in_the_middle_leaves_no_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_with(place, table_of(20), row_group=5)
    export(run, "csv", place.uri_of("old.csv"))
    before = place.read("old.csv")
    edited = run.clusters[:2]
    run.place.write("clusters.json", json.dumps(edited).encode())
    names = place.names()
    for out in ("new.csv", "old.csv"):
        with pytest.raises(ArtifactError, match="does not name every cluster"):
            export(run, "csv", place.uri_of(out), force=True)
    assert place.names() == names
    assert place.read("old.csv") == before
    run.place.write("clusters.json", b"{")
    with pytest.raises(ArtifactError, match="clusters cannot be read"):
        export(run, "csv", place.uri_of("new.csv"))


def test_an_unknown_format_lists_those_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = Place(str(tmp_path / "run"))
    run = run_with(place, table_of(3))
    with pytest.raises(ConfigError, match=", ".join(EXPORTERS)):
        export(run, "cvs", str(tmp_path / "x"))
    assert main(["export", place.uri, "--to", "cvs", str(tmp_path / "x")]) == 2
    assert "perhaps you meant csv" in capsys.readouterr().err
    assert main(["export", place.uri, "--to", "csv", str(tmp_path / "x.csv")]) == 0
    assert capsys.readouterr().out == f"3 rows: {tmp_path / 'x.csv'}\n"
    assert main(["export", str(tmp_path / "none"), "--to", "csv", str(tmp_path / "y.csv")]) == 1
    assert not (tmp_path / "y.csv").exists()


@pytest.mark.parametrize("name", EXPORTERS)
def test_every_format_says_what_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    said = capsys.readouterr().out
    assert f"\n  {name} " in said
    assert "--force" in said


@pytest.mark.parametrize(
    ("uri", "folder", "name"),
    [
        ("/a/b.csv", "/a", "b.csv"),
        ("/b.csv", "/", "b.csv"),
        ("/a/b?.csv", "/a", "b?.csv"),
        (
            "s3://me/a/b.csv?endpoint_override=http://x:1/y",
            "s3://me/a?endpoint_override=http://x:1/y",
            "b.csv",
        ),
    ],
)
def test_a_file_is_split_from_its_directory(uri: str, folder: str, name: str) -> None:
    place, found = split_uri(uri)
    assert (place.uri, found) == (folder, name)
