"""What lies beside the images and is not taken: counted by kind and named, so that none is lost silently.

Files of other kinds are counted by the end of their names; those that look like pictures, by that end or by
their first bytes, are named first. Hidden files, and folders that NAS systems, desktops and notebooks make
(thumbnails, deleted files, resource forks), are passed over and told.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rayscan import storage
from rayscan.data import addresses
from rayscan.data.codecs import advice
from rayscan.errors import RayscanError

PICTURE_EXTENSIONS = frozenset(
    {"avif", "heic", "heif", "hif", "jxl", "jp2", "j2k", "jpx", "jpf", "jfif", "jfi", "jpe", "jif",
     "ppm", "pgm", "pbm", "pnm", "tga", "ico", "icns", "svg", "psd", "exr", "hdr", "dds", "dcm",
     "dng", "cr2", "cr3", "nef", "arw", "orf", "raf", "rw2", "pef", "srw"}
)  # fmt: skip
"""Ends of the names of pictures that may be of no format that is read here."""
SYSTEM_FOLDERS = frozenset(
    {"@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin",
     "recycler", "__macosx", "lost+found", "thumbnails", "system volume information"}
)  # fmt: skip
"""Folders that hold no pictures of their own, in lower case; taken only where the user names them."""
SIGNATURES = (
    re.compile(rb"\xff\xd8\xff"),  # JPEG
    re.compile(rb"\x89PNG\r\n"),
    re.compile(rb"GIF8[79]a"),
    re.compile(rb"BM.{4}\0\0\0\0", re.DOTALL),
    re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"),  # TIFF, BigTIFF
    re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
    re.compile(rb"\0\0\0.ftyp(hei[cfmsvx]|hev[cmsx]|mif1|msf1|avi[fs])", re.DOTALL),
    re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "),  # JPEG XL
    re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),  # JPEG 2000
)
"""How pictures begin."""
HEAD_BYTES = 16
LOOKED_INTO = 8
"""Files of each kind whose first bytes are looked at."""
LOOKED_INTO_WITHOUT_EXTENSION = 200
"""Files without an extension whose first bytes are looked at."""
NAMED_KINDS = 3
"""Kinds of which the first file is named."""
NO_EXTENSION = ""
_EXTENSION = re.compile(r"\.([A-Za-z0-9_+-]{1,12})$")


def is_system_folder(name: str) -> bool:
    """Whether a folder of this name is a NAS system's, a desktop's or a notebook's own, or hidden."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def extension_of(uri: str) -> str:
    """The end of a file's name, in lower case without the dot; NO_EXTENSION if it has none."""
    found = _EXTENSION.search(addresses.plain(uri).rpartition("/")[2])
    return found[1].lower() if found else NO_EXTENSION


def is_picture(head: bytes) -> bool:
    """Whether a file that begins like this is a picture."""
    return any(signature.match(head) for signature in SIGNATURES)


def is_system_member(name: str) -> bool:
    """Whether a member of an archive is hidden, or lies in a folder that would not be entered on a disk."""
    *folders, base = (part for part in name.split("/") if part not in ("", "."))
    return base.startswith(".") or any(is_system_folder(part) for part in folders)


def count_other(counts: Counter[str], name: str) -> None:
    """Count a member that is not taken, by its kind, for `lines_of_members`."""
    counts["other"] += 1
    found = _EXTENSION.search(name.rpartition("/")[2])
    kind = f".{found[1].lower()}" if found else ""
    counts[kind if kind[1:] in PICTURE_EXTENSIONS else f"*{kind}"] += 1


def count_bare(counts: Counter[str], name: str, head: bytes) -> None:
    """Count a member without extension: as a picture, if it begins like one."""
    if is_picture(head):
        counts["other"] += 1
        counts["."] += 1
    else:
        count_other(counts, name)


