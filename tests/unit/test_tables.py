"""Tables on storage: written and read piece by piece, and columns of lists that are matrices."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayscan import tables
from rayscan.artifacts import Artifact, Draft, Step
from rayscan.errors import ArtifactError
from rayscan.storage import Place
from rayscan.tables import as_lists, as_rows, regrouped, row_groups, write_tables

STEP = Step("mine", 1, {"k": 5})


@pytest.mark.parametrize("kind", [np.int64, np.float32, bool])
def test_lists_and_rows_are_each_other(kind: type) -> None:
    rows = (np.arange(24).reshape(6, 4) % 5).astype(kind)
    lists = as_lists(rows)
    assert lists.to_pylist() == rows.tolist()
    pieces = pa.chunked_array([lists[:1], lists[1:4], lists[4:]])
    np.testing.assert_array_equal(as_rows(pieces), rows)
    assert as_rows(pieces).dtype == kind


def whole(num_rows: int) -> pa.Table:
    gids = np.arange(num_rows)
    names = pa.array([None if g % 3 == 0 else f"image {g}" for g in gids.tolist()], pa.string())
    return pa.table({"gid": gids, "id": names, "ids": as_lists(np.stack([gids, -gids], axis=1))})


def cut(table: pa.Table, size: int) -> Iterator[pa.Table]:
    for first in range(0, len(table), size):
        yield table.slice(first, size)


@pytest.mark.parametrize("size", [1, 7, 10, 64, 100])
def test_rows_are_grouped_anew_in_order(size: int) -> None:
    table = whole(64)
    groups = list(regrouped(cut(table, size), 10))
    assert [len(group) for group in groups] == [10] * 6 + [4]
    assert pa.concat_tables(groups).equals(table)


def written(place: Place, table: pa.Table, size: int) -> Artifact:
    draft = Draft(place, STEP)
    entry = write_tables(draft, "neighbors.parquet", table.schema, lambda: cut(table, size))
    return draft.commit({"neighbors.parquet": entry})


def test_a_table_in_pieces_is_the_file_of_the_table_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "ROW_GROUP", 10)
    table = whole(64)
    sink = BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=10)
    for number, size in enumerate((3, 64)):
        artifact = written(place.child(str(number)), table, size)
        assert artifact.read("neighbors.parquet") == sink.getvalue()
        groups = list(row_groups(artifact, "neighbors.parquet", ["gid", "ids"]))
        assert all(len(group) == 10 for group in groups[:-1])
        assert pa.concat_tables(groups).equals(table.select(["gid", "ids"]))


def test_a_broken_stream_leaves_nothing_that_counts(place: Place) -> None:
    draft, table = Draft(place, STEP), whole(64)

    def broken() -> Iterator[pa.Table]:
        yield table
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        write_tables(draft, "neighbors.parquet", table.schema, broken)
    entry = write_tables(draft, "neighbors.parquet", table.schema, lambda: [table])
    data = draft.commit({"neighbors.parquet": entry}).read("neighbors.parquet")
    assert (entry.size, entry.sha256) == (len(data), hashlib.sha256(data).hexdigest())


class Flaky(Place):
    """A store that goes away twice in the middle of a stream."""

    left = 2

    def retried(self, ask: Callable[[], Any], name: str, *, is_long: bool = False) -> Any:
        while True:
            try:
                return ask()
            except OSError:
                assert is_long
                Flaky.left -= 1


def test_a_store_that_went_away_gets_the_table_from_the_start(tmp_path: Path) -> None:
    draft, table = Draft(Place(str(tmp_path)), STEP), whole(64)
    steady, draft.place = draft.place, Flaky(draft.place.uri)

    def away() -> Iterator[pa.Table]:
        yield table.slice(0, 32)
        if Flaky.left:
            raise OSError("no answer")
        yield table.slice(32)

    entry = write_tables(draft, "neighbors.parquet", table.schema, away)
    draft.place = steady
    assert Flaky.left == 0
    artifact = draft.commit({"neighbors.parquet": entry})
    assert artifact.read_table("neighbors.parquet").equals(table)


@pytest.mark.parametrize("fault", ["cut", "flipped", "gone"])
def test_damage_is_found_before_a_row_is_read(place: Place, fault: str) -> None:
    artifact = written(place, whole(64), 64)
    path = artifact.files["neighbors.parquet"].path
    good = artifact.place.read(path)
    artifact.place.delete(path)
    if fault != "gone":
        bad = good[:-1] if fault == "cut" else bytes([good[0] ^ 1]) + good[1:]
        artifact.place.write(path, bad)
    with pytest.raises(ArtifactError, match="not what was written"):
        next(row_groups(artifact, "neighbors.parquet"))
