"""The members of a tar in their order, read forwards, never extracted. `sources.tar` builds on it.

The webdataset library, and tarfile under it, end without an error when a tar was cut at a member or in a
header; the images behind the cut are lost silently. Here everything that could lose one is an error.
"""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rayscan.data.sequential import READ_BYTES, SequentialFile
from rayscan.errors import DataError

BLOCK = 512
MAX_NOTE = 1 << 20
"""Bytes of an extension header; names and numbers need a few hundred."""
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_NOTES = (*_LONG_NAMES, *_PAX, tarfile.XGLTYPE)
_LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)
_DEVICES = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
_WITHOUT_CONTENT = (tarfile.DIRTYPE, *_LINKS, *_DEVICES)
_RESERVED = re.compile(r"__[^/]*__($|/)")


class Member(NamedTuple):
    """A regular file in a tar, or a link to one."""

    name: str
    offset: int
    """First byte of its content in the tar."""
    length: int
    """Bytes; 0 for a link."""
    link: str | None = None
    """For a hard or symbolic link, the name of the member it stands for, as `normalized` gives it."""

    @property
    def key_and_extension(self) -> tuple[str, str] | None:
        """Sample key and lower-case extension; None for reserved, hidden and bare names."""
        folder, slash, base = self.name.rpartition("/")
        stem, dot, extension = base.partition(".")
        if not stem or not dot or _RESERVED.match(self.name):
            return None
        return folder + slash + stem, extension.lower()


def members(file: SequentialFile) -> Iterator[Member]:
    """Regular files and links of a tar in their order; content may be read while each is at hand.

    Raises:
        DataError: the tar is cut, damaged, or goes on after its end mark.
    """
    notes: dict[str, str] = {}  # what extension headers say of the member after them
    while (info := _header(file)) is not None:
        start, is_note = file.position, info.type in _NOTES
        length = info.size if is_note else int(notes.get("size", info.size))
        length = 0 if info.type in _WITHOUT_CONTENT else length
        stop = start + -(-length // BLOCK) * BLOCK
        if is_note and length > MAX_NOTE:
            raise damaged(
                file, start, f"an extension header of {length:,} bytes, at most {MAX_NOTE:,} are read"
            )
        if length < 0 or stop > file.size:
            raise damaged(file, start, f"{info.name!a} has {length:,} bytes, the file ends at {file.size:,}")
        if is_note:
            notes |= _note(file, info)
        else:
            if info.type == tarfile.GNUTYPE_SPARSE or any(name.startswith("GNU.sparse") for name in notes):
                raise damaged(file, start, f"{info.name!a} is sparse: its bytes are not in one piece")
            if info.type in (*_REGULAR, *_LINKS):
                name = storable(notes.get("path", info.name))
                yield Member(name, start, length, _target(name, info, notes))
            notes = {}
        file.seek_forward(stop)
    if file.read(BLOCK) != bytes(BLOCK):
        raise damaged(file, file.position, "one zero block at the end, not two")
    while rest := file.read(READ_BYTES):
        if rest.count(0) != len(rest):
            raise damaged(file, file.position - len(rest), "it goes on after its end mark, as joined tars do")


def normalized(name: str) -> str:
    """A name of a member without `./` and `..`: one spelling per member."""
    return posixpath.normpath(name).lstrip("/")


def _target(name: str, info: tarfile.TarInfo, notes: Mapping[str, str]) -> str | None:
    """What a link stands for: a hard link names a member, a symbolic one a path from its own folder."""
    if info.type not in _LINKS:
        return None
    target = storable(notes.get("linkpath", info.linkname))
    folder = posixpath.dirname(name) if info.type == tarfile.SYMTYPE else ""
    return normalized(posixpath.join(folder, target))


def _header(file: SequentialFile) -> tarfile.TarInfo | None:
    at, header = file.position, file.read(BLOCK)
    if header == bytes(BLOCK):
        return None
    if not header:
        raise damaged(file, at, "it ends without its two zero blocks, cut between two members")
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise damaged(file, at, f"no member header: {error}") from error


def _note(file: SequentialFile, info: tarfile.TarInfo) -> dict[str, str]:
    """What an extension header says: GNU long names and pax records (POSIX.1-2001) of path and size."""
    data = file.read(info.size)
    if info.type in _LONG_NAMES:
        return {
            "path" if info.type == tarfile.GNUTYPE_LONGNAME else "linkpath": data.rstrip(b"\0").decode(
                "utf-8", "surrogateescape"
            )
        }
    if info.type not in _PAX:
        return {}
    records: dict[str, str] = {}
    while data.strip(b"\0"):
        digits, _, rest = data.partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        name, is_record, value = data[len(digits) + 1 : length - 1].partition(b"=")
        if not is_record or not rest or length <= len(digits):
            raise damaged(file, file.position, "a pax header cannot be read")
        records[name.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        data = data[length:]
    if not records.get("size", "0").isdigit():
        raise damaged(file, file.position, "a pax header cannot be read")
    return records


def storable(name: str) -> str:
    """A name as Parquet can hold it: bytes that are not UTF-8 as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def damaged(file: SequentialFile, at: int, how: str) -> DataError:
    """The error of a shard that is not whole."""
    return DataError(
        "a tar shard is damaged",
        expected="a whole tar, as webdataset writes it",
        got=how,
        where=f"{file.uri} at byte {at:,}",
        fix="copy or write this shard again; without that, images would be lost silently",
    )
