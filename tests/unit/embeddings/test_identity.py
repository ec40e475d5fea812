from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from rayscan.artifacts import digest
from rayscan.embeddings import (
    content_identity,
    digest_tasks,
    file_digests,
    hash_piece,
    identity,
    open_vectors,
)
from rayscan.errors import DataError
from rayscan.storage import Place
from tests.unit.embeddings.files import fixed_lists, matrix, npy, npz, parquet, stored


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pieces per file, and reads per piece."""
    monkeypatch.setattr(identity, "PIECE_BYTES", 1000)
    monkeypatch.setattr(identity, "READ_BYTES", 300)


def each(fn, items):
    return [fn(item) for item in items]


def identity_of(spec: str) -> str:
    return content_identity(open_vectors(spec), each)


def test_digests_are_sha256_of_the_pieces(place: Place):
    data = npy(matrix())
    uri = stored(place, "x.npy", data)
    vectors = open_vectors(uri)
    tasks = digest_tasks(vectors)
    assert [(task.first, task.stop) for task in tasks[-2:]] == [(7000, 8000), (8000, len(data))]
    pieces = [hashlib.sha256(data[first : first + 1000]).hexdigest() for first in range(0, len(data), 1000)]
    assert each(hash_piece, tasks) == pieces
    assert file_digests(vectors, pieces) == {uri: digest([len(data), *pieces])}


def test_every_byte_counts(tmp_path: Path):
    path, data = tmp_path / "x.npy", npy(matrix(rows=30))
    path.write_bytes(data)
    seen = {identity_of(str(path))}
    for at in (130, 500, len(data) - 1):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        seen.add(identity_of(str(path)))
    assert len(seen) == 4


def test_names_and_times_do_not_count(tmp_path: Path):
    """But for the fingerprint, which reads nothing."""
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for path in paths:
        path.write_bytes(npy(matrix()))
    first, second = (open_vectors(str(path)) for path in paths)
    content = content_identity(first, each)
    assert content == content_identity(second, each)
    assert first.fingerprint != second.fingerprint
    os.utime(paths[0], ns=(1, 1))
    later = open_vectors(str(paths[0]))
    assert content_identity(later, each) == content
    assert later.fingerprint != first.fingerprint
    assert open_vectors(str(paths[1])).fingerprint == second.fingerprint


def test_order_member_and_keys_count(tmp_path: Path):
    place = Place(str(tmp_path))
    a, b = stored(place, "a.npy", npy(matrix())), stored(place, "b.npy", npy(matrix(seed=1)))
    c = stored(place, "c.npz", npz(x=matrix(), y=matrix(seed=1)))
    specs = [a, f"{a},{b}", f"{b},{a}", f"{c}#x", f"{c}#y"]
    assert len({identity_of(spec) for spec in specs}) == 5
    stored(place, "clip/img_emb/img_emb_0.npy", npy(matrix(rows=2)))
    seen = set()
    for keys in (["a", "b"], ["a", "c"]):
        stored(place, "clip/metadata/metadata_0.parquet", parquet({"key": keys}))
        seen |= {identity_of(f"{tmp_path}/clip"), open_vectors(f"{tmp_path}/clip").fingerprint}
    assert len(seen) == 4
    both = stored(place, "p.parquet", parquet({"id": [1, 2], "emb": fixed_lists(matrix(rows=2))}))
    assert len(digest_tasks(open_vectors(both))) == -(-Path(both).stat().st_size // 1000)


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path):
    path = tmp_path / "x.npy"
    path.write_bytes(npy(matrix()))
    vectors = open_vectors(str(path))
    path.write_bytes(npy(matrix(rows=301)))
    with pytest.raises(DataError, match="changed while it was hashed"):
        content_identity(vectors, each)
    path.write_bytes(npy(matrix())[:5000])
    with pytest.raises(DataError, match="cut short"):
        content_identity(vectors, each)
