"""No command writes into what another kind of command made, and nothing is written before that is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayscan.data.packing import write_shards
from rayscan.errors import ArtifactError, ConfigError
from rayscan.exports import export
from rayscan.grouping import require_free, write_consensus
from rayscan.lock import RunLock
from rayscan.out_kinds import PREDICTION, RUN, SHARDS, kind_at
from rayscan.recipes import by_name
from rayscan.run import Run, record
from rayscan.storage import Place
from tests.unit.data.conftest import encoded, write_files

OF_RUN = {"data": "x", "eval_data": "y", "labels": None}
OF_PREDICTION = {"data": None, "eval_data": "x", "labels": None}
KINDS: dict[str, Callable[[Place], None]] = {
    RUN: lambda place: record(place, by_name("digits"), OF_RUN, {}),
    PREDICTION: lambda place: record(place, by_name("digits"), OF_PREDICTION, {}),
    SHARDS: lambda place: place.write("packed.parquet", b""),
}
"""Kind -> what makes a place one of it."""


def content(place: Place) -> list[str]:
    return place.names()


@pytest.mark.parametrize("there", KINDS)
@pytest.mark.parametrize("wanted", KINDS)
def test_a_lock_is_taken_only_where_the_kind_is_the_same(place: Place, there: str, wanted: str) -> None:
    KINDS[there](place)
    before = content(place)
    assert kind_at(place) == there
    if there == wanted:
        with RunLock(place, kind=wanted):
            return
    with pytest.raises(ConfigError, match=f"(?s)another kind.*got: *{there}"):
        RunLock(place, kind=wanted).__enter__()
    assert content(place) == before


def test_an_empty_place_takes_any_kind(place: Place) -> None:
    for kind in KINDS:
        with RunLock(place, kind=kind):
            assert kind_at(place) is None


def test_a_record_of_an_earlier_version_has_its_kind_from_its_sources(place: Place) -> None:
    for sources, kind in ((OF_RUN, RUN), (OF_PREDICTION, PREDICTION)):
        record(place, by_name("digits"), sources, {})
        note = json.loads(place.read("run.json"))
        del note["kind"]
        place.write("run.json", json.dumps(note).encode())
        assert kind_at(place) == kind


@pytest.mark.parametrize("text", [b"", b"{", b"[1, 2]", b'{"stages": 1, "sources": {}}', b"\xff\xfe"])
def test_a_cut_record_is_named(place: Place, text: bytes) -> None:
    place.write("run.json", text)
    for use in (lambda: Run(place.uri), lambda: RunLock(place).__enter__()):
        with pytest.raises(ArtifactError, match=r"(?s)cannot be read.*run\.json.*remove this file"):
            use()


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_an_out_that_is_a_file_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    place = Place(f"{tmp_path}/file/{below}".rstrip("/"))
    with pytest.raises(ConfigError, match=r"(?s)no folder.*the file .*file"):
        RunLock(place).__enter__()
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_an_out_without_a_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="address is empty"):
        Place(" ")


def test_an_out_that_cannot_be_made_is_told() -> None:
    with pytest.raises(ArtifactError, match="cannot be written"):  # nobody makes folders in here
        RunLock(Place("/proc/rayscan")).__enter__()


@pytest.mark.parametrize("wanted", KINDS)
def test_results_do_not_come_to_lie_among_pictures(place: Place, wanted: str) -> None:
    place.write("a.JPG", b"mine")
    place.write("notes.txt", b"mine")
    with pytest.raises(ConfigError, match=r"another kind(?s:.)*1 pictures or archives, such as 'a.JPG'"):
        RunLock(place, kind=wanted).__enter__()
    assert content(place) == ["a.JPG", "notes.txt"]
    KINDS[wanted](place)  # begun before this was asked: it goes on
    with RunLock(place, kind=wanted):
        pass


def test_shards_do_not_go_below_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path / "a,b", {"x/1.png": encoded(np.zeros((4, 4, 3), np.uint8))})
    monkeypatch.chdir(tmp_path)
    for data in (str(tmp_path / "a,b"), "a,b", f"{tmp_path}/a,b/../a,b/"):
        with pytest.raises(ConfigError, match="OUT lies in the folder of the images"):
            write_shards(data, str(tmp_path / "a,b" / "shards"))
    assert [path.name for path in (tmp_path / "a,b").iterdir()] == ["x"]
    assert write_shards("a,b", str(tmp_path / "a,b-shards")).images == 1


def test_shards_do_not_go_into_a_run(place: Place, tmp_path: Path) -> None:
    KINDS[RUN](place)
    with pytest.raises(ConfigError, match="another kind"):
        write_shards(str(tmp_path), place.uri)
    assert "packed.parquet" not in content(place)


@pytest.mark.parametrize("name", ["run.json", "assignments.parquet", "clusters.json", "recipe.json"])
def test_an_export_does_not_replace_what_a_run_needs(place: Place, name: str) -> None:
    KINDS[RUN](place)
    before = place.read("run.json")
    for out in (place.uri_of(name), place.uri):
        with pytest.raises(ConfigError, match="belongs to something of another kind"):
            export(Run(place.uri), "csv", out, force=True)
    assert place.read("run.json") == before


def test_a_table_of_groups_replaces_only_its_own_kind(place: Place) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"gid": [1], "cluster": [0], "agreement": [1.0]}), sink)
    place.write("old.parquet", memoryview(sink.getvalue()))
    place.write("notes.txt", b"mine")
    place.write("folder/file", b"mine")
    require_free(place.uri_of("old.parquet"), ["gid", "cluster", "agreement"])
    require_free(place.uri_of("new.parquet"), ["gid"])
    for name in ("old.parquet", "notes.txt", "folder"):
        with pytest.raises(ConfigError, match="another kind"):
            require_free(place.uri_of(name), ["gid", "cluster"])
    KINDS[RUN](place)
    with pytest.raises(ConfigError, match="belongs to"):
        write_consensus([place.uri], place.uri_of("assignments.parquet"))
