"""Bytes to pixels: every kind of file comes out as RGB, or with its reason."""

from __future__ import annotations

import io
import struct
import tarfile
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from rayscan.data.decode import decode, resize_canvas
from rayscan.data.inspection import inspect
from rayscan.errors import DataError
from tests.unit.data.conftest import encoded, picture, shared

LIMIT = 1_000_000


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def reason(data: bytes, max_pixels: int = LIMIT) -> str:
    with pytest.raises(DataError) as caught:
        decode(data, max_pixels=max_pixels)
    return caught.value.text.partition("\n")[0]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_lossless_formats_come_back_exactly(kind):
    pixels = picture(0)
    if kind == "GIF":  # at most 256 colors
        pixels = np.asarray(Image.fromarray(pixels).quantize(64).convert("RGB"))
    out = decode(encoded(pixels, kind), max_pixels=LIMIT)
    assert out.dtype == np.uint8 and out.flags.c_contiguous
    np.testing.assert_array_equal(out, pixels)


def test_webp_lossless_comes_back_exactly():
    np.testing.assert_array_equal(
        decode(encoded(picture(1), "WEBP", lossless=True), max_pixels=LIMIT), picture(1)
    )


def test_jpeg_color_and_grey_are_near_what_was_stored():
    pixels = picture(2, 32, 40)
    color = decode(encoded(pixels, "JPEG", quality=98, subsampling=0), max_pixels=LIMIT)
    assert np.abs(color.astype(int) - pixels).mean() < 2
    grey = decode(encoded(pixels[:, :, 0], "JPEG", quality=98), max_pixels=LIMIT)
    assert grey.shape == (32, 40, 3)
    np.testing.assert_array_equal(grey[:, :, 0], grey[:, :, 2])
    assert np.abs(grey[:, :, 0].astype(int) - pixels[:, :, 0]).mean() < 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(kind, orientation):
    image = Image.fromarray(picture(3, 24, 40))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
    data = saved(image, kind, exif=exif, **options)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert upright.shape[:2] == ((24, 40) if orientation < 5 else (40, 24))
    out = decode(data, max_pixels=LIMIT)
    assert out.shape == upright.shape
    assert np.abs(out.astype(int) - upright).mean() < 1.5  # two JPEG decoders round differently


def test_orientation_six_turns_the_top_left_corner_to_the_top_right():
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # Exif 2.32: the 0th row is the visual right side, the 0th column the top
    out = decode(saved(Image.fromarray(pixels), "JPEG", exif=exif, quality=95), max_pixels=LIMIT)
    assert out.shape == (32, 16, 3)
    assert out[:7, 9:].min() > 230 and out[:7, :7].max() < 25 and out[9:].max() < 25


@pytest.mark.parametrize(
    "junk", [b"MM\x00\x2a\xff\xff\xff\xff", b"", b"II", b"II\x2a\x00\x08\x00\x00\x00\xff\xff"]
)
def test_a_broken_exif_note_does_not_cost_the_picture(junk):
    plain = encoded(picture(4, 16, 16), "JPEG")
    segment = b"Exif\0\0" + junk
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
    np.testing.assert_array_equal(decode(data, max_pixels=LIMIT), decode(plain, max_pixels=LIMIT))


def test_transparency_lies_on_white():
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[..., 0] = 200
    rgba[0, 0, 3], rgba[0, 1, 3], rgba[0, 2, 3] = 0, 255, 51
    out = decode(saved(Image.fromarray(rgba, "RGBA"), "PNG"), max_pixels=LIMIT)
    assert out[0, 0].tolist() == [255, 255, 255] and out[0, 1].tolist() == [200, 0, 0]
    assert np.abs(out[0, 2].astype(int) - [244, 204, 204]).max() <= 1  # 0.2 x (200, 0, 0) + 0.8 x 255


def test_transparent_palette_and_grey_alpha_lie_on_white():
    palette = Image.new("P", (3, 3), 0)
    palette.putpalette([10, 20, 30, 200, 0, 0])
    palette.putpixel((1, 1), 1)
    out = decode(saved(palette, "PNG", transparency=0), max_pixels=LIMIT)
    assert out[0, 0].tolist() == [255, 255, 255] and out[1, 1].tolist() == [200, 0, 0]
    grey = Image.new("LA", (2, 2), (0, 0))
    assert decode(saved(grey, "PNG"), max_pixels=LIMIT).min() == 255


