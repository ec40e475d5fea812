"""Pictures of a wide colour space come out in sRGB, whatever file they are in; others stay as they are."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import ImageCms

from rayscan.data.color_profiles import to_srgb
from rayscan.data.decode import decode
from rayscan.data.jpeg_segments import SMALL, notes_of
from tests.unit.data.conftest import LIMIT, encoded

ADOBE = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
"""Columns: red, green and blue of Adobe RGB (1998), XYZ under D50, as in Adobe's specification, 4.3.6.1."""
ADOBE_GAMMA = 563 / 256
SRGB = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
"""The same of sRGB (IEC 61966-2-1, adapted to D50 by Bradford's matrix)."""


def profile(primaries, gamma=ADOBE_GAMMA, space=b"RGB ", padding=0):
    """A matrix profile of version 2, written by hand: ICC.1:2001-04, clauses 6.1 to 6.5."""

    def number(value):
        return struct.pack(">i", round(value * 65536))

    def xyz(values):
        return b"XYZ \0\0\0\0" + b"".join(map(number, values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"wide\0" + bytes(78 + padding)
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0none\0", b"wtpt": xyz((0.9642, 1.0, 0.8249))}
    tags |= {name + b"XYZ": xyz(primaries[:, n]) for n, name in enumerate((b"r", b"g", b"b"))}
    tags |= {name + b"TRC": curve for name in (b"r", b"g", b"b")}
    at, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"\0\0\0\0", 0x02400000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + b"".join(map(number, (0.9642, 1.0, 0.8249)))
    return head.ljust(128, b"\0") + table + body


def by_formula(pixels):
    """Adobe RGB -> sRGB, relative colorimetric: linear light, XYZ under D50, linear sRGB, its curve."""
    light = (pixels / 255.0) ** ADOBE_GAMMA
    linear = np.clip(light @ ADOBE.T @ np.linalg.inv(SRGB).T, 0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * curved)


def colours():
    """All mixtures of seven levels, uint8 [21, 49, 3] in areas of 3 x 1."""
    levels = np.array([0, 40, 90, 128, 180, 230, 255], np.uint8)
    return np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(7, 49, 3).repeat(3, 0)


def test_a_wide_picture_is_converted_as_the_formula_says():
    converted = to_srgb(colours(), profile(ADOBE))
    np.testing.assert_allclose(converted, by_formula(colours()), atol=3)
    assert np.abs(converted.astype(int) - colours()).max() > 20


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG2000"])
def test_files_that_keep_every_bit(kind):
    options = {"WEBP": {"lossless": True}}.get(kind, {})
    data = encoded(colours(), kind, icc_profile=profile(ADOBE), **options)
    if kind == "JPEG2000":  # Pillow writes no profile there
        np.testing.assert_array_equal(decode(data, max_pixels=LIMIT), colours())
    else:
        np.testing.assert_allclose(decode(data, max_pixels=LIMIT), by_formula(colours()), atol=3)


@pytest.mark.parametrize("padding", [0, 70_000])
def test_jpeg_with_its_profile_in_one_segment_or_in_two(padding):
    wide = profile(ADOBE, padding=padding)
    flat = np.full((32, 32, 3), (60, 200, 60), np.uint8)
    data = encoded(flat, "JPEG", quality=100, icc_profile=wide)
    assert notes_of(data).profile == wide and (len(data) > SMALL) == bool(padding)
    np.testing.assert_allclose(decode(data, max_pixels=LIMIT), by_formula(flat), atol=4)


@pytest.mark.parametrize(
    "given",
    [
        None,
        b"",
        b"no profile",
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        profile(SRGB, gamma=2.2),
        profile(ADOBE)[:200],
        profile(ADOBE, space=b"GRAY"),
    ],
)
def test_other_and_broken_profiles_change_nothing(given):
    assert to_srgb(colours(), given) is not None
    np.testing.assert_array_equal(to_srgb(colours(), given), colours())
    data = encoded(colours(), "PNG", **({"icc_profile": given} if given else {}))
    np.testing.assert_array_equal(decode(data, max_pixels=LIMIT), colours())


def test_grey_pictures_stay_grey():
    data = encoded(colours()[..., 0], "JPEG", quality=95, icc_profile=profile(ADOBE))
    bare = encoded(colours()[..., 0], "JPEG", quality=95)
    np.testing.assert_array_equal(decode(data, max_pixels=LIMIT), decode(bare, max_pixels=LIMIT))
