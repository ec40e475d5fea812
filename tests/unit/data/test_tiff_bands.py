"""Bands of TIFFs that are written here from the specification: what goes in comes out."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from rayscan.data.tiff_bands import is_tiff, read_bands
from rayscan.errors import DataError

FORMATS = {"u": 1, "i": 2, "f": 3}
LIMIT = 10**6


def tiff(
    values, order="<", compression=1, predictor=1, planar=1, tile=None, rows=None, photometric=1, more=()
):
    """A TIFF of [h, w, bands], one directory, by TIFF 6.0."""
    height, width, bands = values.shape
    values = values.astype(values.dtype.newbyteorder(order))
    planes = [values] if planar == 1 else [values[:, :, [b]] for b in range(bands)]
    blocks = []
    high, wide = tile or (rows or height, width)
    for plane in planes:
        for top in range(0, height, high):
            for left in range(0, width, wide):
                block = plane[top : top + high, left : left + wide]
                if tile:
                    full = np.zeros((high, wide, block.shape[2]), values.dtype)
                    full[: block.shape[0], : block.shape[1]] = block
                    block = full
                blocks.append(packed(block, compression, predictor))
    tags = [
        (256, "I", [width]),
        (257, "I", [height]),
        (258, "H", [values.dtype.itemsize * 8] * bands),
        (259, "H", [compression]),
        (262, "H", [photometric]),
        (277, "H", [bands]),
        (284, "H", [planar]),
        (317, "H", [predictor]),
        (339, "H", [FORMATS[values.dtype.kind]] * bands),
        *more,
    ]
    tags += [(322, "I", [wide]), (323, "I", [high])] if tile else [(278, "I", [high])]
    at = 8
    offsets = []
    for block in blocks:
        offsets.append(at)
        at += len(block) + len(block) % 2
    names = (324, 325) if tile else (273, 279)
    tags += [(names[0], "I", offsets), (names[1], "I", [len(b) for b in blocks])]
    body = b"".join(b + b"\0" * (len(b) % 2) for b in blocks)
    entries, beyond = b"", b""
    extra = 8 + len(body) + 2 + 12 * len(tags) + 4
    for tag, kind, numbers in sorted(tags):
        if kind == "s":
            data, number = numbers, len(numbers)
        else:
            data, number = struct.pack(f"{order}{len(numbers)}{kind}", *numbers), len(numbers)
        code = {"s": 2, "H": 3, "I": 4}[kind]
        if len(data) <= 4:
            value = data.ljust(4, b"\0")
        else:
            value = struct.pack(f"{order}I", extra + len(beyond))
            beyond += data + b"\0" * (len(data) % 2)
        entries += struct.pack(f"{order}HHI", tag, code, number) + value
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(body))
    return head + body + struct.pack(f"{order}H", len(tags)) + entries + b"\0\0\0\0" + beyond


def packed(block, compression, predictor):
    if predictor == 2:
        block = np.diff(block, axis=1, prepend=np.zeros_like(block[:, :1])).astype(block.dtype)
    if predictor == 3:
        rows, wide, deep = block.shape
        big = block.astype(block.dtype.newbyteorder(">")).reshape(rows, wide * deep)
        planes = big.view(np.uint8).reshape(rows, wide * deep, -1).transpose(0, 2, 1).reshape(rows, -1, deep)
        block = np.diff(planes, axis=1, prepend=np.zeros_like(planes[:, :1])).astype(np.uint8)
    data = np.ascontiguousarray(block).tobytes()
    if compression == 8:
        return zlib.compress(data)
    if compression == 1:
        return data
    buffer = io.BytesIO()  # as libtiff packs a grey picture of these bytes
    rows = block.shape[0]
    Image.frombytes("L", (len(data) // rows, rows), data).save(
        buffer, "TIFF", compression={5: "tiff_lzw", 32773: "packbits"}[compression]
    )
    with Image.open(buffer) as image:
        assert len(image.tag_v2[273]) == 1
        offset, count = image.tag_v2[273][0], image.tag_v2[279][0]
    return buffer.getvalue()[offset : offset + count]


def random(dtype, bands=4, height=20, width=24, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=(height, width, bands)).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, min(info.max, 2**20), (height, width, bands)).astype(dtype)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "layout",
    [{}, {"rows": 6}, {"tile": (16, 16)}, {"planar": 2}, {"planar": 2, "tile": (16, 16), "compression": 8}],
    ids=str,
)
def test_bands_of_any_type_and_layout(dtype, order, layout):
    values = random(dtype)
    out = read_bands(tiff(values, order, **layout), (4, 2, 1), max_pixels=LIMIT)
    np.testing.assert_array_equal(out, values[:, :, [3, 1, 0]].astype(np.float32))


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
@pytest.mark.parametrize(("dtype", "predictor"), [("u1", 2), ("u2", 1), ("u2", 2), ("f4", 3), ("f4", 1)])
def test_packed_and_predicted(compression, dtype, predictor):
    values = random(dtype)
    data = tiff(values, compression=compression, predictor=predictor)
    np.testing.assert_array_equal(
        read_bands(data, (1, 2, 3), max_pixels=LIMIT), values[:, :, :3].astype("f4")
    )


def test_what_pillow_writes_is_read(tmp_path):
    grey = random("u2", 1)[:, :, 0]
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate"):
        buffer = io.BytesIO()
        Image.fromarray(grey).save(buffer, "TIFF", compression=compression)
        out = read_bands(buffer.getvalue(), (1,), max_pixels=LIMIT)
        np.testing.assert_array_equal(out[:, :, 0], grey.astype(np.float32))


def test_the_first_page_of_several():
    pages = [Image.fromarray(random("u2", 1, seed=seed)[:, :, 0]) for seed in (1, 2)]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    out = read_bands(buffer.getvalue(), (1,), max_pixels=LIMIT)
    np.testing.assert_array_equal(out[:, :, 0], np.asarray(pages[0]).astype(np.float32))


def test_white_is_zero_no_data_and_bands_that_are_not_there():
    values = random("u2", 1)
    white = read_bands(tiff(values, photometric=0), (1,), max_pixels=LIMIT)
    np.testing.assert_array_equal(white, 65535 - values.astype(np.float32))
    values = random("f4", 2)
    values[3, 4] = -9999
    out = read_bands(tiff(values, more=((42113, "s", b"-9999\0"),)), (1, 2, 3), max_pixels=LIMIT)
    assert np.isnan(out[3, 4]).all() and np.isnan(out).sum() == 3
    np.testing.assert_array_equal(out[..., 1], out[..., 2])  # the last one in the place of the third


def test_damage_and_strange_types_are_named():
    data = tiff(random("u2"))
    assert is_tiff(data) and not is_tiff(b"\xff\xd8\xff")
    for bad in (data[:100], data[:8] + data[-40:], tiff(random("u2"), compression=8)[:60] + data[60:]):
        with pytest.raises(DataError) as caught:
            read_bands(bad, (1,), max_pixels=LIMIT)
        assert caught.value.text.startswith(("damaged", "pixel-type"))
    with pytest.raises(DataError, match="too-many-pixels"):
        read_bands(data, (1,), max_pixels=10)
    rng = np.random.default_rng(0)
    for _ in range(200):
        bent = bytearray(data)
        for place in rng.integers(0, len(bent), 8):
            bent[place] = rng.integers(0, 256)
        try:
            read_bands(bytes(bent), (1,), max_pixels=LIMIT)
        except DataError as error:
            assert error.text.startswith(("damaged", "pixel-type", "too-many-pixels"))
