"""Files of vectors as other libraries write them, and indexes by hand."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from numpy.typing import NDArray

from rayscan.artifacts import Artifact, Draft, Step
from rayscan.data.table import IMAGE_SCHEMA, IMAGES, SHARDS
from rayscan.storage import Place

Matrix = NDArray[np.floating]


def matrix(rows: int = 300, dim: int = 7, dtype: str = "float32", seed: int = 0) -> Matrix:
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype(dtype)


def npy(x: np.ndarray[Any, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, x, **options)
    return buffer.getvalue()


def npz(**arrays: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npz_compressed(**arrays: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def parquet(table: pa.Table | Mapping[str, Any], row_group_size: int = 64) -> bytes:
    sink = pa.BufferOutputStream()
    table = table if isinstance(table, pa.Table) else pa.table(dict(table))
    pq.write_table(table, sink, row_group_size=row_group_size)
    return bytes(sink.getvalue())


def lists(x: Matrix) -> pa.Array:
    return pa.array(list(x), pa.list_(pa.from_numpy_dtype(x.dtype)))


def large_lists(x: Matrix) -> pa.Array:
    return pa.array(list(x), pa.large_list(pa.from_numpy_dtype(x.dtype)))


def fixed_lists(x: Matrix) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])


def tensors(x: Matrix) -> pa.Array:
    kind = pa.fixed_shape_tensor(pa.from_numpy_dtype(x.dtype), (x.shape[1],))
    return pa.ExtensionArray.from_storage(kind, fixed_lists(x))


WRITERS: dict[str, tuple[str, Callable[[Matrix], bytes]]] = {
    "npy": ("x.npy", npy),
    "npz": ("x.npz", lambda x: npz(features=x, labels=np.arange(len(x)), other=x[:, :3])),
    "npz, the only one": ("x.npz", lambda x: npz(whatever=x, labels=np.arange(len(x)))),
    "npz, compressed": ("x.npz", lambda x: npz_compressed(labels=np.arange(len(x)), embeddings=x)),
    "safetensors": (
        "x.safetensors",
        lambda x: safetensors.numpy.save({"a": np.arange(5), "z": x, "b": x[0]}, {"by": "test"}),
    ),
    "parquet, lists": ("x.parquet", lambda x: parquet({"id": range(len(x)), "clip": lists(x)})),
    "parquet, large lists": ("x.pq", lambda x: parquet({"emb": large_lists(x), "other": lists(x)})),
    "parquet, fixed lists": ("x.parquet", lambda x: parquet({"vector": fixed_lists(x)})),
    "parquet, tensors": ("x.parquet", lambda x: parquet({"t": tensors(x), "n": range(len(x))})),
}
"""Format -> name of the file, and who writes it."""


def stored(place: Place, name: str, data: bytes) -> str:
    """The address of a file with these bytes."""
    place.write(name, data)
    return place.uri_of(name)


def index(
    place: Place,
    *,
    ids: Sequence[str | None] | None = None,
    sources: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    bad: Sequence[int] = (),
    num_eval: int = 0,
    rows: int = 0,
) -> Artifact:
    """An index of images that are named but not there."""
    count = len(ids or sources or keys or range(rows))
    columns: dict[str, Any] = {name: [0] * count for name in IMAGE_SCHEMA.names}
    columns |= {
        "gid": range(count),
        "split": ["train"] * (count - num_eval) + ["eval"] * num_eval,
        "key": keys or [f"key{n}" for n in range(count)],
        "source": sources or [f"/photos/{n}.jpg" for n in range(count)],
        "id": ids or [None] * count,
        "status": ["broken" if gid in bad else "ok" for gid in range(count)],
    }
    draft = Draft(place, Step("index", 1, {"of": "test", "rows": count}))
    files = {
        IMAGES: draft.write_table(IMAGES, pa.table(columns, IMAGE_SCHEMA)),
        SHARDS: draft.write_table(SHARDS, pa.table({"uri": ["x"], "bytes": [0], "sha256": [""]})),
    }
    return draft.commit(files)