@dataclass
class LeftOut:
    """What one look at the user's files passed over."""

    files: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Files of no format, by their extension."""
    hidden: int = 0
    """Hidden files."""
    folders: Counter[str] = field(default_factory=Counter)
    """Folders that were not entered, by their name."""
    runs: list[str] = field(default_factory=list)
    """Folders that hold a run or a prediction of rayscan."""
    unreadable: list[str] = field(default_factory=list)
    """Names that are not UTF-8 and folders that cannot be read, in ASCII."""
    members: Counter[str] = field(default_factory=Counter)
    """What was found in archives beside the images, by `lines_of_members`."""

    def add(self, uris: Sequence[str]) -> None:
        """Note files that are of no format."""
        for uri in uris:
            self.files[extension_of(uri)].append(uri)

    @property
    def advice(self) -> str:
        """The command that installs the decoders of files that were left out; empty if none is missing."""
        return advice(self.files)

    def lines(self) -> list[str]:
        """One line for each manner of what was left out; none if nothing was."""
        pictures, others = self._split()
        lines = []
        if pictures:
            told = f"; to read them: {self.advice}" if self.advice else ""
            lines.append(f"left out, though they look like pictures: {_counts(pictures)}{told}")
        if others:
            lines.append(f"left out, of other kinds: {_counts(others)}")
        if self.folders:
            names = ", ".join(f"{n:,} {name!a}" for name, n in sorted(self.folders.items()))
            lines.append(f"left out, folders of the system or hidden: {names}")
        if self.runs:
            lines.append(f"left out, results of rayscan: {len(self.runs):,}, such as {self.runs[0]!a}")
        if self.hidden:
            lines.append(f"left out, hidden files: {self.hidden:,}")
        if self.unreadable:
            more = f" and {len(self.unreadable) - 5:,} more" if len(self.unreadable) > 5 else ""
            lines.append(f"left out, cannot be read or named: {', '.join(self.unreadable[:5])}{more}")
        return lines

    def lines_of_members(self) -> list[str]:
        """Lines on what was found in archives beside the images; known once these were read."""
        return lines_of_members(self.members)

    def _split(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Files by kind: those that look like pictures, and the others."""
        pictures: dict[str, list[str]] = {}
        others: dict[str, list[str]] = {}
        for kind, uris in self.files.items():
            if kind == NO_EXTENSION:  # such files have nothing in common: each speaks for itself
                looked = {
                    uri for uri in sorted(uris)[:LOOKED_INTO_WITHOUT_EXTENSION] if is_picture(_head(uri))
                }
                pictures[kind] = [uri for uri in uris if uri in looked]
                others[kind] = [uri for uri in uris if uri not in looked]
            elif kind in PICTURE_EXTENSIONS or any(is_picture(_head(u)) for u in sorted(uris)[:LOOKED_INTO]):
                pictures[kind] = uris
            else:
                others[kind] = uris
        return _filled(pictures), _filled(others)


def lines_of_members(members: Mapping[str, int]) -> list[str]:
    """Lines on members of shards and archives that were not taken; none if there are none.

    Args:
        members: Counts of a scan: kinds that look like pictures begin with a dot, others with `*`; `system`
            are those that are hidden or of the system.
    """
    pictures, others = _of_members(members, "."), _of_members(members, "*")
    lines = []
    if pictures:
        command = advice(name[1:] for name in members if name.startswith("."))
        told = f"; to read them: {command}" if command else ""
        lines.append(f"left out of the shards, though they look like pictures: {pictures}{told}")
    if others:
        lines.append(f"left out of the shards, of other kinds: {others}")
    if members.get("system"):
        lines.append(f"left out of the shards, hidden or in folders of the system: {members['system']:,}")
    return lines


def _of_members(members: Mapping[str, int], mark: str) -> str:
    kinds = sorted((-count, name.lstrip("*")) for name, count in members.items() if name.startswith(mark))
    named = (f"{-count:,} {name if name not in ('', '.') else 'without extension'}" for count, name in kinds)
    return ", ".join(named)


def _filled(kinds: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {kind: uris for kind, uris in kinds.items() if uris}


def _counts(kinds: dict[str, list[str]]) -> str:
    ordered = sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0]))
    counts = ", ".join(
        f"{len(uris):,} {f'.{kind}' if kind else 'without extension'}" for kind, uris in ordered
    )
    firsts = [ascii(addresses.plain(min(uris))) for _, uris in ordered[:NAMED_KINDS]]
    return f"{counts}, such as {', '.join(firsts)}"


def _head(uri: str) -> bytes:
    try:
        if storage.is_local(uri):
            with storage.open_file(uri) as file:
                return file.read(HEAD_BYTES)
        return storage.RemoteFile(uri, storage.ONCE).read(0, HEAD_BYTES)
    except (OSError, RayscanError):
        return b""  # it is told as left out anyway
