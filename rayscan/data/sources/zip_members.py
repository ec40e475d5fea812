"""The members of a zip archive: where they lie, and what cannot be read. Nothing is extracted.

Layout: PKWARE, .ZIP File Format Specification (APPNOTE) 6.3.10. The directory at the end is read by the
standard library's zipfile, zip64 included; local headers, which say where the bytes begin, are read here.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from rayscan.data.sequential import SequentialFile
from rayscan.errors import DataError
from rayscan.storage import open_file

_LOCAL = struct.Struct("<4s5H3I2H")  # APPNOTE 4.3.7
_SIGNATURE = b"PK\x03\x04"
_IS_ENCRYPTED = 0x1
_METHODS = {
    1: "shrink",
    6: "implode",
    9: "deflate64",
    12: "bzip2",
    14: "lzma",
    93: "zstd",
    95: "xz",
    99: "AES",
}
"""Compression methods that are not read, APPNOTE 4.4.5."""


class ZipMember(NamedTuple):
    """A file in a zip archive."""

    name: str
    header: int
    """First byte of its local header."""
    size: int
    """Bytes, once inflated."""
    packed: int
    """Bytes in the archive."""
    crc32: int
    """Checksum that the archive tells."""
    is_deflated: bool
    refusal: str
    """Why it cannot be read; empty if it can."""
    is_link: bool = False
    """Whether it holds the path that a symbolic link leads to."""


def members(uri: str) -> list[ZipMember]:
    """The files of an archive in the order in which they lie.

    Raises:
        DataError: the archive is damaged, or cannot be read.
    """
    try:
        with open_file(uri) as stream, zipfile.ZipFile(stream) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except (OSError, zipfile.BadZipFile, ValueError, RuntimeError, EOFError) as error:
        raise damaged(uri, 0, f"its directory cannot be read: {error}") from error
    return sorted(map(_member, infos), key=lambda member: member.header)


def _member(info: zipfile.ZipInfo) -> ZipMember:
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    refusal = ""
    if info.flag_bits & _IS_ENCRYPTED:
        refusal = "encrypted"
    elif not deflated and info.compress_type != zipfile.ZIP_STORED:
        refusal = f"compressed by {_METHODS.get(info.compress_type, f'method {info.compress_type}')}"
    return ZipMember(
        info.filename,
        info.header_offset,
        info.file_size,
        info.compress_size,
        info.CRC,
        deflated,
        refusal,
        stat.S_ISLNK(info.external_attr >> 16),
    )


def contents(file: SequentialFile, chosen: list[ZipMember]) -> Iterator[tuple[ZipMember, int, bytes]]:
    """Some members in their order: each with the place of its first packed byte, and its packed bytes.

    Raises:
        DataError: the archive is not what its directory says, or cannot be read.
    """
    for member in chosen:
        if member.header < file.position:
            raise damaged(file.uri, member.header, f"{member.name!a} lies inside another member")
        file.seek_forward(member.header)
        header = file.read(_LOCAL.size)
        if len(header) < _LOCAL.size or header[:4] != _SIGNATURE:
            raise damaged(file.uri, member.header, f"there is no header of {member.name!a}")
        *_, name_bytes, extra_bytes = _LOCAL.unpack(header)
        start = member.header + _LOCAL.size + name_bytes + extra_bytes
        file.seek_forward(start)
        data = file.read(member.packed)
        if len(data) < member.packed:
            raise damaged(
                file.uri, start, f"{member.name!a} has {member.packed:,} bytes, the file ends before"
            )
        yield member, start, data


def inflated(data: bytes, size: int) -> bytes:
    """A deflated member; nothing if it is damaged, or longer than it should be.

    Args:
        data: Packed bytes, and perhaps what comes behind them.
        size: Bytes that it should have.
    """
    try:
        found = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
    except zlib.error:
        return b""
    return found if len(found) == size else b""


def damaged(uri: str, at: int, how: str) -> DataError:
    """The error of an archive that is not whole."""
    return DataError(
        "a zip archive is damaged",
        expected="a whole .zip in one file",
        got=how,
        where=f"{uri} at byte {at:,}",
        fix="copy or pack it again; without that, images would be lost silently",
    )
