"""JPEGs that are odd and whole are decoded like their plain twins; those that lose rows are still found."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from rayscan.data.decode import decode
from rayscan.errors import DataError
from tests.unit.data.conftest import picture

LIMIT = 10**7


def jpeg(**options: object) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(5).integers(0, 40, (64, 80, 3), dtype=np.uint8)
    Image.fromarray(picture(3, 64, 80) // 2 + noise).save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


PLAIN, PROGRESSIVE, GREY = jpeg(), jpeg(progressive=True), jpeg(comment=b"c")


def put(data: bytes, at: int, new: bytes, replaced: int = 0) -> bytes:
    return data[:at] + new + data[at + replaced :]


def after_first_segment(data: bytes) -> int:
    return 4 + int.from_bytes(data[4:6], "big")


def scan_parameters(data: bytes) -> int:
    at = data.index(b"\xff\xda")
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") - 3


ODD = {
    "no end mark": PLAIN[:-2],
    "half an end mark": PLAIN[:-1],
    "no end mark, progressive": PROGRESSIVE[:-2],
    "zeros before the end mark": put(PLAIN, len(PLAIN) - 2, bytes(20)),
    "junk between segments": put(PLAIN, after_first_segment(PLAIN), b"junk"),
    "scan parameters of a phone": put(PLAIN, scan_parameters(PLAIN), b"\0\0\0", 3),
    "unknown revision of JFIF": put(PLAIN, PLAIN.index(b"JFIF\0") + 5, b"\x09\x09", 2),
    "everything at once": put(PLAIN[:-2], scan_parameters(PLAIN), b"\0\0\0", 3),
    "bytes after the end": PLAIN + b"\0" * 100 + b"MotionPhoto",
}


@pytest.mark.parametrize("name", ODD)
def test_odd_and_whole_files_have_the_pixels_of_the_plain_one(name: str) -> None:
    twin = PROGRESSIVE if "progressive" in name else PLAIN
    assert ODD[name] != twin
    np.testing.assert_array_equal(decode(ODD[name], max_pixels=LIMIT), decode(twin, max_pixels=LIMIT))


@pytest.mark.parametrize("name", ["plain", "progressive", *ODD])
def test_a_file_that_loses_rows_is_damaged(name: str) -> None:
    """Cut within the coded data, at many places, and then ended as a whole file would be."""
    data = {"plain": PLAIN, "progressive": PROGRESSIVE, **ODD}[name]
    first = data.index(b"\xff\xda") + 20
    last = data.rindex(b"\xff\xd9") - 40 if b"\xff\xd9" in data else len(data) - 40
    last = min(last, len(PLAIN if "progressive" not in name else PROGRESSIVE) - 60)
    for cut in np.linspace(first, last, 25).astype(int).tolist():
        for end in (b"", b"\xff\xd9"):
            with pytest.raises(DataError):
                decode(data[:cut] + end, max_pixels=LIMIT)
