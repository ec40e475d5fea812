from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rayscan.embeddings import open_vectors
from rayscan.errors import ConfigError, DataError, RayscanError
from tests.unit.embeddings.files import fixed_lists, lists, matrix, npy, npz, npz_compressed, parquet

X = matrix(rows=20)


def safetensors(head: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(dtype: str, shape: list[int], first: int, stop: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, stop]}


def tensors(data: bytes = b"", **head: object) -> bytes:
    return safetensors(head, data)


def damaged_member() -> bytes:
    data = bytearray(npz_compressed(x=matrix(rows=2000)))
    data[1000:1100] = b"\0" * 100
    return bytes(data)


def ragged(row: list[float] | None, wide: int = 3) -> bytes:
    rows: list[list[float | None] | None] = [[1.0] * wide] * 70
    rows[65] = row
    return parquet({"emb": pa.array(rows, pa.list_(pa.float32()))})


OPENED: dict[str, tuple[str, bytes, type[RayscanError], str]] = {
    # npy
    "pickle": ("x.npy", npy(np.array([{}, 1], object)), DataError, "a pickle, which runs code"),
    "vector": ("x.npy", npy(X[0]), DataError, r"two dimensions.*\n.*1, \[7\]"),
    "3-D": ("x.npy", npy(X[None]), DataError, r"3, \[1, 20, 7\]"),
    "integers": ("x.npy", npy(X.astype(np.int8)), DataError, r"float16, bfloat16.*\n.*\|i1"),
    "complex": ("x.npy", npy(X.astype(np.complex64)), DataError, "<c8"),
    "big-endian": ("x.npy", npy(X.astype(">f4")), DataError, r"little-endian\n.*>f4.*\n(.*\n)*.*astype"),
    "by columns": (
        "x.npy",
        npy(np.asfortranarray(X)),
        DataError,
        r"Fortran order, 20 x 7(.*\n)*.*ascontiguous",
    ),
    "no rows": ("x.npy", npy(X[:0]), DataError, r"0 x 7"),
    "no columns": ("x.npy", npy(X[:, :0]), DataError, r"20 x 0"),
    "no bytes": ("x.npy", b"", DataError, "0 bytes"),
    "truncated": ("x.npy", npy(X)[:-1], DataError, r"cut short\n.*688 bytes.*\n.*687"),
    "truncated head": ("x.npy", npy(X)[:50], DataError, "no .npy that can be read"),
    "two arrays": ("x.npy", npy(X) + npy(X), DataError, r"goes on after.*\n.*688.*\n.*1,376"),
    "text": ("x.npy", b"1,2,3\n", DataError, "no .npy that can be read"),
    # npz
    "no zip": ("x.npz", b"PK\3\4 not", DataError, "no .npz that can be read"),
    "truncated zip": ("x.npz", npz(x=X)[:-30], DataError, "no .npz that can be read"),
    "two matrices": ("x.npz", npz(a=X, b=X), ConfigError, r"several arrays.*\n(.*\n)*.*a, b(.*\n)*.*npz#a"),
    "two names": ("x.npz", npz(features=X, embeddings=X, c=X), ConfigError, "features, embeddings"),
    "no matrix": ("x.npz", npz(labels=np.arange(3)), DataError, r"holds no vectors\n.*\n.*labels"),
    "integers in npz": ("x.npz", npz(features=np.ones((3, 2), int)), DataError, "<i8"),
    "objects in npz": ("x.npz", npz(features=np.array([[{}]], object)), DataError, "pickle"),
    "by columns in npz": ("x.npz", npz(x=np.asfortranarray(X)), DataError, "Fortran order"),
    # safetensors
    "no head": ("x.safetensors", b"abc", DataError, "no .safetensors"),
    "long head": ("x.safetensors", safetensors({}, length=10**12), DataError, "1,000,000,000,000 bytes"),
    "no JSON": ("x.safetensors", struct.pack("<Q", 4) + b"nope", DataError, "no .safetensors"),
    "a list": ("x.safetensors", safetensors([1]), DataError, "no .safetensors"),
    "negative": (
        "x.safetensors",
        tensors(a=tensor("F32", [2, -1], 0, 8)),
        DataError,
        "data_offsets",
    ),
    "offsets": (
        "x.safetensors",
        tensors(a=tensor("F32", [2, 1], 0, 9), data=b"0" * 9),
        DataError,
        "8 bytes",
    ),
    "short": (
        "x.safetensors",
        tensors(a=tensor("F32", [2, 1], 0, 8), data=b"0" * 7),
        DataError,
        "cut short",
    ),
    "int8": ("x.safetensors", safetensors({"emb": tensor("I8", [2, 1], 0, 2)}, b"00"), DataError, "I8"),
    "no tensors": ("x.safetensors", safetensors({}), DataError, "nothing"),
    # Parquet
    "no Parquet": ("x.parquet", b"PAR1PAR1", DataError, "Parquet file cannot be read"),
    "truncated Parquet": (
        "x.parquet",
        parquet({"a": lists(X)})[:-9],
        DataError,
        "Parquet file cannot be read",
    ),
    "several columns": (
        "x.parquet",
        parquet({"a": lists(X), "b": fixed_lists(X)}),
        ConfigError,
        r"several columns.*\n(.*\n)*.*a, b(.*\n)*.*parquet#a",
    ),
    "integer lists": ("x.parquet", parquet({"emb": [[1, 2], [3, 4]]}), DataError, "int64"),
    "no lists": (
        "x.parquet",
        parquet({"id": ["a"], "emb": [1.0]}),
        DataError,
        r"holds no vectors\n.*\n.*id, emb",
    ),
    "no rows in Parquet": ("x.parquet", parquet({"a": lists(X[:0])}), DataError, "0 x 0"),
    "empty lists": ("x.parquet", parquet({"a": pa.array([[]], pa.list_(pa.float32()))}), DataError, "1 x 0"),
    "tensor of 2-D": (
        "x.parquet",
        parquet({"a": pa.array([[[1.0]]], pa.list_(pa.list_(pa.float32())))}),
        DataError,
        "holds no vectors",
    ),
    # names
    "pickled tensors": ("x.pt", b"x", DataError, r"a pickle runs code(.*\n)*.*numpy.save"),
    "unknown": ("x.csv", b"1,2", DataError, r"no file of vectors\n.*\.npy \.npz \.safetensors \.parquet"),
}


