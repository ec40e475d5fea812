"""What an edits.json may hold, and what is refused with a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rayscan.edits.clusters import EditedClusters
from rayscan.edits.operations import (
    MAX_BYTES,
    MAX_OPERATIONS,
    Create,
    Join,
    Move,
    Operation,
    Rename,
    Restore,
    Waste,
    as_json,
    read_edits,
)
from rayscan.errors import DataError

PRINT = "0123456789abcdef" * 4
ALL = (
    Rename(3, "chats \u732b"),
    Join((5, 7), 3),
    Waste((9,)),
    Restore((9,)),
    Create(20, "dogs"),
    Move((17, "photos/a.jpg"), 20),
    Move((4,), -1),
)


def file_of(*operations: Any, **changes: Any) -> bytes:
    tree = {"schema": 1, "fingerprint": PRINT, "operations": list(operations), **changes}
    return json.dumps({key: value for key, value in tree.items() if value is not ...}).encode()


def test_operations_are_read_as_they_were_written() -> None:
    edits = read_edits(file_of(*map(as_json, ALL)), "edits.json")
    assert (edits.fingerprint, edits.operations) == (PRINT, ALL)


def test_names_lose_blanks_around_them() -> None:
    (operation,) = read_edits(file_of({"op": "rename", "cluster": 1, "name": "  cats "}), "e").operations
    assert operation == Rename(1, "cats")


RENAME = {"op": "rename", "cluster": 1, "name": "cats"}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "JSON"),
        (b"\xff\xfe{", "JSON"),
        (b"[]", "an object with schema"),
        (b"[" * 100_000, "JSON"),
        (b'{"schema": NaN}', "NaN"),
        (b'{"schema": 1, "schema": 1}', "'schema' stands there twice"),
        (b'{"schema": ' + b"9" * 5000 + b"}", "JSON"),
        (file_of(RENAME, schema=2), "schema 1"),
        (file_of(RENAME, schema=True), "schema 1"),
        (file_of(RENAME, extra=0), "an object with schema"),
        (file_of(RENAME, fingerprint=...), "an object with schema"),
        (file_of(RENAME, fingerprint="abc"), "64 hex digits"),
        (file_of(RENAME, fingerprint=PRINT.upper()), "64 hex digits"),
        (file_of(operations={}), "a list of at most"),
        (file_of("rename"), "operations\\[0\\]"),
        (file_of({"op": "drop"}), "one of rename, join"),
        (file_of({"op": ["rename"]}), "one of rename, join"),
        (file_of(RENAME, {**RENAME, "cluster": -1}), "operations\\[1\\].cluster"),
        (file_of({**RENAME, "cluster": True}), "a whole number"),
        (file_of({**RENAME, "cluster": 1.0}), "a whole number"),
        (file_of({**RENAME, "cluster": 2**31}), "a whole number"),
        (file_of({**RENAME, "name": ""}), "printable"),
        (file_of({**RENAME, "name": "a\nb"}), "printable"),
        (file_of({**RENAME, "name": "\u202egnp"}), "printable"),
        (file_of({**RENAME, "name": "\ud800"}), "printable"),
        (file_of({**RENAME, "name": "x" * 201}), "1 to 200"),
        (file_of({**RENAME, "name": "Waste"}), "other than 'waste'"),
        (file_of({**RENAME, "name": 3}), "printable"),
        (file_of({**RENAME, "more": 3}), "rename with cluster, name"),
        (file_of({"op": "rename", "cluster": 1}), "rename with cluster, name"),
        (file_of({"op": "join", "clusters": [], "into": 1}), "a list of cluster numbers"),
        (file_of({"op": "join", "clusters": 2, "into": 1}), "a list of cluster numbers"),
        (file_of({"op": "join", "clusters": [2, 2], "into": 1}), "2 twice"),
        (file_of({"op": "move", "images": [], "to": 1}), "a list of images"),
        (file_of({"op": "move", "images": [None], "to": 1}), "images\\[0\\]"),
        (file_of({"op": "move", "images": ["a", "a"], "to": 1}), "'a' twice"),
        (file_of({"op": "move", "images": ["\ud800"], "to": 1}), "UTF-8"),
        (file_of({"op": "move", "images": [1], "to": -2}), "-1 or more"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(data: bytes, told: str) -> None:
    with pytest.raises(DataError, match=told) as caught:
        read_edits(data, "the/edits.json")
    assert "the/edits.json" in caught.value.text
    assert caught.value.text.isascii()


def test_hostile_sizes_are_refused() -> None:
    with pytest.raises(DataError, match="bytes"):
        read_edits(b" " * (MAX_BYTES + 1), "e")
    with pytest.raises(DataError, match="at most 100,000 operations"):
        read_edits(file_of(*[RENAME] * (MAX_OPERATIONS + 1)), "e")
    many = b"{" + b",".join(b'"k%d":0' % i for i in range(200_000)) + b',"k7":1}'
    with pytest.raises(DataError, match="'k7' stands there twice"):
        read_edits(many, "e")


@pytest.mark.parametrize(
    ("operations", "told"),
    [
        ([Rename(12, "x")], "no such cluster"),
        ([Rename(4, "x")], "no such cluster"),
        ([Join((1,), 1)], "joined with itself"),
        ([Join((1,), 2), Join((2,), 1)], "a cluster is no more"),
        ([Join((1,), 2), Rename(1, "x")], "joined into, 2"),
        ([Join((1,), 2), Join((2,), 3), Move((0,), 1)], "joined into, 3"),
        ([Waste((1,)), Rename(1, "x")], "restore it first"),
        ([Waste((1,)), Join((1,), 2)], "restore it first"),
        ([Waste((1,)), Join((2,), 1)], "restore it first"),
        ([Waste((1,)), Waste((1,))], "restore it first"),
        ([Restore((1,))], "not in waste"),
        ([Create(3, "x")], "wrong number"),
        ([Create(5, "x")], "wrong number"),
        ([Create(4, "cluster 2")], "another cluster has that name"),
        ([Waste((1,)), Rename(2, "cluster 1"), Restore((1,))], "another cluster has that name"),
        ([Move((0,), 9)], "no such cluster"),
    ],
)
def test_operations_that_do_not_go_with_the_clusters(operations: list[Operation], told: str) -> None:
    edited = EditedClusters({number: f"cluster {number}" for number in range(4)})
    with pytest.raises(DataError, match=told) as caught:
        edited.apply(operations, "edits.json")
    assert f"operations[{len(operations) - 1}]" in caught.value.text


def test_equal_names_are_one_cluster() -> None:
    """As docs/howto/folder.md says of names in clusters.json: the lowest number stays."""
    edited = EditedClusters({number: f"cluster {number}" for number in range(6)})
    edited.call({5: "cats", 1: "cats", 3: "dogs", 2: "cluster 0", 4: " "}, "clusters.json")
    assert edited.numbers == [0, 1, 3, 4]
    assert (edited.now(5), edited.now(2)) == (1, 0)
    edited.apply([Rename(3, "cats")], "edits.json")
    assert (edited.numbers, edited.now(3)) == ([0, 1, 4], 1)
