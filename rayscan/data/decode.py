"""Bytes of one image file -> uint8 pixels [h, w, 3]. For `inspection` at index time and `reader` afterwards.

Whatever is stored, sRGB comes out: EXIF orientation applied, wide colors converted, transparency laid on
white, 16 bits scaled to 8 (`tones`), palettes, grey and CMYK converted, of several frames or pages the first.
JPEG, nearly all there is, goes through libjpeg-turbo, the rest through Pillow, which is told the formats it
may try; HEIC and JPEG XL through packages of their own (`codecs`). The first line of a DataError is the
reason: empty, format, too-many-pixels, damaged, pixel-type, needs rayscan[heic].
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import ExifTags, Image, UnidentifiedImageError

from rayscan import picture_formats
from rayscan.data.codecs import CODECS, codec_of, installed_extensions, ready
from rayscan.data.color_profiles import to_srgb
from rayscan.data.jpeg_oddities import MOST_MENDS, mended
from rayscan.data.jpeg_segments import notes_of
from rayscan.data.reduced_scale import JPEG_STEPS, check_size, least_reduction, reduce_opened
from rayscan.data.tiff_bands import PHOTOMETRIC, is_tiff, read_bands
from rayscan.data.tones import PLAIN, Decoding, in_bytes
from rayscan.errors import DataError

Image.MAX_IMAGE_PIXELS = None  # `max_pixels` rules, for every codec alike; it is the stricter one by default
Pixels = npt.NDArray[np.uint8]
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000")
"""Formats as Pillow calls them; besides those of `codecs` no other decoder is tried."""
UPRIGHT = frozenset(codec.format for codec in CODECS)
"""Formats whose decoders turn the picture themselves, whatever their EXIF still says."""
IMAGE_EXTENSIONS = picture_formats.READ | installed_extensions()
"""Ends of the names of such files, in lower case."""
# Some cameras leave surplus bytes before the end mark; the picture above them is whole.
_SURPLUS = re.compile(r"extraneous bytes before marker 0xd9")
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_COLOURS = ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "YCbCr")
_EIGHT_BITS = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")

_TURNS: dict[int, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}
"""How to show an array [h, w, 3] upright by its EXIF orientation (Exif 2.32, tag 0x0112)."""


def decode(
    data: bytes,
    *,
    max_pixels: int,
    min_px: int | None = None,
    how: Decoding = PLAIN,
    keep: Callable[[npt.NDArray[Any]], None] | None = None,
) -> Pixels:
    """Decode one image.

    Args:
        data: A whole file: JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF, JPEG 2000, HEIC or JPEG XL, whatever its
            name says.
        max_pixels: Pictures with more pixels than this, by their header, are decoded at the least reduction
            that has no more (JPEG: 2, 4 or 8; JPEG 2000: powers of two), or refused.
        min_px: Short side that is enough, px: a JPEG is decoded at the reduction `reduction` gives, which
            saves most of the work for large ones; all other formats come whole. None: whole.
        how: Bands of TIFFs, and the ranges of more than 8 bits.
        keep: Is given the values of a picture of more than 8 bits as they are stored, [h, w, bands].

    Returns:
        uint8 [h, w, 3], RGB, contiguous; sides are ceil(side / reduction).

    Raises:
        DataError: whose first line is the reason: empty, format, too-many-pixels, damaged, pixel-type.
    """
    if not data:
        raise DataError("empty", expected="an image", got="0 bytes")
    if how.bands and is_tiff(data):
        return _bands(data, max_pixels, how, keep)
    pixels = None
    if data[:3] == b"\xff\xd8\xff":
        pixels = _jpeg(data, max_pixels, min_px, how.may_reduce)
    return np.ascontiguousarray(_any_format(data, max_pixels, how, keep) if pixels is None else pixels)


def reduction(height: int, width: int, min_px: int) -> int:
    """Largest of 8, 4, 2 and 1 by which a picture's short side may be divided and still be `min_px` or more.

    See `JPEG_STEPS`.
    """
    return next((by for by in (8, 4, 2) if -(-min(height, width) // by) >= min_px), 1)


def resize_canvas(image: Pixels, px: int) -> Pixels:
    """The central square, antialiased to `px` x `px`: the short side fits, the long one is cropped.

    Args:
        image: uint8 [h, w, 3].
        px: Side of the result.

    Returns:
        uint8 [px, px, 3].
    """
    height, width, _ = image.shape
    side = min(height, width)
    if height == width == px:
        return image
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(image).resize((px, px), Image.Resampling.BILINEAR, box=box))


def _jpeg(data: bytes, max_pixels: int, min_px: int | None, may_reduce: bool) -> Pixels | None:
    """RGB or grey JPEG by libjpeg-turbo, strictly; None where Pillow has to decide.

    A file that draws a warning and is odd, no more (`jpeg_oddities`), is put right and decoded again.
    """
    for _ in range(MOST_MENDS + 1):
        header = None
        try:
            header = height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
            steps = JPEG_STEPS if may_reduce else JPEG_STEPS[:1]
            by = least_reduction(height, width, max_pixels, steps)
            if colors not in ("YCbCr", "RGB", "Gray"):
                return None
            if min_px is not None:
                by = min(by * reduction(-(-height // by), -(-width // by), min_px), JPEG_STEPS[-1])
            least = {} if by == 1 else {"min_height": -(-height // by), "min_width": -(-width // by)}
            pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", **least)
        except ValueError as error:
            better = mended(data, str(error))
            if better is None and (header is None or _SURPLUS.search(str(error))):
                return None
            if better is None:
                raise DataError("damaged", expected="a whole JPEG", got=error) from error
            data = better
        else:
            exif, profile = notes_of(data)
            turn = 1 if exif is None else _orientation(partial(_exif, exif))
            return _upright(to_srgb(pixels, profile if colors != "Gray" else None), turn)
    raise DataError("damaged", expected="a whole JPEG", got="one oddity after the other")


def _exif(segment: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(segment)
    return exif


def _orientation(read: Callable[[], Image.Exif]) -> int:
    try:
        value = read().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return 1  # a broken note about the picture; the picture itself is whole
    return value if isinstance(value, int) else 1


def _upright(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    turn = _TURNS.get(orientation)
    return pixels if turn is None else turn(pixels)


def _any_format(
    data: bytes, max_pixels: int, how: Decoding, keep: Callable[[npt.NDArray[Any]], None] | None
) -> Pixels:
    formats = _formats(data)
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            if how.may_reduce:
                reduce_opened(image, data, max_pixels)
            else:
                check_size(image.width, image.height, max_pixels)
            image.load()
            turn = 1 if image.format in UPRIGHT else _orientation(image.getexif)
            if image.mode in _SIXTEEN_BITS or image.mode == "I":
                return _upright(_from_sixteen_bits(image, how, keep), turn)
            return _upright(to_srgb(_rgb(image), _profile(image)), turn)
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise DataError("format", expected=", ".join(formats), got=data[:8]) from error
    except Exception as error:  # a hostile file can make a parser raise anything
        raise DataError("damaged", expected="a whole image", got=repr(error)) from error


def _profile(image: Image.Image) -> bytes | None:
    """The ICC profile of a picture that is stored in colours."""
    profile = image.info.get("icc_profile")
    return profile if isinstance(profile, bytes) and image.mode in _COLOURS else None


def _formats(data: bytes) -> tuple[str, ...]:
    """Formats that Pillow may try on a file."""
    if (codec := codec_of(data)) is None:
        return FORMATS
    if not ready(codec):
        raise DataError(
            f"needs {codec.package}",
            expected="its decoder",
            got=codec.format,
            fix=f"pip install '{codec.package}'",
        )
    return (*FORMATS, codec.format)


def _rgb(image: Image.Image) -> Pixels:
    """Pixels of a loaded picture of any mode, uint8 [h, w, 3]."""
    if image.mode not in _EIGHT_BITS:
        fix = "--images.bands 1 takes them" if image.format == "TIFF" else ""
        raise DataError("pixel-type", expected="8 or 16 bits per channel", got=image.mode, fix=fix)
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image.convert("RGBA"))
        image = canvas
    return np.asarray(image.convert("RGB"))


def _from_sixteen_bits(
    image: Image.Image, how: Decoding, keep: Callable[[npt.NDArray[Any]], None] | None
) -> Pixels:
    """Grey of 16 bits, by the range of the set, or by the bits that are used."""
    grey = np.asarray(image)[:, :, None]
    if grey.min() < 0 or grey.max() > 0xFFFF:
        raise DataError("pixel-type", expected="8 or 16 bits per channel", got="32-bit integers")
    tags = getattr(image, "tag_v2", {})
    if tags.get(PHOTOMETRIC) == 0:  # white is zero
        grey = 0xFFFF - grey
    if keep is not None:
        keep(grey)
    return in_bytes(grey, how)


def _bands(
    data: bytes, max_pixels: int, how: Decoding, keep: Callable[[npt.NDArray[Any]], None] | None
) -> Pixels:
    """The bands of a TIFF that were asked for."""
    values = read_bands(data, how.bands, max_pixels=max_pixels)
    if keep is not None:
        keep(values)
    return np.ascontiguousarray(in_bytes(values, how))