@pytest.mark.parametrize("case", OPENED)
def test_what_is_refused_at_once(tmp_path: Path, case: str):
    name, data, error, message = OPENED[case]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(error, match=message) as caught:
        open_vectors(str(path))
    assert type(caught.value) is error
    assert str(path) in caught.value.text


READ: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "no vector": ("x.parquet", lambda: ragged(None), r"null in row 65\b"),
    "too short": ("x.parquet", lambda: ragged([1.0]), r"3 numbers.*\n.*1 in row 65\b"),
    "too long": ("x.parquet", lambda: ragged([1.0] * 4), r"4 in row 65\b"),
    "null": ("x.parquet", lambda: ragged([1.0, 2.0, None]), r"null in row 65, column 2"),
    "null vector of fixed size": (
        "x.parquet",
        lambda: parquet({"emb": pa.array([[1.0], None], pa.list_(pa.float32(), 1))}),
        "null in row 1",
    ),
    "damaged": ("x.npz", damaged_member, "cannot be inflated"),
}


@pytest.mark.parametrize("case", READ)
def test_what_is_refused_when_it_is_read(tmp_path: Path, case: str):
    name, data, message = READ[case]
    path = tmp_path / name
    path.write_bytes(data())
    opened = open_vectors(str(path))
    with pytest.raises(DataError, match=message) as caught:
        opened.read(0, opened.rows)
    assert str(path) in caught.value.text


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_that_ends_early_is_refused(tmp_path: Path, compression: int):
    """Its head promises more than the archive says it holds."""
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x.npy", npy(X).replace(b"(20, 7)", b"(90, 7)"))
    with pytest.raises(DataError, match="cut short"):
        open_vectors(str(path))


def test_a_member_that_is_not_there_is_refused(tmp_path: Path):
    (tmp_path / "x.npz").write_bytes(npz(a=X, b=X[:, :2]))
    (tmp_path / "x.npy").write_bytes(npy(X))
    with pytest.raises(ConfigError, match=r"no array of this name\n +expected: a or b\n +got: +c"):
        open_vectors(f"{tmp_path}/x.npz#c")
    with pytest.raises(ConfigError, match=r"has no members"):
        open_vectors(f"{tmp_path}/x.npy#c")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "no file of vectors"),
        (" ", "no file of vectors"),
        ("a\0b", "no file of vectors"),
        ("https://host/x.npy", "web addresses"),
        ("s3://key:secret@bucket/x.npy", "carries credentials"),
        ("s3://bucket/x.npy?secret_key=abc", "carries credentials"),
    ],
)
def test_what_is_no_address_is_refused(spec: str, message: str):
    with pytest.raises(ConfigError, match=message) as caught:
        open_vectors(spec)
    assert "secret@" not in caught.value.text
    assert "abc" not in caught.value.text
