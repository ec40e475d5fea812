"""Results on storage: found again, verified, never taken for whole when they are not. Local and S3."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rayscan.artifacts import MANIFEST, Artifact, Draft, Step, digest, find, load
from rayscan.errors import ArtifactError
from rayscan.lock import RunLock
from rayscan.storage import Place, join

STEP = Step("mine", 1, {"k": 5, "nested": {"a": [1, 2]}}, {"embed": "abc"})


def write(place: Place, step: Step = STEP) -> Artifact:
    draft = Draft(place, step)
    files = {
        "table.parquet": draft.write_table("table.parquet", pa.table({"gid": [0, 1, 2]})),
        "rows.npy": draft.write_array("rows.npy", np.arange(6, dtype=np.float32).reshape(3, 2)),
        "facts.json": draft.write_json("facts.json", {"n": 3}),
    }
    assert find(draft.place, step) is None, "nothing is a result before its manifest"
    return draft.commit(files, facts={"n": 3})


def test_round_trip(place: Place) -> None:
    write(place)
    found = find(place.child(STEP.directory), STEP, rehash=True)
    assert found is not None
    assert found.read_table("table.parquet").column("gid").to_pylist() == [0, 1, 2]
    assert found.read_array("rows.npy").tolist() == [[0, 1], [2, 3], [4, 5]]
    assert found.read_json("facts.json") == {"n": 3}
    assert found.facts["n"] == 3
    assert found.identity == STEP.fingerprint
    assert load(place.child(STEP.directory)).manifest == found.manifest


def test_fingerprint_covers_stage_schema_settings_and_inputs() -> None:
    others = [
        Step("scan", 1, STEP.config, STEP.inputs),
        Step("mine", 2, STEP.config, STEP.inputs),
        Step("mine", 1, {**STEP.config, "k": 6}, STEP.inputs),
        Step("mine", 1, STEP.config, {"embed": "abd"}),
    ]
    assert len({s.fingerprint for s in [STEP, *others]}) == 5
    assert (
        Step("mine", 1, {"nested": {"a": [1, 2]}, "k": 5}, {"embed": "abc"}).fingerprint == STEP.fingerprint
    )
    assert digest({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


@pytest.mark.parametrize("name", ["table.parquet", "rows.npy"])
def test_damage_is_found(place: Place, name: str) -> None:
    artifact = write(place)
    path = artifact.files[name].path
    good = artifact.place.read(path)
    artifact.place.write(path, good[:-1])
    with pytest.raises(ArtifactError, match=name):
        find(artifact.place, STEP)
    artifact.place.write(path, good[:-1] + bytes([good[-1] ^ 1]))
    find(artifact.place, STEP)  # same size: only hashing tells
    with pytest.raises(ArtifactError, match=name):
        find(artifact.place, STEP, rehash=True)
    with pytest.raises(ArtifactError, match=name):
        artifact.read(name)
    artifact.place.delete(path)
    with pytest.raises(ArtifactError, match="no file"):
        find(artifact.place, STEP)


def test_a_torn_manifest_is_an_error_not_a_result(place: Place) -> None:
    artifact = write(place)
    whole = artifact.place.read(MANIFEST)
    artifact.place.write(MANIFEST, whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match="cannot be read"):
        find(artifact.place, STEP)
    other = json.loads(whole) | {"fingerprint": "0" * 64}
    artifact.place.write(MANIFEST, json.dumps(other).encode())
    with pytest.raises(ArtifactError, match="another one"):
        find(artifact.place, STEP)


def test_first_manifest_wins_and_attempts_do_not_mix(place: Place) -> None:
    slow, fast = Draft(place, STEP), Draft(place, STEP)
    a, b = slow.write("x", b"slow"), fast.write("x", b"fast")
    assert a.path != b.path
    winner = fast.commit({"x": b})
    assert slow.commit({"x": a}).read("x") == winner.read("x") == b"fast"


def test_parts_are_taken_over_by_a_later_attempt(place: Place) -> None:
    first = Draft(place, STEP)
    first.finish_part("p0", {"p0": first.write("p0", b"12345")}, {"rows": 5})
    later = Draft(place, STEP)
    finished = later.finished_part("p0")
    assert finished is not None
    entries, facts = finished
    assert facts == {"rows": 5}
    assert later.finished_part("p1") is None
    assert later.commit({"p0": entries["p0"]}).read("p0") == b"12345"
    later.place.delete(entries["p0"].path)
    assert later.finished_part("p0") is None


def test_a_place_travels_and_keeps_its_query() -> None:
    uri = join("s3://b/run?endpoint_override=h:1&scheme=http", "a", "b.json")
    assert uri == "s3://b/run/a/b.json?endpoint_override=h:1&scheme=http"
    assert pickle.loads(pickle.dumps(Place(uri))).uri == uri


def test_unknown_scheme_is_refused() -> None:
    with pytest.raises(ArtifactError, match="not understood"):
        Place("nowhere://x").names()


def test_one_run_at_a_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayscan.lock.HEARTBEAT_SECONDS", 0.3)
    with RunLock(place), pytest.raises(ArtifactError, match="another run"):
        RunLock(place).__enter__()
    with RunLock(place):
        pass


def test_a_lock_that_waits_comes_after_its_holder(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayscan.lock.HEARTBEAT_SECONDS", 0.3)
    monkeypatch.setattr("rayscan.lock.POLL_SECONDS", 0.05)
    order = list[str]()

    def wait() -> None:
        with RunLock(place, wait=True):
            order.append("second")

    second = threading.Thread(target=wait)
    with RunLock(place):
        second.start()
        time.sleep(1.0)  # it looks, and finds it held
        order.append("first")
    second.join(20)
    assert order == ["first", "second"]


def hold(uri: str, ready: multiprocessing.synchronize.Event) -> None:
    with RunLock(Place(uri)):
        ready.set()
        signal.pause()


def test_the_lock_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=hold, args=(str(tmp_path), ready))
    holder.start()
    assert ready.wait(30)
    with pytest.raises(ArtifactError, match=str(holder.pid)):
        RunLock(Place(str(tmp_path))).__enter__()
    holder.kill()
    holder.join()
    with RunLock(Place(str(tmp_path))):
        pass


def test_a_result_that_was_read_twice_is_one_key_of_a_cache(tmp_path: Path) -> None:
    """Workers keep what they made of a result over tasks, which bring it again and again."""
    draft = Draft(Place(str(tmp_path)), step := Step("s", 1, {"a": 1}))
    made = draft.commit({})
    again, elsewhere = find(draft.place, step), replace(made, place=made.place.child("other"))
    assert again == made and hash(again) == hash(made) and again is not made
    assert len({made, again, elsewhere, replace(made, stage="t")}) == 3
