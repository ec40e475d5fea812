"""How stored values of more than 8 bits become 0..255: one range a band for a whole set of pictures.

A range that each picture had for itself would make a dark one look like a bright one. The ranges are
percentiles of a sample of all pictures, drawn by their checksums, so that neither order nor workers matter.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rayscan.types import Ints

PERCENTILES = (2.0, 98.0)
PIXELS = 256
"""Pixels a picture gives to the sample."""
PICTURES = 4096
"""Pictures in the sample at most."""
_DEPTHS = (10, 12, 14, 16)
"""Bits that cameras and scanners use of 16."""


@dataclass(frozen=True)
class Decoding:
    """What decides how a picture is decoded, besides its size."""

    bands: tuple[int, ...] = ()
    """Bands of a TIFF that are red, green and blue, or grey; from 1. Empty: as Pillow reads it."""
    low: tuple[float, ...] = ()
    """Value of each band that becomes 0; empty while no set is known."""
    high: tuple[float, ...] = ()
    """Value that becomes 255."""
    may_reduce: bool = True
    """Whether pictures with too many pixels may be decoded at a reduced scale."""

    @property
    def facts(self) -> dict[str, Any]:
        """As an index keeps them."""
        return {"bands": list(self.bands), "low": list(self.low), "high": list(self.high)}

    @classmethod
    def of_facts(cls, facts: dict[str, Any] | None) -> Decoding:
        """From what an index keeps."""
        return (
            cls() if facts is None else cls(tuple(facts["bands"]), tuple(facts["low"]), tuple(facts["high"]))
        )


PLAIN = Decoding()


def in_bytes(values: npt.NDArray[Any], decoding: Decoding) -> npt.NDArray[np.uint8]:
    """0..255 by the ranges of the set; by the bits that the picture uses where no set is known.

    Args:
        values: Stored values [h, w, bands].
        decoding: With as many ranges, or none.

    Returns:
        uint8 [h, w, 3], rounded; values beyond the range are clipped, NaN becomes 0.
    """
    bands = values.shape[2]
    low, high = decoding.low, decoding.high
    if len(low) != bands:
        low, high = (0.0,) * bands, (float(used_range(float(np.nanmax(values, initial=0)))),) * bands
    first = np.asarray(low, np.float32)
    span = np.asarray(high, np.float32) - first
    scaled = (values.astype(np.float32) - first) * (255 / np.where(span > 0, span, 1))
    pixels = np.nan_to_num(np.clip(np.floor(scaled + 0.5), 0, 255)).astype(np.uint8)
    return np.repeat(pixels, 3, axis=2) if bands == 1 else pixels


def used_range(greatest: float) -> int:
    """The greatest number of the bits that are used of 16.

    Args:
        greatest: Value.
    """
    return next((2**bits - 1 for bits in _DEPTHS if greatest < 2**bits), 0xFFFF)


def sample_of(values: npt.NDArray[Any], data: bytes) -> npt.NDArray[np.float32]:
    """Some pixels of a picture; and the greatest value of each band, which ends the range where bits count.

    Args:
        values: Stored values [h, w, bands].
        data: Its file, whose checksum seeds the draw.

    Returns:
        float32 [1 + n, bands], the greatest values first.
    """
    flat = values.reshape(-1, values.shape[2])
    drawn = np.random.default_rng(zlib.crc32(data)).integers(0, len(flat), PIXELS)
    greatest = np.nanmax(flat, axis=0, initial=0, keepdims=True)
    return np.concatenate([greatest, flat[drawn]]).astype(np.float32)


def of_samples(
    samples: Sequence[npt.NDArray[np.float32]], crc32: Ints, bands: tuple[int, ...]
) -> Decoding | None:
    """The ranges of a set; None if no picture has more than 8 bits.

    Args:
        samples: By `sample_of`, of each picture that has [n].
        crc32: Checksums of the pictures [n].
        bands: That were asked for; without, ranges are the bits that are used.
    """
    if not samples:
        return None
    if not bands:
        greatest = max(float(sample[0].max()) for sample in samples)
        return Decoding((), (0.0,), (float(used_range(greatest)),))
    # a grey picture beside pictures of three bands has no ranges of theirs (see `in_bytes`)
    width = max(sample.shape[1] for sample in samples)
    own = np.array([number for number, sample in enumerate(samples) if sample.shape[1] == width])
    chosen = own[np.argsort(crc32[own], kind="stable")][:PICTURES]
    pooled = np.concatenate([samples[number][1:] for number in chosen.tolist()])
    low, high = zip(*(_percentiles(column) for column in pooled.T), strict=True)
    return Decoding(bands, low, high)


def _percentiles(values: Iterable[float]) -> tuple[float, float]:
    known = np.asarray(values)
    known = known[np.isfinite(known)]
    if not len(known):
        return 0.0, 1.0
    low, high = np.percentile(known.astype(np.float64), PERCENTILES)
    return float(low), float(high)
