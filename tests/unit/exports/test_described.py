"""Metadata of images in exports: beside the right image, empty where there is none."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
import pyarrow.parquet as pq

from rayscan.artifacts import Draft, Step
from rayscan.data.metadata import METADATA
from rayscan.exports import export
from rayscan.recipes import by_name
from rayscan.run import Run, record
from rayscan.storage import Place
from tests.unit.exports.test_csv import HEADER, run_with, table_of

TOLD = {
    "gid": [1, 4],
    "caption": ["a, b", None],
    "source": ["web", "camera"],
    "taken": pa.array([0, 1], pa.date32()),
}


def with_metadata(place: Place) -> Run:
    """A run of six images, two of which have metadata."""
    probs = pa.array([[0.5, 0.25]] * 6, pa.list_(pa.float32()))
    run = run_with(place, table_of(6).append_column("top5_probs", probs), row_group=4)
    draft = Draft(place, Step("index", 1, {}))
    draft.commit({METADATA: draft.write_table(METADATA, pa.table(TOLD))})
    stages = {
        **run.record["stages"],
        "index": {"directory": draft.step.directory, "seconds": 1.0, "reused": False},
    }
    record(place, by_name("digits"), run.record["sources"], stages)
    return Run(place.uri)


def test_csv_has_the_metadata_of_each_image_behind_its_own_columns(place: Place) -> None:
    assert export(with_metadata(place), "csv", place.uri_of("a.csv")).startswith("6 rows")
    header, *rows = csv.reader(io.StringIO(place.read("a.csv").decode(), newline=""))
    assert header == [*HEADER, "caption", "metadata_source", "taken"]
    empty = ["", "", ""]
    expected = [empty, ["a, b", "web", "1970-01-01"], empty, empty, ["", "camera", "1970-01-02"], empty]
    assert [row[-3:] for row in rows] == expected
    assert [int(row[0]) for row in rows] == list(range(6))


def test_parquet_keeps_the_types(place: Place) -> None:
    export(with_metadata(place), "parquet", place.uri_of("a.parquet"))
    table = pq.read_table(pa.BufferReader(place.read("a.parquet")), use_threads=False)
    assert table.schema.field("taken").type == pa.date32()
    assert table["caption"].to_pylist() == [None, "a, b", None, None, None, None]
    assert table["metadata_source"].to_pylist() == [None, "web", None, None, "camera", None]


def test_a_run_without_metadata_exports_as_before(place: Place) -> None:
    export(run_with(place, table_of(6)), "csv", place.uri_of("a.csv"))
    header, *_ = csv.reader(io.StringIO(place.read("a.csv").decode(), newline=""))
    assert header == HEADER
