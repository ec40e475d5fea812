"""Edits of a run on an object store: the same as on a disk, and honoured by what reads them there."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from rayscan.edits.applying import apply
from rayscan.edits.history import fingerprint_of
from rayscan.exports import export
from rayscan.run import Run
from rayscan.serving.clusters import Clusters
from rayscan.storage import Place
from tests.unit.edits.recorded import clusters_of, copied, fingerprint, saved

EDITS = (
    {"op": "join", "clusters": [5, 7], "into": 3},
    {"op": "rename", "cluster": 3, "name": "sevens \u732b"},
    {"op": "waste", "clusters": [9]},
    {"op": "move", "images": [0, 1, 2], "to": 4},
)


@pytest.fixture
def store(tmp_path: Path, s3_uri: str) -> Place:
    """Where a run lies in a bucket."""
    return Place(s3_uri).child(tmp_path.name)


def test_the_same_edits_give_the_same_assignments_on_a_store(tmp_path: Path, store: Place) -> None:
    run = copied(tmp_path / "own")
    root = Path(run.out.uri)
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        store.write(path.relative_to(root).as_posix(), path.read_bytes())
    original, edits = fingerprint(run), saved(run, *EDITS)
    store.write("edits-to-apply.json", Path(edits).read_bytes())
    said = apply(store.uri, store.uri_of("edits-to-apply.json"))
    assert "applied 4 edits" in said
    apply(run.out.uri, edits)
    there, here = Run(store.uri), Run(run.out.uri)
    assert there.assignments.equals(here.assignments)
    assert there.clusters == here.clusters
    assert fingerprint_of(there.artifact("assign")) == fingerprint_of(here.artifact("assign"))
    assert "nothing to change" in apply(store.uri, store.uri_of("edits-to-apply.json"))

    export(there, "csv", store.uri_of("rows.csv"))
    rows = list(csv.DictReader(io.StringIO(store.read("rows.csv").decode())))
    assert {int(row["gid"]): int(row["cluster"]) for row in rows} == clusters_of(run)
    assert {row["name"] for row in rows if row["cluster"] == "3"} == {"sevens \u732b"}
    served = Clusters.read(there)
    assert served.fingerprint == fingerprint(run) != original
    assert (served.name(3), served.name(-1)) == ("sevens \u732b", "waste")

    assert "forgot 4 edits" in apply(store.uri, reset=True)
    apply(run.out.uri, reset=True)
    assert Run(store.uri).assignments.equals(Run(run.out.uri).assignments)
    assert fingerprint(run) == original
