"""What a result looks like on storage: manifest, JSON, Parquet and parts, as the format is described."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import rayscan
from rayscan.artifacts import MANIFEST, Draft, FileEntry, Step, find, load
from rayscan.errors import ArtifactError
from rayscan.storage import Place

CONFIG = {"k": 5, "a": {"b": [1, 2], "name": "caf\u00e9"}}
STEP = Step("mine", 3, CONFIG, {"embed": "abc", "data": "def"})


@pytest.fixture
def root(tmp_path: Path) -> Place:
    return Place(str(tmp_path))


def canonical(value: object) -> str:
    """Sha256 of JSON in ASCII, without spaces, keys in order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def test_the_manifest_says_all_that_was_asked_and_made(root: Path) -> None:
    draft = Draft(root, STEP)
    files = {"z": draft.write("z", b"12345"), "b": draft.write("b", b"")}
    draft.commit(files, facts={"rows": 5}, identity="content")
    fingerprint = canonical(["mine", 3, CONFIG, {"embed": "abc", "data": "def"}])
    assert STEP.directory == f"mine-{fingerprint[:12]}"
    written = root.child(STEP.directory).read(MANIFEST)
    expected = {
        "schema": 1,
        "rayscan": rayscan.__version__,
        "stage": "mine",
        "stage_schema": 3,
        "fingerprint": fingerprint,
        "identity": "content",
        "config": CONFIG,
        "inputs": {"embed": "abc", "data": "def"},
        "files": {
            name: {
                "path": f"{draft.attempt}/{name}",
                "size": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
            for name, data in (("z", b"12345"), ("b", b""))
        },
        "facts": {"rows": 5},
    }
    assert written == json.dumps(expected, indent=2, sort_keys=True).encode()


def test_what_commit_returns_is_what_is_found_and_loaded(root: Place) -> None:
    draft = Draft(root, STEP)
    made = draft.commit({"x": draft.write("x", b"1")})
    place = root.child(STEP.directory)
    found, loaded = find(place, STEP), load(place)
    assert found is not None
    assert made.manifest == found.manifest == loaded.manifest
    assert made.stage == found.stage == loaded.stage == "mine"
    assert made.identity == STEP.fingerprint
    assert made.facts == {}
    assert made.read("x") == found.read("x") == loaded.read("x") == b"1"
    assert made.uri_of("x") == f"{root.uri}/{STEP.directory}/{draft.attempt}/x"
    assert made.files == {"x": FileEntry(f"{draft.attempt}/x", 1, hashlib.sha256(b"1").hexdigest())}


def test_json_is_written_in_one_way(root: Place) -> None:
    draft = Draft(root, STEP)
    entry = draft.write_json("x", {"b": 1, "a": [True]})
    assert draft.place.read(entry.path) == b'{\n  "a": [\n    true\n  ],\n  "b": 1\n}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        draft.write_json("x", float("nan"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        Step("mine", 1, {"k": float("inf")}).fingerprint  # noqa: B018
    with pytest.raises(ValueError, match="not JSON compliant"):
        draft.commit({}, facts={"x": float("nan")})
    assert find(draft.place, STEP) is None


def test_tables_have_one_codec_and_row_groups_of_one_size(root: Place) -> None:
    draft = Draft(root, STEP)
    table = pa.table({"gid": np.arange(131_072 + 10), "x": np.zeros(131_072 + 10)})
    artifact = draft.commit({"t": draft.write_table("t", table)})
    meta = pq.read_metadata(io.BytesIO(artifact.read("t")))
    assert [meta.row_group(i).num_rows for i in range(meta.num_row_groups)] == [131_072, 10]
    assert meta.row_group(0).column(0).compression == "ZSTD"
    assert artifact.read_table("t").equals(table)
    assert artifact.read_table("t", ["gid"]).column_names == ["gid"]


def test_arrays_with_objects_are_neither_written_nor_read(root: Place) -> None:
    draft = Draft(root, STEP)
    with pytest.raises(ValueError, match="allow_pickle"):
        draft.write_array("x", np.array([{}]))
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}]), allow_pickle=True)
    artifact = draft.commit({"x": draft.write("x", buffer.getvalue())})
    with pytest.raises(ValueError, match="allow_pickle"):
        artifact.read_array("x")


def test_parts_go_when_the_result_is_whole(root: Place) -> None:
    draft = Draft(root, STEP)
    draft.finish_part("p0", {"x": draft.write("x", b"1")})
    assert draft.finished_part("p0") == (
        {"x": FileEntry(f"{draft.attempt}/x", 1, hashlib.sha256(b"1").hexdigest())},
        {},
    )
    draft.commit({"x": draft.write("x", b"1")})
    assert draft.finished_part("p0") is None
    assert "parts" not in draft.place.names()


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"{",
        b"[]",
        b'{"facts": {}}',
        b'{"files": {"x": {"path": "x"}}, "facts": {}}',
        b'{"files": {"x": {"path": "x", "size": 9, "sha256": ""}}, "facts": {}}',
    ],
)
def test_a_part_that_is_torn_or_whose_file_is_not_whole_is_none(record: bytes, root: Place) -> None:
    draft = Draft(root, STEP)
    draft.place.write("x", b"12345")
    draft.place.write("parts/p0.json", record)
    assert draft.finished_part("p0") is None


@pytest.mark.parametrize("changed", [{"schema": 2}, {"fingerprint": "0" * 64}])
def test_another_schema_or_fingerprint_is_another_result(changed: dict[str, object], root: Place) -> None:
    artifact = Draft(root, STEP).commit({})
    artifact.place.write(MANIFEST, json.dumps({**artifact.manifest, **changed}).encode())
    with pytest.raises(ArtifactError, match="another one"):
        find(artifact.place, STEP)


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b"{"])
def test_a_manifest_that_cannot_be_read_is_an_error_to_find_and_to_load(text: bytes, root: Place) -> None:
    place = root.child(STEP.directory)
    assert find(place, STEP) is None
    with pytest.raises(ArtifactError, match="no finished result"):
        load(place)
    place.write(MANIFEST, text)
    with pytest.raises(ArtifactError, match="cannot be read"):
        find(place, STEP)
    with pytest.raises(ArtifactError, match="no finished result"):
        load(place)


def test_a_name_that_is_not_in_a_result_is_refused(root: Place) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        Draft(root, STEP).commit({}).read("x")


def test_verify_reads_bytes_only_where_asked(root: Place) -> None:
    draft = Draft(root, STEP)
    artifact = draft.commit({"x": draft.write("x", b"12345")})
    artifact.place.write(artifact.files["x"].path, b"12346")
    artifact.verify()
    with pytest.raises(ArtifactError, match="not what was written"):
        artifact.verify(rehash=True)
    artifact.place.write(artifact.files["x"].path, b"1234")
    with pytest.raises(ArtifactError, match=r"got: +4 bytes"):
        artifact.verify()
