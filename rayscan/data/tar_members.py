"""The members of a tar in their order, read forwards, never extracted. `tar_index` and `labels` walk on it.

The webdataset library, and tarfile under it, end without an error when a tar was cut at a member or in a
header; the images behind the cut are lost silently. Here everything that could lose one is an error.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Self, cast

from rayscan.data.addresses import local_path, locate
from rayscan.errors import DataError

BLOCK = 512
MAX_NOTE = 1 << 20
"""Bytes of an extension header; names and numbers need a few hundred."""
LOCAL_BUFFER = 1 << 20
REMOTE_BUFFER = 8 << 20
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_NOTES = (*_LONG_NAMES, *_PAX, tarfile.XGLTYPE)
_DEVICES = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
_WITHOUT_CONTENT = (tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, *_DEVICES)
_RESERVED = re.compile(r"__[^/]*__($|/)")


class Member(NamedTuple):
    """A regular file in a tar."""

    name: str
    offset: int
    """First byte of its content in the tar."""
    length: int
    """Bytes."""

    @property
    def key_and_extension(self) -> tuple[str, str] | None:
        """Sample key and lower-case extension; None for reserved, hidden and bare names."""
        folder, slash, base = self.name.rpartition("/")
        stem, dot, extension = base.partition(".")
        if not stem or not dot or _RESERVED.match(self.name):
            return None
        return folder + slash + stem, extension.lower()


class Tape:
    """A file read forwards, with its position and, if asked, a running sha256 of all that passed."""

    def __init__(self, uri: str, *, is_hashing: bool = False) -> None:
        """Open a local or remote file.

        Raises:
            DataError: it cannot be opened.
        """
        self.uri, self.position = uri, 0
        self._hash = hashlib.sha256() if is_hashing else None
        try:
            if (path := local_path(uri)) is not None:
                self._stream = cast(io.BufferedReader, path.open("rb", buffering=LOCAL_BUFFER))
            else:
                filesystem, name = locate(uri)
                self._stream = io.BufferedReader(filesystem.open_input_file(name), REMOTE_BUFFER)
            self.size = self._stream.seek(0, io.SEEK_END)
            self._stream.seek(0)
        except OSError as error:
            raise DataError(
                "a shard cannot be opened", expected="a readable file", got=error, where=uri
            ) from error

    def __enter__(self) -> Self:
        """Use as a context."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Close the file."""
        self._stream.close()

    def read(self, length: int) -> bytes:
        """The next bytes; fewer only at the end of the file.

        Raises:
            DataError: the storage fails.
        """
        try:
            data = self._stream.read(length)
        except OSError as error:
            raise DataError(
                "a shard cannot be read", got=error, where=f"{self.uri} at {self.position:,}"
            ) from error
        self.position += len(data)
        if self._hash is not None:
            self._hash.update(data)
        return data

    def forward(self, position: int) -> None:
        """Go on to a later position."""
        if self._hash is None:
            self.position = self._stream.seek(position)
        while self.position < position and self.read(min(LOCAL_BUFFER, position - self.position)):
            pass

    @property
    def sha256(self) -> str:
        """Hash in hex of everything read so far."""
        return self._hash.hexdigest() if self._hash else ""


def members(tape: Tape) -> Iterator[Member]:
    """Regular files of a tar in their order; their content may be read from the tape while each is at hand.

    Raises:
        DataError: the tar is cut, damaged, or goes on after its end mark.
    """
    notes: dict[str, str] = {}  # what extension headers say of the member after them
    while (info := _header(tape)) is not None:
        start, is_note = tape.position, info.type in _NOTES
        length = info.size if is_note else int(notes.get("size", info.size))
        length = 0 if info.type in _WITHOUT_CONTENT else length
        stop = start + -(-length // BLOCK) * BLOCK
        if is_note and length > MAX_NOTE:
            raise damaged(
                tape, start, f"an extension header of {length:,} bytes, at most {MAX_NOTE:,} are read"
            )
        if length < 0 or stop > tape.size:
            raise damaged(tape, start, f"{info.name!a} has {length:,} bytes, the file ends at {tape.size:,}")
        if is_note:
            notes |= _note(tape, info)
        else:
            if info.type == tarfile.GNUTYPE_SPARSE or any(name.startswith("GNU.sparse") for name in notes):
                raise damaged(tape, start, f"{info.name!a} is sparse: its bytes are not in one piece")
            if info.type in _REGULAR:
                yield Member(storable(notes.get("path", info.name)), start, length)
            notes = {}
        tape.forward(stop)
    if tape.read(BLOCK) != bytes(BLOCK):
        raise damaged(tape, tape.position, "one zero block at the end, not two")
    while rest := tape.read(LOCAL_BUFFER):
        if rest.count(0) != len(rest):
            raise damaged(tape, tape.position - len(rest), "it goes on after its end mark, as joined tars do")


def _header(tape: Tape) -> tarfile.TarInfo | None:
    at, header = tape.position, tape.read(BLOCK)
    if header == bytes(BLOCK):
        return None
    if not header:
        raise damaged(tape, at, "it ends without its two zero blocks, cut between two members")
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise damaged(tape, at, f"no member header: {error}") from error


def _note(tape: Tape, info: tarfile.TarInfo) -> dict[str, str]:
    """What an extension header says: GNU long names and pax records (POSIX.1-2001) of path and size."""
    data = tape.read(info.size)
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    if info.type not in _PAX:
        return {}
    records: dict[str, str] = {}
    while data.strip(b"\0"):
        digits, _, rest = data.partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        name, is_record, value = data[len(digits) + 1 : length - 1].partition(b"=")
        if not is_record or not rest or length <= len(digits):
            raise damaged(tape, tape.position, "a pax header cannot be read")
        records[name.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        data = data[length:]
    if not records.get("size", "0").isdigit():
        raise damaged(tape, tape.position, "a pax header cannot be read")
    return records


def storable(name: str) -> str:
    """A name as Parquet can hold it: bytes that are not UTF-8 as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def damaged(tape: Tape, at: int, how: str) -> DataError:
    """The error of a shard that is not whole."""
    return DataError(
        "a tar shard is damaged",
        expected="a whole tar, as webdataset writes it",
        got=how,
        where=f"{tape.uri} at byte {at:,}",
        fix="copy or write this shard again; without that, images would be lost silently",
    )
