"""Bands of a TIFF as they are stored: any number of them, 8 to 64 bits, integers or floats (TIFF 6.0).

Pillow knows the common kinds only. Here the layout is read from its tags; packed strips and tiles are
unpacked by libtiff, through Pillow, as if they were grey bytes.
"""

from __future__ import annotations

import io
import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from rayscan.data.reduced_scale import check_size
from rayscan.errors import DataError

BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANAR, _PREDICTOR = 273, 277, 278, 279, 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _SAMPLE_FORMAT = 322, 323, 324, 325, 339
_NO_DATA = 42113
"""GDAL's: the value, as text, of pixels that nothing is known of."""
_KINDS = {1: "u", 2: "i", 3: "f"}
_NONE, _DEFLATE, _WHITE_IS_ZERO = 1, (8, 32946), 0


def is_tiff(data: bytes) -> bool:
    """Whether a file begins as TIFF or BigTIFF does."""
    return data.startswith(BEGINNINGS)


@dataclass(frozen=True)
class _Layout:
    width: int
    height: int
    samples: int
    kind: np.dtype[Any]
    compression: int
    predictor: int
    is_planar: bool
    is_tiled: bool
    block: tuple[int, int]
    """Height and width of a strip or tile."""
    offsets: Sequence[int]
    counts: Sequence[int]


def read_bands(data: bytes, bands: Sequence[int], *, max_pixels: int) -> npt.NDArray[np.float32]:
    """Bands of the first page.

    Args:
        data: A whole file.
        bands: Their numbers, from 1; one that the file lacks is its last.
        max_pixels: Refuse pictures with more pixels.

    Returns:
        float32 [h, w, len(bands)]; NaN where the file says that there is no value.

    Raises:
        DataError: whose first line is the reason: damaged, pixel-type, too-many-pixels.
    """
    try:
        tags = _tags(data)
        layout = _layout(data, tags)
        check_size(layout.width, layout.height, max_pixels)
        chosen = [min(band, layout.samples) - 1 for band in bands]
        pixels = _pixels(data, layout)[:, :, chosen].astype(np.float32)
        if tags.get(PHOTOMETRIC) == _WHITE_IS_ZERO and layout.kind.kind == "u":
            pixels = np.iinfo(layout.kind).max - pixels
        if _NO_DATA in tags:
            pixels[pixels == np.float32(str(tags[_NO_DATA]).strip("\0 "))] = np.nan
        return pixels
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a hostile file can make a parser raise anything
        raise DataError("damaged", expected="a whole TIFF", got=repr(error)) from error


def _tags(data: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    stream = io.BytesIO(data)
    is_big = b"+" in data[2:4]
    tags = TiffImagePlugin.ImageFileDirectory_v2(stream.read(16 if is_big else 8))
    stream.seek(tags.next)
    tags.load(stream)
    return tags


def _several(value: object) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _layout(data: bytes, tags: Any) -> _Layout:
    bits, samples = set(_several(tags.get(_BITS, 1))), int(tags.get(_SAMPLES, 1))
    kinds = set(_several(tags.get(_SAMPLE_FORMAT, 1)))
    if len(bits) > 1 or len(kinds) > 1 or bits > {8, 16, 32, 64} or not kinds <= {*_KINDS}:
        raise DataError("pixel-type", expected="bands of 8, 16, 32 or 64 bits each", got=(bits, kinds))
    order = "<" if data[:2] == b"II" else ">"
    is_tiled = _TILES in tags
    height, width = int(tags[_HEIGHT]), int(tags[_WIDTH])
    block = (int(tags.get(_ROWS, height)), width)
    return _Layout(
        width,
        height,
        samples,
        np.dtype(f"{order}{_KINDS[kinds.pop()]}{bits.pop() // 8}"),
        int(tags.get(_COMPRESSION, _NONE)),
        int(tags.get(_PREDICTOR, 1)),
        int(tags.get(_PLANAR, 1)) == 2,
        is_tiled,
        (int(tags[_TILE_HEIGHT]), int(tags[_TILE_WIDTH])) if is_tiled else (min(block[0], height), width),
        _several(tags[_TILES if is_tiled else _STRIPS]),
        _several(tags[_TILE_BYTES if is_tiled else _STRIP_BYTES]),
    )


def _pixels(data: bytes, layout: _Layout) -> npt.NDArray[Any]:
    """All samples, [h, w, samples]."""
    high, wide = layout.block
    deep = 1 if layout.is_planar else layout.samples
    out = np.zeros((layout.height, layout.width, layout.samples), layout.kind.newbyteorder("="))
    planes = range(layout.samples if layout.is_planar else 1)
    places = itertools.product(planes, range(0, layout.height, high), range(0, layout.width, wide))
    for (plane, top, left), offset, count in zip(places, layout.offsets, layout.counts, strict=True):
        rows = high if layout.is_tiled else min(high, layout.height - top)
        raw = _unpacked(data[offset : offset + count], layout, rows, wide * deep * layout.kind.itemsize)
        block = _unpredicted(raw, layout, (rows, wide, deep))
        part = out[top : top + high, left : left + wide, plane : plane + deep]
        part[...] = block[: part.shape[0], : part.shape[1]]
    return out


def _unpacked(packed: bytes, layout: _Layout, rows: int, row_bytes: int) -> bytes:
    """Bytes of a strip or tile."""
    if layout.compression == _NONE:
        raw = packed
    elif layout.compression in _DEFLATE:
        raw = zlib.decompress(packed)
    else:
        raw = _by_libtiff(packed, layout.compression, rows, row_bytes)
    if len(raw) < rows * row_bytes:
        raise DataError("damaged", expected=f"{rows * row_bytes:,} bytes in a strip", got=f"{len(raw):,}")
    return raw[: rows * row_bytes]


def _by_libtiff(packed: bytes, compression: int, rows: int, row_bytes: int) -> bytes:
    """Unpack bytes as a grey picture of one strip, which is made around them."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in (
        (_WIDTH, row_bytes),
        (_HEIGHT, rows),
        (_BITS, 8),
        (_COMPRESSION, compression),
        (PHOTOMETRIC, 1),
        (_STRIPS, 0),  # Pillow adds where its tags end
        (_SAMPLES, 1),
        (_ROWS, rows),
        (_STRIP_BYTES, len(packed)),
    ):
        tags[tag] = value
    whole = b"II*\0" + (8).to_bytes(4, "little") + tags.tobytes(8) + packed
    with Image.open(io.BytesIO(whole), formats=["TIFF"]) as image:
        return image.tobytes()


def _unpredicted(raw: bytes, layout: _Layout, shape: tuple[int, int, int]) -> npt.NDArray[Any]:
    """Samples of a block whose differences were stored, or the samples themselves (TIFF 6.0, Sec. 14)."""
    if layout.predictor == 3:  # Adobe Photoshop TIFF Technical Note 3: bytes of a row by their weight
        rows, wide, deep = shape
        lines = np.frombuffer(raw, np.uint8).reshape(rows, -1, deep)
        lines = np.cumsum(lines, axis=1, dtype=np.uint8).reshape(rows, layout.kind.itemsize, wide * deep)
        big = np.ascontiguousarray(lines.transpose(0, 2, 1))
        return big.view(layout.kind.newbyteorder(">")).reshape(shape).astype(layout.kind.newbyteorder("="))
    values = np.frombuffer(raw, layout.kind).reshape(shape).astype(layout.kind.newbyteorder("="))
    if layout.predictor == 2 and values.dtype.kind != "f":
        return np.cumsum(values, axis=1, dtype=values.dtype)
    return values
