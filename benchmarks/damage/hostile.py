"""Payloads that would run, write or reach out if anything in rayscan unpickled, unpacked or shelled out.

Each payload that gets its way leaves a file in a folder that nothing else touches; the page of a payload with
a hostile name is parsed, and one more script, element or handler than in a harmless page counts as executed.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.damage.tars import packed, picture

GOOD = ("good.jpg", picture(1))


@dataclass(frozen=True)
class Payload:
    """Something to be handed to rayscan."""

    name: str
    write: Callable[[Path], str]
    """Puts files into a folder and returns what to pass as `--data`."""
    labels: str | None = None
    """Text of a labels file."""


def _touching(canary: Path) -> bytes:
    """A pickle, protocol 0, by hand: os.system("touch CANARY")."""
    return f"cos\nsystem\n(S'touch {canary}'\ntR.".encode()


def _python_touching(canary: Path) -> bytes:
    return f"open({str(canary)!r}, 'w').close()".encode()


def _shard(name: str, members: list[tuple[str, bytes]]) -> Payload:
    def write(folder: Path) -> str:
        (folder / "x.tar").write_bytes(packed([GOOD, *members]))
        return str(folder / "x.tar")

    return Payload(name, write)


def _raw(name: str, data: Callable[[], bytes], file: str = "x.tar") -> Payload:
    def write(folder: Path) -> str:
        (folder / file).write_bytes(data())
        return str(folder / file)

    return Payload(name, write)


def _text(name: str, data: str) -> Payload:
    return Payload(name, lambda _folder: data)


def _pickles(canary: Path) -> Iterator[Payload]:
    bad = _touching(canary)
    for extension in ("pkl", "pickle", "pyd", "pth", "pt", "ckpt", "joblib", "npy", "npz"):
        yield _shard(f"member good.{extension}", [(f"good.{extension}", bad)])
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    yield _shard("object array", [("good.npy", header.getvalue() + bad)])
    yield _shard("pickle named as image", [("evil.jpg", bad)])
    yield _shard("pickle as note", [("good.json", bad)])
    yield _shard("pickle as label", [("good.cls", bad)])
    yield _shard("python as label", [("good.cls", _python_touching(canary))])


def _keys(canary: Path) -> Iterator[Payload]:
    image = picture(2)
    up = "../" * 12
    names = (
        f"{up}{str(canary).lstrip('/')}.jpg",
        f"{canary}.jpg",
        f"..\\..\\{canary.name}.jpg",
        f"$(touch {canary}).jpg",
        f"`touch {canary}`.jpg",
        f"; touch {canary};.jpg",
        f"| touch {canary}.jpg",
        f"a\ntouch {canary}\n.jpg",
        "<img src=x onerror=alert(1)>.jpg",
        "</script><script>alert(1)</script>.jpg",
        "x' onmouseover='alert(1).jpg",
        "{{ 7 * 7 }}{% for x in ().__class__ %}.jpg",
        "\x1b]0;owned\x07\x1b[2J.jpg",
    )
    yield from (_shard(f"key {name!a:.60}", [(name, image)]) for name in names)
    yield _shard(
        "note with markup", [("good.json", json.dumps({"source": "<script>alert(1)</script>"}).encode())]
    )
    yield _shard("note nested 100,000 deep", [("good.json", b"[" * 100_000)])


def _links(canary: Path) -> Iterator[Payload]:
    def tar_with(kind: bytes, target: str) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            link = tarfile.TarInfo("out.jpg")
            link.type, link.linkname = kind, target
            tar.addfile(link)
            through = tarfile.TarInfo(f"out.jpg/{canary.name}.jpg")
            through.size = len(GOOD[1])
            tar.addfile(through, io.BytesIO(GOOD[1]))
        return buffer.getvalue()

    yield _raw("symbolic link out", lambda: tar_with(tarfile.SYMTYPE, str(canary.parent)))
    yield _raw("hard link out", lambda: tar_with(tarfile.LNKTYPE, "/etc/passwd"))
    yield _raw("device", lambda: tar_with(tarfile.CHRTYPE, ""))


def _headers() -> Iterator[Payload]:
    def huge(kind: bytes) -> Callable[[Path], str]:
        def write(folder: Path) -> str:
            info = tarfile.TarInfo("x")
            info.type, info.size = kind, 3 << 30
            with (folder / "x.tar").open("wb") as file:
                file.write(info.tobuf(tarfile.GNU_FORMAT))
                file.truncate((3 << 30) + 10_240)  # sparse: no disk is filled
            return str(folder / "x.tar")

        return write

    yield Payload("pax header of 3 GB", huge(tarfile.XHDTYPE))
    yield Payload("long name of 3 GB", huge(tarfile.GNUTYPE_LONGNAME))


def _texts(canary: Path) -> Iterator[Payload]:
    yield _text("pipe URL", f"pipe:touch {canary}")
    yield _text("pipe URL in a list", f"a.tar,pipe:touch {canary}")
    yield _text("exec URL", f"exec:touch {canary}")
    yield _text("command substitution", f"$(touch {canary}).tar")
    yield _text("shell pipe", f"| touch {canary}")
    yield _raw("list file with a command", lambda: f"path\npipe:touch {canary}\n".encode(), "list.csv")
    formula = f"key,label\n\"=cmd|'touch {canary}'!A1\",1\ngood,<script>alert(1)</script>\n"
    yield Payload("labels with formula and markup", _shard("", []).write, labels=formula)


def payloads(canary: Path) -> list[Payload]:
    """All of them.

    Args:
        canary: File that a payload creates if it is executed.
    """
    return [*_pickles(canary), *_keys(canary), *_links(canary), *_headers(), *_texts(canary)]
