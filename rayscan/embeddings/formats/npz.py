"""Vectors in a `.npz`, a zip of `.npy`: stored members are read by position, compressed ones forwards."""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import BinaryIO

import numpy as np

from rayscan.embeddings.byte_rows import ByteRows
from rayscan.embeddings.file_bytes import FileBytes, require_unchanged
from rayscan.embeddings.formats.base import NAMES, Format, choose
from rayscan.embeddings.formats.npy import read_head, require_rows
from rayscan.embeddings.forward_rows import ForwardRows, Pieces
from rayscan.embeddings.number_types import NUMBER_TYPES
from rayscan.embeddings.vector_file import SCATTERED, Rows, VectorFile, cut_short
from rayscan.errors import DataError
from rayscan.storage import FileInfo, open_file

PIECE_BYTES = 4 << 20
"""Bytes inflated at a time."""
_LOCAL_HEAD = struct.Struct("<4s22xHH")
"""Head of a member: its mark, and the lengths of name and extra field (APPNOTE 4.3.7)."""
_FLOATS = "fV"


class Npz(Format):
    """Several arrays per file."""

    name = "npz"
    suffixes = (".npz",)

    def head(self, info: FileInfo, member: str) -> VectorFile:
        """See `Format.head`."""
        try:
            with open_file(info.uri) as stream, zipfile.ZipFile(stream) as archive:
                return _head(archive, info, member)
        except (zipfile.BadZipFile, EOFError, OSError, RuntimeError) as error:
            raise DataError(
                "this is no .npz that can be read",
                expected="arrays as numpy.savez writes them",
                got=error,
                where=info.uri,
                fix="copy or write it again",
            ) from error

    def rows(self, file: VectorFile) -> Rows:
        """See `Format.rows`."""
        if file.begin != SCATTERED:
            return ByteRows(file)
        require_unchanged(file)
        return ForwardRows(file, lambda _: 0, lambda _: _inflated(file))


def _head(archive: zipfile.ZipFile, info: FileInfo, member: str) -> VectorFile:
    matrices: list[str] = []
    others: list[str] = []
    for name in archive.namelist():
        if name.endswith(".npy"):
            with archive.open(name) as stream:
                head = read_head(_as_binary(stream), f"{info.uri}#{name}")
            array = name.removesuffix(".npy")
            is_matrix = len(head.shape) == 2 and (head.dtype.kind in _FLOATS or array in NAMES)
            (matrices if is_matrix else others).append(array)
    chosen = choose(matrices, others, member, "array", info.uri)
    where, entry = f"{info.uri}#{chosen}", archive.getinfo(f"{chosen}.npy")
    with archive.open(entry) as stream:
        head = read_head(_as_binary(stream), where)
    rows, dim, dtype = require_rows(head, where)
    expected = head.size + rows * dim * NUMBER_TYPES[dtype].itemsize
    if entry.file_size != expected:
        raise cut_short(where, expected, entry.file_size)
    begin = SCATTERED
    if entry.compress_type == zipfile.ZIP_STORED:
        begin = _first_byte(info, entry) + head.size
        if begin + expected - head.size > info.size:
            raise cut_short(where, begin + expected - head.size, info.size)
    return VectorFile(info.uri, info.size, info.mtime_ns, Npz.name, chosen, rows, dim, dtype, begin)


def _first_byte(info: FileInfo, entry: zipfile.ZipInfo) -> int:
    """First byte of what a stored member holds."""
    at = entry.header_offset
    _, name, extra = _LOCAL_HEAD.unpack(FileBytes(info).read(at, at + _LOCAL_HEAD.size))
    return int(at + _LOCAL_HEAD.size + name + extra)


def _inflated(file: VectorFile) -> Pieces:
    """All rows of a compressed member, some at a time."""
    kind = file.number_type
    row_bytes = file.dim * kind.itemsize
    step = max(1, PIECE_BYTES // row_bytes) * row_bytes
    with (
        open_file(file.uri) as stream,
        zipfile.ZipFile(stream) as archive,
        archive.open(f"{file.member}.npy") as member,
    ):
        read_head(_as_binary(member), file.where)
        try:
            while data := member.read(step):
                whole = np.frombuffer(data[: len(data) // row_bytes * row_bytes], kind.stored)
                yield kind.as_float32(whole.reshape(-1, file.dim))
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DataError(
                "vectors cannot be inflated", expected="a whole member", got=error, where=file.where
            ) from error


def _as_binary(stream: object) -> BinaryIO:
    """A member as a binary stream, which it is but for its declared type."""
    return stream  # type: ignore[return-value]
