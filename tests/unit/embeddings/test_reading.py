from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch

from rayscan import storage
from rayscan.embeddings import byte_rows, forward_rows, open_vectors, vectors
from rayscan.embeddings.formats import npz, parquet
from rayscan.errors import DataError
from rayscan.storage import Place, RemoteFile
from tests.unit.embeddings import files
from tests.unit.embeddings.files import WRITERS, matrix, stored


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a few rows, so that small files have many."""
    monkeypatch.setattr(npz, "PIECE_BYTES", 150)
    monkeypatch.setattr(parquet, "PIECE_BYTES", 150)
    monkeypatch.setattr(forward_rows, "MOST_SKIPPED", 20)
    monkeypatch.setattr(byte_rows, "LOCAL_GAP", 40)
    monkeypatch.setattr(byte_rows, "REMOTE_GAP", 40)
    monkeypatch.setattr(byte_rows, "LONGEST_LOCAL_READ", 900)
    monkeypatch.setattr(byte_rows, "LONGEST_REMOTE_READ", 900)
    vectors._opened.cache_clear()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("kind", WRITERS)
def test_rows_by_range_and_number_equal_numpy(place: Place, kind: str, dtype: str):
    name, write = WRITERS[kind]
    x = matrix(dtype=dtype)
    opened = open_vectors(stored(place, name, write(x)))
    assert (opened.rows, opened.dim, opened.dtype) == (300, 7, dtype)
    expected = x.astype(np.float32)
    for first, stop in [(0, 300), (0, 0), (63, 65), (200, 280), (1, 2), (150, 299), (299, 300), (10, 60)]:
        got = opened.read(first, stop)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, expected[first:stop])
    rng = np.random.default_rng(1)
    for numbers in (rng.integers(0, 300, 90), rng.permutation(300), np.array([299]), np.empty(0, np.int64)):
        np.testing.assert_array_equal(opened.take(numbers), expected[numbers])


def test_bfloat16_equals_torch(tmp_path: Path):
    x = torch.from_numpy(matrix()).to(torch.bfloat16)
    x[3, 2], x[4, 1], x[5, 0] = float("inf"), float("nan"), -0.0
    x[6, 0] = 1e-39  # below the normal range
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file({"embeddings": x}, path)
    opened = open_vectors(str(path))
    assert opened.dtype == "bfloat16"
    np.testing.assert_array_equal(
        opened.read(0, 300).view(np.uint32), x.to(torch.float32).numpy().view(np.uint32)
    )


def test_numbers_too_large_for_float32_are_infinite(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.array([[1e300, 1.0], [1e-300, 2.0]]))
    got = open_vectors(str(tmp_path / "x.npy")).read(0, 2)
    np.testing.assert_array_equal(got, np.array([[np.inf, 1], [0, 2]], np.float32))


def test_several_files_are_one_matrix(place: Place):
    x = matrix(rows=90)
    for number, rows in enumerate(np.split(x, [20, 21, 70])):
        stored(place, f"part-{number}.npy", files.npy(rows))
    opened = open_vectors(place.uri_of("part-*.npy"))
    np.testing.assert_array_equal(opened.read(0, 90), x)
    np.testing.assert_array_equal(opened.read(19, 71), x[19:71])
    numbers = np.random.default_rng(2).integers(0, 90, 50)
    np.testing.assert_array_equal(opened.take(numbers), x[numbers])
    for some in ([5, 3, -1, 19], [75, 80], [20, -1, 89, 0], [-1, -1], [21, 69, 21]):
        rows = np.array(some, np.int64)
        kept, local = opened.only(rows)
        assert len(kept.files) == max(
            1, len({int(np.searchsorted([20, 21, 70], r, "right")) for r in rows if r >= 0})
        )
        np.testing.assert_array_equal(local < 0, rows < 0)
        np.testing.assert_array_equal(kept.take(local[local >= 0]), x[rows[rows >= 0]])


def test_travels_without_its_rows(tmp_path: Path):
    x = matrix(rows=5000)
    np.save(tmp_path / "x.npy", x)
    opened = open_vectors(str(tmp_path / "x.npy"))
    opened.read(0, 5000)
    data = pickle.dumps(opened)
    assert len(data) < 2000 < x.nbytes
    np.testing.assert_array_equal(pickle.loads(data).read(7, 9), x[7:9])


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_a_store_gives_only_the_bytes_that_are_asked_for(
    s3_uri: str, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
):
    x = matrix(rows=50_000)
    name, write = WRITERS[kind]
    opened = open_vectors(stored(Place(s3_uri).child(tmp_path.name), name, write(x)))
    asked: list[tuple[int, int]] = []
    read = RemoteFile.read

    def counting(self: RemoteFile, first: int, stop: int) -> bytes:
        asked.append((first, stop))
        return read(self, first, stop)

    monkeypatch.setattr(RemoteFile, "read", counting)
    row = 7 * 4
    np.testing.assert_array_equal(opened.read(30_000, 30_100), x[30_000:30_100])
    assert [stop - first for first, stop in asked] == [100 * row]
    asked.clear()
    np.testing.assert_array_equal(
        opened.take(np.array([49_000, 10, 12, 30_000])), x[[49_000, 10, 12, 30_000]]
    )
    assert sorted(stop - first for first, stop in asked) == [row, row, 3 * row]  # 10..12 are read together


def test_row_groups_that_are_not_asked_for_are_not_read(tmp_path: Path):
    x = matrix()
    path = tmp_path / "x.parquet"
    data = files.parquet({"emb": files.fixed_lists(x)}, row_group_size=100)
    path.write_bytes(data[:4] + b"\xff" * 60 + data[64:])  # the head of the first page
    opened = open_vectors(str(path))
    np.testing.assert_array_equal(opened.read(100, 300), x[100:])
    np.testing.assert_array_equal(opened.take(np.array([250, 120])), x[[250, 120]])
    with pytest.raises(DataError, match="cannot be read"):
        opened.read(0, 10)


def test_row_groups_between_are_not_read(tmp_path: Path):
    x = matrix()
    path = tmp_path / "x.parquet"
    data = bytearray(files.parquet({"emb": files.fixed_lists(x)}, row_group_size=100))
    at = pq.ParquetFile(pa.BufferReader(bytes(data))).metadata.row_group(1).column(0).data_page_offset
    data[at : at + 60] = b"\xff" * 60
    path.write_bytes(data)
    opened = open_vectors(str(path))
    np.testing.assert_array_equal(opened.read(10, 20), x[10:20])
    np.testing.assert_array_equal(opened.read(200, 300), x[200:])
    np.testing.assert_array_equal(opened.take(np.array([3, 250])), x[[3, 250]])
    for _ in range(2):  # a reader that failed begins anew
        with pytest.raises(DataError, match="cannot be read"):
            opened.read(90, 110)
        np.testing.assert_array_equal(opened.read(90, 100), x[90:100])


def test_a_row_that_is_refused_is_refused_again(tmp_path: Path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"emb": [[1.0, 2.0], [1.0]]}), path)
    opened = open_vectors(str(path))
    for _ in range(2):
        with pytest.raises(DataError, match="1 in row 1"):
            opened.read(0, 1)


def test_reading_on_continues_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A compressed member is inflated once, not once per part."""
    x = matrix()
    (tmp_path / "x.npz").write_bytes(files.npz_compressed(features=x))
    opened, begun = open_vectors(str(tmp_path / "x.npz")), []
    inflated = npz._inflated
    monkeypatch.setattr(npz, "_inflated", lambda file: begun.append(1) or inflated(file))
    got = np.concatenate([opened.read(first, first + 30) for first in range(0, 300, 30)])
    np.testing.assert_array_equal(got, x)
    assert len(begun) == 1
    np.testing.assert_array_equal(opened.read(0, 3), x[:3])
    assert len(begun) == 2


