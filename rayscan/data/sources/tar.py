"""WebDataset tars, read once from end to end: where the images lie, what they are, whether the tar is whole.

A sample is the members of one key, side by side; the key is the path up to the first dot of the base name, as
in the webdataset library. Images are decoded once; `.json` is a note of ours or, as `.txt`, metadata; all
other members are passed over unread. A link to an image of the same tar is that image under another key; a
link to anything else is an image that is missing.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rayscan.data import addresses
from rayscan.data.decode import IMAGE_EXTENSIONS
from rayscan.data.inspection import CHANGED, MISSING, inspected
from rayscan.data.left_out import HEAD_BYTES, count_bare, count_other, is_system_member
from rayscan.data.metadata_columns import of_records
from rayscan.data.sequential import SequentialFile
from rayscan.data.sources.base import Format, Scan, SideFile, SourceFile
from rayscan.data.sources.notes import read_note
from rayscan.data.tar_members import Member, members, normalized
from rayscan.data.tones import PLAIN, Decoding
from rayscan.errors import DataError
from rayscan.text import decoded

MAX_NOTE_BYTES = 1 << 20
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


@dataclass(frozen=True)
class Tar(Format):
    """Many images per file, each a contiguous range of bytes."""

    member: str | None = None
    """Extension of the members that are the images, if the user named one."""

    name = "shards"
    suffixes = (".tar",)
    has_many = True

    def claims(self, uri: str) -> bool:
        """See `Format.claims`. Compressed ones too, to be refused."""
        return addresses.plain(uri).lower().endswith((*self.suffixes, *_COMPRESSED))

    def refuse(self, uris: Sequence[str]) -> None:
        """See `Format.refuse`."""
        compressed = [uri for uri in uris if addresses.plain(uri).lower().endswith(_COMPRESSED)]
        if compressed:
            raise DataError(
                "compressed tars cannot be read by position",
                expected="plain .tar",
                got=f"{len(compressed)} compressed",
                where=compressed[0],
                fix="unpack them with gunzip, unxz or unzstd; images gain nothing from a second compression",
            )

    def scan(self, entry: SourceFile, *, max_pixels: int, how: Decoding = PLAIN) -> Scan:
        """See `Format.scan`."""
        return scan_tar(entry.uri, max_pixels=max_pixels, how=how, chosen=self.member)

    def with_member(self, extension: str) -> Format:
        """See `Format.with_member`."""
        return replace(self, member=extension)

    def side_files(self, uri: str, extensions: Collection[str]) -> Iterator[SideFile]:
        """See `Format.side_files`; larger ones than a megabyte are left out."""
        with SequentialFile(uri) as file:
            for member in members(file):
                named = member.key_and_extension
                if named is None or member.link is not None or member.length > MAX_NOTE_BYTES:
                    continue
                if named[1] in extensions:
                    yield SideFile(*named, file.read(member.length))


@dataclass
class _Sample:
    """The members of one key, as far as they have been read."""

    key: str
    extensions: set[str] = field(default_factory=set)
    source: str | None = None
    crc32: int | None = None
    row: dict[str, Any] | None = None
    image: str = ""
    notes: dict[str, Any] = field(default_factory=dict)
    """Metadata: what is told beside the image."""
    link: Member | None = None
    """The image, where it is a link."""


def scan_tar(uri: str, *, max_pixels: int, how: Decoding = PLAIN, chosen: str | None = None) -> Scan:
    """Read a tar through: find, checksum and decode its images, hash the whole.

    Args:
        uri: A plain tar, local or remote.
        max_pixels: Images with more pixels are decoded reduced, or noted as bad, undecoded.
        how: See `decode`.
        chosen: Extension of the members that are the images; without it, those that pictures have.

    Raises:
        DataError: the tar is damaged, a key comes twice or in pieces, or a sample has two images.
    """
    counts = Counter({"cls": 0, "json": 0, "other": 0})
    samples: dict[str, _Sample] = {}
    sample = _Sample("")
    with SequentialFile(uri, is_hashing=True) as file:
        for member in members(file):
            if is_system_member(member.name):
                counts["system"] += 1
                continue
            if (named := member.key_and_extension) is None:
                _sniff(file, member, counts)
                continue
            key, extension = named
            if key != sample.key:
                if key in samples:
                    raise _confused(file, member, "this key was there before, with others in between")
                sample = samples.setdefault(key, _Sample(key))
            if extension in sample.extensions and member.link is None:
                raise _confused(file, member, "this key has this extension already")
            sample.extensions.add(extension)
            if (
                chosen is not None
                and extension != chosen
                and extension.rpartition(".")[2] in IMAGE_EXTENSIONS
            ):
                count_other(counts, member.name)
                continue
            _take(file, member, extension, sample, counts, max_pixels, how)
        images = {normalized(s.image): s.row for s in samples.values() if s.row is not None}
        links = {normalized(s.link.name): s.link for s in samples.values() if s.link is not None}
        for sample in samples.values():
            if sample.row is None and sample.link is not None:
                sample.row = _linked(uri, sample, images, links)
        with_image = [s for s in samples.values() if s.row is not None]
        rows = [_row(s, s.row or {}) for s in with_image]
        counts["imageless"] = len(samples) - len(rows)
        notes = of_records([s.notes for s in with_image])
        return Scan(uri, file.size, file.sha256, rows, dict(counts), notes)


def _take(
    file: SequentialFile,
    member: Member,
    extension: str,
    sample: _Sample,
    counts: Counter[str],
    max_pixels: int,
    how: Decoding,
) -> None:
    """Read one member into its sample."""
    kind = extension.rpartition(".")[2]
    if member.link is not None:
        if kind in IMAGE_EXTENSIONS and sample.link is None:
            sample.link = member
        else:
            count_other(counts, member.name)
    elif kind in IMAGE_EXTENSIONS:
        if sample.row is not None:
            raise _confused(file, member, f"this key has an image already, {sample.image}")
        data = file.read(member.length)
        seen = inspected(data, max_pixels=max_pixels, how=how)
        sample.image = member.name
        sample.row = {
            "key": sample.key,
            "offset": member.offset,
            "length": member.length,
            "crc32": zlib.crc32(data),
            "source": f"{file.uri}#{member.name}",
            **seen,
        }
    elif extension == "json":
        counts["json"] += 1
        if member.length <= MAX_NOTE_BYTES:
            sample.source, sample.crc32, told = read_note(file.read(member.length))
            sample.notes |= told
    elif extension == "txt":
        if member.length <= MAX_NOTE_BYTES:
            sample.notes["txt"] = _words(file.read(member.length))
    elif extension == "cls":
        counts["cls"] += 1
    else:
        count_other(counts, member.name)


def _words(data: bytes) -> str:
    try:
        return decoded(data).strip()
    except UnicodeDecodeError:
        return data.decode("utf-8", "backslashreplace").strip()


def _sniff(file: SequentialFile, member: Member, counts: Counter[str]) -> None:
    """Count a member that is of no sample: those without extension by how they begin."""
    base = member.name.rpartition("/")[2]
    is_bare = "." not in base and not base.startswith("__") and member.link is None
    if is_bare:
        count_bare(counts, member.name, file.read(min(member.length, HEAD_BYTES)))
    else:
        count_other(counts, member.name)


def _linked(
    uri: str, sample: _Sample, images: Mapping[str, dict[str, Any]], links: Mapping[str, Member]
) -> dict[str, Any]:
    """The row of an image that is a link: that of the image it stands for, else one that is missing."""
    assert sample.link is not None
    own = {"key": sample.key, "source": f"{uri}#{sample.link.name}"}
    target, seen = sample.link.link or "", set[str]()
    while target in links and target not in images and target not in seen:
        seen.add(target)
        target = links[target].link or ""
    if target in images:
        return {**images[target], **own}
    nothing = {"offset": sample.link.offset, "length": 0, "crc32": 0, "width": 0, "height": 0}
    return {**own, **nothing, "status": MISSING}


def _row(sample: _Sample, row: dict[str, Any]) -> dict[str, Any]:
    """The row of a sample, once all its members were seen."""
    row = row | {"source": sample.source or row["source"]}
    if sample.crc32 is not None and sample.crc32 != row["crc32"]:
        row |= {"width": 0, "height": 0, "status": CHANGED}
    return row


def _confused(file: SequentialFile, member: Member, how: str) -> DataError:
    return DataError(
        "samples of a shard cannot be told apart",
        expected="one image per key, the members of a key side by side",
        got=how,
        where=f"{file.uri}, member {member.name!a}",
        fix="write the shard again with unique keys; a key ends at the first dot of the base name. Where "
        "samples have several images, --image-member jpg takes those that end so",
    )
