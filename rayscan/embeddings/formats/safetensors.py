"""Vectors in a `.safetensors`: the length of a JSON head, the head, then tensors. torch is not needed."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

from rayscan.embeddings.byte_rows import ByteRows
from rayscan.embeddings.file_bytes import FileBytes
from rayscan.embeddings.formats.base import NAMES, Format, choose
from rayscan.embeddings.number_types import NUMBER_TYPES
from rayscan.embeddings.vector_file import VectorFile, cut_short, refuse_type, require_matrix
from rayscan.errors import DataError
from rayscan.storage import FileInfo

MOST_HEAD_BYTES = 100_000_000
"""The format allows no longer head."""
_LENGTH = struct.Struct("<Q")
_TYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


class SafeTensors(Format):
    """Several tensors per file."""

    name = "safetensors"
    suffixes = (".safetensors",)

    def head(self, info: FileInfo, member: str) -> VectorFile:
        """See `Format.head`."""
        tensors, begin = _tensors(info)
        matrices = [
            name
            for name, one in tensors.items()
            if len(one["shape"]) == 2 and (one["dtype"] in _TYPES or name in NAMES)
        ]
        chosen = choose(matrices, [n for n in tensors if n not in matrices], member, "tensor", info.uri)
        where, tensor = f"{info.uri}#{chosen}", tensors[chosen]
        rows, dim = require_matrix(tensor["shape"], where)
        if tensor["dtype"] not in _TYPES:
            raise refuse_type(tensor["dtype"], where)
        dtype = _TYPES[tensor["dtype"]]
        first, stop = tensor["data_offsets"]
        size = rows * dim * NUMBER_TYPES[dtype].itemsize
        if stop - first != size:
            raise cut_short(where, size, stop - first)
        if info.size < begin + stop:
            raise cut_short(where, begin + stop, info.size)
        at = begin + first
        return VectorFile(info.uri, info.size, info.mtime_ns, self.name, chosen, rows, dim, dtype, begin=at)

    def rows(self, file: VectorFile) -> ByteRows:
        """See `Format.rows`."""
        return ByteRows(file)


def _tensors(info: FileInfo) -> tuple[dict[str, Mapping[str, Any]], int]:
    """What the head says of each tensor, and the byte that offsets are counted from."""
    stored = FileBytes(info)
    try:
        (length,) = _LENGTH.unpack(stored.read(0, min(info.size, _LENGTH.size)))
        if length > min(MOST_HEAD_BYTES, info.size - _LENGTH.size):
            raise ValueError(f"a head of {length:,} bytes in a file of {info.size:,}")
        head = json.loads(stored.read(_LENGTH.size, _LENGTH.size + length))
        tensors = {name: _checked(one) for name, one in head.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error) as error:
        raise DataError(
            "this is no .safetensors that can be read",
            expected="a JSON head with dtype, shape and data_offsets of each tensor",
            got=repr(error),
            where=info.uri,
            fix="copy or write it again",
        ) from error
    return tensors, _LENGTH.size + length


def _checked(tensor: Mapping[str, Any]) -> Mapping[str, Any]:
    first, stop = tensor["data_offsets"]
    numbers = [first, stop, *tensor["shape"]]
    if not isinstance(tensor["dtype"], str) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError(f"dtype, shape or data_offsets {tensor}")
    return tensor