def test_a_file_that_changes_is_refused(tmp_path: Path):
    path = tmp_path / "x.npy"
    np.save(path, matrix())
    opened = open_vectors(str(path))
    np.save(path, matrix(rows=301))
    with pytest.raises(DataError, match="changed while it was in use"):
        opened.read(0, 3)
    path.unlink()
    with pytest.raises(DataError, match="no file"):
        opened.take(np.array([3]))


def test_a_file_cut_short_behind_our_back_is_refused(tmp_path: Path):
    path = tmp_path / "x.npy"
    np.save(path, matrix())
    opened = open_vectors(str(path))
    opened.read(0, 1)  # it is open now
    with path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(DataError, match="cut short"):
        opened.read(250, 300)


def test_rows_outside_are_refused(tmp_path: Path):
    np.save(tmp_path / "x.npy", matrix())
    opened = open_vectors(str(tmp_path / "x.npy"))
    for call in (
        lambda: opened.read(299, 301),
        lambda: opened.read(-1, 2),
        lambda: opened.take(np.array([0, 300])),
        lambda: opened.take(np.array([-1])),
    ):
        with pytest.raises(DataError, match=r"outside the vectors\n +expected: 0\.\.300"):
            call()


def test_torch_is_not_needed(tmp_path: Path):
    """Not even for bfloat16."""
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file({"x": torch.ones(3, 2, dtype=torch.bfloat16)}, path)
    code = (
        "import sys; from rayscan.embeddings import open_vectors; "
        f"assert open_vectors({str(path)!r}).read(0, 3).sum() == 6; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_files_of_features_that_are_at_hand(shared_data: Path):
    path = shared_data / "features" / "blood_pbc_lite0.npz"
    if not path.is_file():
        pytest.skip("needs ../shared/data/features")
    opened = open_vectors(str(path))
    with np.load(path, allow_pickle=False) as stored_arrays:
        x = stored_arrays["features"]
    assert (opened.rows, opened.dim, opened.dtype) == (3998, 1280, "float16")
    np.testing.assert_array_equal(opened.read(1000, 1100), x[1000:1100].astype(np.float32))
    assert storage.is_local(opened.files[0].uri)
