from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rayscan.artifacts import Draft, Step
from rayscan.data.table import IMAGE_SCHEMA, IMAGES, SHARDS, ImageTable
from rayscan.embeddings import (
    index_of_vectors,
    index_tables,
    key_columns,
    match_rows,
    open_vectors,
    tables_of,
)
from rayscan.errors import DataError
from rayscan.storage import Place
from tests.unit.embeddings.files import fixed_lists, matrix, npy, parquet, stored


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pieces per file."""
    monkeypatch.setattr(index_tables, "ROWS_AT_ONCE", 4)
    monkeypatch.setattr(key_columns, "ROWS_AT_ONCE", 4)


def rows_of(spec: str) -> list[dict[str, object]]:
    tables = list(tables_of(open_vectors(spec)))
    assert all(table.schema == IMAGE_SCHEMA for table in tables)
    return pa.concat_tables(tables).to_pylist()


def test_rows_go_by_number_where_there_are_no_keys(place: Place):
    for number, count in enumerate((5, 3, 9)):
        stored(place, f"{number}.npy", npy(matrix(rows=count)))
    vectors = open_vectors(place.uri)
    index = index_of_vectors(vectors, Draft(place, Step("index", 1, {})), "identity")
    rows = index.read_table(IMAGES).to_pylist()
    assert [row["gid"] for row in rows] == list(range(17))
    assert [row["key"] for row in rows] == [str(n) for n in range(17)]
    assert [row["shard"] for row in rows] == [0] * 5 + [1] * 3 + [2] * 9
    assert [row["offset"] for row in rows] == [*range(5), *range(3), *range(9)]
    assert {(r["split"], r["status"], r["source"], r["id"], r["length"], r["width"]) for r in rows} == {
        ("train", "ok", "", None, 0, 0)
    }
    table = ImageTable.from_artifact(index)
    assert table.gids("train").tolist() == list(range(17))
    assert table.shard_uris == tuple(file.uri for file in vectors.files)
    assert index.read_table(SHARDS)["count"].to_pylist() == [5, 3, 9]
    assert index.read_table("quarantine.parquet").num_rows == 0
    assert (index.facts["train"], index.facts["eval"], index.facts["cls"]) == (17, 0, 0)
    assert match_rows(vectors, index).rows.tolist() == list(range(17))


@pytest.mark.parametrize(
    ("columns", "key", "source", "own_id"),
    [
        (["id"], "id3", "", "id3"),
        (["key"], "key3", "", None),
        (["url"], "url3", "url3", None),
        (["id", "path", "key"], "key3", "path3", "id3"),
        (["id", "path"], "id3", "path3", "id3"),
        (["image_path"], "image_path3", "image_path3", None),
        (["image_path", "id"], "id3", "image_path3", "id3"),
        (["caption"], "3", "", None),
    ],
)
def test_keys_come_from_the_columns(tmp_path: Path, columns: list[str], key: str, source: str, own_id: str):
    table = {name: [f"{name}{n}" for n in range(11)] for name in columns}
    spec = stored(Place(str(tmp_path)), "x.parquet", parquet({**table, "emb": fixed_lists(matrix(rows=11))}))
    row = rows_of(spec)[3]
    assert (row["key"], row["source"], row["id"]) == (key, source, own_id)


def test_eval_vectors_of_a_prediction(tmp_path: Path):
    place = Place(str(tmp_path))
    vectors = open_vectors(stored(place, "x.npy", npy(matrix(rows=9))))
    index = index_of_vectors(vectors, Draft(place, Step("index", 1, {})), "identity", "eval")
    table = ImageTable.from_artifact(index)
    assert table.gids("eval").tolist() == list(range(9))
    assert len(table.gids("train")) == 0
    assert (index.facts["train"], index.facts["eval"]) == (0, 9)
    other = index_of_vectors(vectors, Draft(place.child("train"), Step("index", 1, {})), "identity")
    assert index.identity != other.identity


@pytest.mark.parametrize(
    ("keys", "got"),
    [
        (["a", "b", "c", "d", "e", "b"], "rows 1 and 5"),
        (["a", "b", "c", "d", "e", None], "none in row 5"),
        (["a", "", "c", "d", "e", "f"], "none in row 1"),
    ],
)
def test_keys_that_do_not_tell_rows_apart_are_refused(tmp_path: Path, keys: list[str], got: str):
    place = Place(str(tmp_path))
    table = {"key": keys, "emb": fixed_lists(matrix(rows=6))}
    vectors = open_vectors(stored(place, "x.parquet", parquet(table)))
    with pytest.raises(DataError, match=got):
        index_of_vectors(vectors, Draft(place, Step("index", 1, {})), "identity")


def test_sources_may_be_missing(tmp_path: Path):
    table = {"id": [1, 2], "url": ["s3://b/1", None], "emb": fixed_lists(matrix(rows=2))}
    rows = rows_of(stored(Place(str(tmp_path)), "x.parquet", parquet(table)))
    assert [row["source"] for row in rows] == ["s3://b/1", ""]
    assert [row["key"] for row in rows] == ["1", "2"]
    assert np.all([row["status"] == "ok" for row in rows])
