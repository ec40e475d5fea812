"""Zip archives of images: stored members are read by their range, deflated ones are inflated when read.

The key of an image is its path in the archive, as in a folder. A symbolic link to an image of the archive is
that image under another key.
"""

from __future__ import annotations

import zlib
from collections import Counter
from typing import Any

import numpy as np

from rayscan.data.decode import IMAGE_EXTENSIONS
from rayscan.data.inspection import CHANGED, MISSING, inspected
from rayscan.data.left_out import (
    HEAD_BYTES,
    LOOKED_INTO_WITHOUT_EXTENSION,
    count_bare,
    count_other,
    is_system_member,
)
from rayscan.data.sequential import SequentialFile
from rayscan.data.sources.base import Files, Format, Images, Rows, Scan, SourceFile
from rayscan.data.sources.zip_members import ZipMember, contents, inflated, members
from rayscan.data.tar_members import normalized, storable
from rayscan.data.tones import PLAIN, Decoding
from rayscan.errors import DataError

DEFLATED = 1 << 62
"""Offsets from here on are deflated members: units of packed bytes, then the first byte."""
_LARGEST = 1 << 40
"""Bytes of an archive with deflated members, at most."""
_UNIT = 1 << 10
_MOST_UNITS = 1 << 22


class Zip(Format):
    """Many images per file, each in one piece, perhaps deflated."""

    name = "zip archives"
    suffixes = (".zip",)
    has_many = True
    is_unpacked = True
    gives_way = True

    def scan(self, entry: SourceFile, *, max_pixels: int, how: Decoding = PLAIN) -> Scan:
        """See `Format.scan`."""
        counts = Counter[str]()
        chosen = _chosen(entry.uri, counts)
        with SequentialFile(entry.uri, is_hashing=True) as file:
            rows: dict[str, dict[str, Any]] = {}
            links: dict[str, str] = {}
            for member, start, packed in contents(file, chosen):
                data = inflated(packed, member.size) if member.is_deflated else packed
                if not _is_image(member):
                    count_bare(counts, member.name, data[:HEAD_BYTES])
                    continue
                where = {"offset": _place(member, start), "length": len(data), "crc32": zlib.crc32(data)}
                if member.is_link:
                    target = f"{member.name.rpartition('/')[0]}/{data.decode('utf-8', 'replace')}"
                    links[member.name] = normalized(target)
                    seen = {"width": 0, "height": 0, "status": MISSING}
                elif where["crc32"] != member.crc32 or len(data) != member.size:
                    seen = {"width": 0, "height": 0, "status": CHANGED}
                else:
                    seen = inspected(data, max_pixels=max_pixels, how=how)
                row = {"key": storable(member.name), "source": f"{entry.uri}#{storable(member.name)}"}
                rows[member.name] = row | where | seen
            file.seek_forward(file.size)
        found = _linked(rows, links)
        return Scan(entry.uri, file.size, file.sha256, found, dict(counts) | {"other": counts["other"]})

    def read(self, files: Files, rows: Rows) -> Images:
        """See `Format.read`."""
        is_deflated = rows.offset >= DEFLATED
        if not is_deflated.any():
            return files.ranges(rows)
        units, first = np.divmod(rows.offset - DEFLATED, _LARGEST)
        offset = np.where(is_deflated, first, rows.offset)
        length = np.where(is_deflated, units * _UNIT, rows.length)
        images = files.ranges(Rows(rows.shard, offset, length))
        for number in np.flatnonzero(is_deflated).tolist():
            images.data[number] = inflated(images.data[number], int(rows.length[number]))
        return images


def _is_image(member: ZipMember) -> bool:
    return member.name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS


def _is_bare(member: ZipMember) -> bool:
    return "." not in member.name.rpartition("/")[2] and not member.refusal and not member.is_link


def _chosen(uri: str, counts: Counter[str]) -> list[ZipMember]:
    """The images of an archive, and files without extension, which may be pictures; others are counted."""
    chosen: list[ZipMember] = []
    bare = 0
    for member in members(uri):
        if is_system_member(member.name):
            counts["system"] += 1
        elif _is_image(member):
            chosen.append(member)
        elif _is_bare(member) and bare < LOOKED_INTO_WITHOUT_EXTENSION:
            bare += 1
            chosen.append(member)
        else:
            count_other(counts, member.name)
    _check(uri, [member for member in chosen if _is_image(member)])
    return chosen


def _linked(rows: dict[str, dict[str, Any]], links: dict[str, str]) -> list[dict[str, Any]]:
    """The rows, those of links to images with where these lie."""
    names = {normalized(name): name for name in rows}
    for link, first in links.items():
        target, seen = names.get(first), {link}
        while target in links and target not in seen:
            seen.add(target)
            target = names.get(links[target])
        if target is not None and target not in links:
            own = {name: rows[link][name] for name in ("key", "source")}
            rows[link] = {**rows[target], **own}
    return list(rows.values())


def _place(member: ZipMember, start: int) -> int:
    """What the index keeps as the offset: the first byte, or that and how much is to be read."""
    if not member.is_deflated:
        return start
    return DEFLATED + -(-member.packed // _UNIT) * _LARGEST + start


def _check(uri: str, images: list[ZipMember]) -> None:
    """Refuse images that cannot be read, and names that come twice."""
    if refused := [member for member in images if member.refusal]:
        first = refused[0]
        raise DataError(
            "images of a zip archive cannot be read",
            expected="stored or deflated members without a password",
            got=f"{len(refused):,} of {len(images):,}; {first.name!a} is {first.refusal}",
            where=uri,
            fix="unpack the archive, and give the folder or pack it again",
        )
    names = Counter(member.name for member in images)
    if twice := [name for name, count in names.items() if count > 1]:
        raise DataError(
            "a zip archive has two files of the same name",
            expected="one image per name",
            got=f"{twice[0]!a}, {names[twice[0]]} times",
            where=uri,
            fix="pack it again",
        )
    for member in images:
        if member.is_deflated and (member.header >= _LARGEST or member.packed > _UNIT * (_MOST_UNITS - 1)):
            raise DataError(
                "a zip archive is too large",
                expected=f"deflated images of <= {_UNIT * _MOST_UNITS:,} bytes, before byte {_LARGEST:,}",
                got=f"{member.name!a}, {member.packed:,} bytes at {member.header:,}",
                where=uri,
                fix="unpack the archive, and give the folder or pack it again, stored: zip -0",
            )
