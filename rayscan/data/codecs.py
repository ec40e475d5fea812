"""Formats of pictures whose decoder is a package of its own: HEIC and JPEG XL, each an extra of rayscan.

Their packages are loaded when the first such picture comes, not before.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

from rayscan import picture_formats

HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
"""Major brands of the file type box, ISO/IEC 23008-12, Annex B."""
JXL_BEGINNINGS = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL \r\n\x87\n")
"""A bare codestream, and a container: ISO/IEC 18181-2."""


@dataclass(frozen=True)
class Codec:
    """A decoder that Pillow learns from a package."""

    extra: str
    """What is installed: `rayscan[EXTRA]`."""
    module: str
    """What is imported."""
    register: str
    """The function that tells Pillow, behind its module and a colon."""
    format: str
    """The format as Pillow then calls it."""
    extensions: frozenset[str]
    """Ends of the names of its files, in lower case."""
    starts: Callable[[bytes], bool]
    """Whether the bytes of a file begin as its files do."""

    @property
    def is_installed(self) -> bool:
        """Whether its package is there."""
        return find_spec(self.module) is not None

    @property
    def package(self) -> str:
        """What pip is told."""
        return f"rayscan[{self.extra}]"


CODECS = (
    Codec(
        "heic",
        "pi_heif",
        "pi_heif:register_heif_opener",
        "HEIF",
        picture_formats.HEIC,
        lambda data: data[4:8] == b"ftyp" and data[8:12] in HEIF_BRANDS,
    ),
    Codec(
        "jxl",
        "pylibjxl",
        "pylibjxl.pillow_plugin:register_pillow",
        "JXL",
        picture_formats.JXL,
        lambda data: data.startswith(JXL_BEGINNINGS),
    ),
)
"""pi-heif: BSD-3, decodes only, so that no encoder under GPL comes with it. pylibjxl: BSD-3."""


def codec_of(data: bytes) -> Codec | None:
    """The codec that a file needs by its first bytes; None if Pillow reads it, or nothing does."""
    return next((codec for codec in CODECS if codec.starts(data)), None)


@cache
def ready(codec: Codec) -> bool:
    """Make Pillow know a format; False if the package is not installed."""
    if not codec.is_installed:
        return False
    module, _, function = codec.register.partition(":")
    getattr(importlib.import_module(module), function)()
    return True


def installed_extensions() -> frozenset[str]:
    """Ends of the names of files whose codec is installed; others are left out, and counted."""
    return frozenset().union(*(codec.extensions for codec in CODECS if codec.is_installed))


def advice(extensions: Iterable[str]) -> str:
    """The command that installs what files with such extensions need; empty if that is nothing.

    Args:
        extensions: In lower case, without dots.
    """
    asked = set(extensions)
    missing = [codec for codec in CODECS if codec.extensions & asked and not codec.is_installed]
    extras = ",".join(codec.extra for codec in missing)
    return f"pip install 'rayscan[{extras}]'" if extras else ""