def sixteen_bit_png(values: np.ndarray) -> bytes:
    """A grey PNG of 16 bits, written by hand from the PNG specification."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def test_sixteen_bits_are_scaled_not_clipped():
    values = np.array([[0, 257, 300, 128 * 257], [65535, 65407, 32768, 1000]], np.uint16)
    expected = np.round(values / 257).astype(np.uint8)
    png = decode(sixteen_bit_png(values), max_pixels=LIMIT)
    tiff = decode(saved(Image.fromarray(values), "TIFF"), max_pixels=LIMIT)
    for out in (png, tiff):
        np.testing.assert_array_equal(out, np.repeat(expected[:, :, None], 3, axis=2))


@pytest.mark.parametrize(("mode", "value"), [("F", 0.5), ("I", 70_000), ("I", -3)])
def test_unknown_ranges_are_refused_not_guessed(mode, value):
    assert reason(saved(Image.new(mode, (4, 4), value), "TIFF")) == "pixel-type"


def test_cmyk_jpeg_becomes_rgb():
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan, full magenta and yellow: red
    out = decode(saved(cmyk, "JPEG", quality=98), max_pixels=LIMIT)
    assert np.abs(out.astype(int) - [255, 0, 0]).max() <= 4


def test_one_bit_and_first_frame():
    assert decode(saved(Image.new("1", (5, 3), 1), "PNG"), max_pixels=LIMIT).tolist() == [[[255] * 3] * 5] * 3
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    for kind in ("GIF", "WEBP", "TIFF"):
        out = decode(saved(red, kind, save_all=True, append_images=[blue]), max_pixels=LIMIT)
        assert out[..., 0].min() > 240 and out[..., 2].max() < 15


def test_one_pixel_and_a_wrong_name():
    assert decode(encoded(picture(0)[:1, :1]), max_pixels=LIMIT).shape == (1, 1, 3)
    assert decode(encoded(picture(0), "PNG"), max_pixels=LIMIT).shape == (
        12,
        16,
        3,
    )  # bytes decide, not the name


def test_reasons():
    assert reason(b"") == "empty"
    assert reason(b"<svg xmlns='http://www.w3.org/2000/svg'/>") == "format"
    assert (
        reason(saved(Image.new("RGB", (4, 4)), "PPM")) == "format"
    )  # Pillow reads it; it is not on the list
    assert reason(saved(Image.new("RGB", (4, 4)), "ICO")) == "format"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_cut_files_are_damaged(kind):
    data = encoded(picture(5, 64, 64), kind)
    for share in (0.3, 0.6, 0.9):
        assert reason(data[: int(len(data) * share)]) in {"damaged", "format"}
    if kind == "JPEG":
        assert reason(data[:-8]) == "damaged"
        whole = decode(data[:-2], max_pixels=LIMIT)  # no end mark, and all rows: they are counted
        assert (whole == decode(data, max_pixels=LIMIT)).all()


def test_surplus_bytes_before_the_end_mark_are_forgiven():
    data = encoded(picture(6, 32, 32), "JPEG")
    surplus = data[:-2] + b"\x00" * 7 + b"\xff\xd9"
    with pytest.raises(ValueError, match="extraneous"):
        simplejpeg.decode_jpeg(surplus)
    assert np.abs(decode(surplus, max_pixels=LIMIT).astype(int) - decode(data, max_pixels=LIMIT)).max() <= 3


def test_scrambled_scan_is_damaged():
    rng = np.random.default_rng(0)
    data = bytearray(encoded(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8), "JPEG"))
    data[len(data) // 2 : len(data) // 2 + 2] = b"\xff\xd9"  # an end mark in the middle of the scan
    assert reason(bytes(data)) == "damaged"


def test_large_pictures_are_refused_by_their_header():
    bomb = saved(Image.new("1", (12_000, 10_000)), "PNG")
    assert len(bomb) < 20_000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert reason(bomb, max_pixels=64_000_000) == "too-many-pixels"
    png = encoded(picture(7, 30, 40))
    assert reason(png, max_pixels=1199) == "too-many-pixels"
    jpeg = encoded(picture(7, 30, 40), "JPEG")
    assert reason(jpeg, max_pixels=19) == "too-many-pixels"  # 4 x 5 px at an eighth
    assert decode(jpeg, max_pixels=1200).shape == (30, 40, 3)


def test_random_bytes_behind_every_signature_never_escape_as_another_error():
    rng = np.random.default_rng(1)
    starts = [
        encoded(picture(8, 20, 20), kind)[:60] for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")
    ]
    for start in starts:
        for _ in range(40):
            data = start[: rng.integers(3, 60)] + rng.bytes(200)
            seen = inspect(data, max_pixels=LIMIT)
            assert seen.status in {"ok", "format", "damaged", "too-many-pixels", "pixel-type"}


def test_inspect_tells_size_or_reason():
    assert inspect(encoded(picture(0)), max_pixels=LIMIT) == (16, 12, "ok")
    assert inspect(b"", max_pixels=LIMIT) == (0, 0, "empty")


def test_real_photographs_decode_as_in_pillow():
    with tarfile.open(shared("imagenet-sample") / "imagenet-sample-000000.tar") as tar:
        files = [tar.extractfile(m).read() for m in tar if m.name.endswith(".jpg")][:20]
    for data in files:
        ours = decode(data, max_pixels=10**9).astype(int)
        theirs = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
        assert ours.shape == theirs.shape and np.abs(ours - theirs).mean() < 1.0


def triangle(size: int, out: int, start: float, stop: float) -> np.ndarray:
    """Weights [out, size] of antialiased bilinear sampling of [start, stop), from its definition."""
    scale = (stop - start) / out
    support = max(scale, 1.0)
    centers = start + (np.arange(out) + 0.5) * scale
    pixels = np.arange(size)
    weights = np.maximum(0, 1 - np.abs((pixels[None] + 0.5 - centers[:, None]) / support))
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize(("height", "width", "px"), [(24, 48, 12), (40, 20, 16), (8, 8, 16), (30, 33, 11)])
def test_canvas_is_the_antialiased_central_square(height, width, px):
    image = picture(9, height, width)
    side = min(height, width)
    top, left = (height - side) / 2, (width - side) / 2
    rows = triangle(height, px, top, top + side)
    columns = triangle(width, px, left, left + side)
    naive = np.einsum("ah,bw,hwc->abc", rows, columns, image.astype(float))
    out = resize_canvas(image, px)
    assert out.shape == (px, px, 3) and out.dtype == np.uint8
    assert np.abs(out - naive).max() <= 1.5  # Pillow rounds after each of the two directions


def test_canvas_of_its_own_size_is_itself():
    image = picture(10, 16, 16)
    np.testing.assert_array_equal(resize_canvas(image, 16), image)
