"""The square of a pretrained network, against torchvision's own transforms as timm composes them."""

from __future__ import annotations

import io
import tarfile
import zlib

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image
from timm.data import create_transform

from rayscan.config import ImagesConfig
from rayscan.config.preprocessing import Preprocessing
from rayscan.data.central_crop import central_crop, short_side
from rayscan.data.decode import decode, reduction
from rayscan.data.pictures import PictureLoader
from rayscan.data.table import ImageTable
from rayscan.errors import DataError
from tests.unit.data.conftest import SHARED, encoded, make_tar, picture

LIMIT = 50_000_000
WANTED = Preprocessing()


def by_timm(image, wanted=WANTED):
    """timm's evaluation transform without its normalisation, int [S, S, 3]; small pictures whole."""
    is_enlarged = min(image.size) <= wanted.size_px
    transform = create_transform(
        (3, wanted.size_px, wanted.size_px),
        interpolation=wanted.interpolation,
        crop_pct=1.0 if is_enlarged else wanted.crop_share,
        mean=(0, 0, 0),
        std=(1, 1, 1),
    )
    return (transform(image) * 255).round().permute(1, 2, 0).numpy().astype(int)


def cut(pixels, wanted=WANTED):
    return central_crop(pixels, *pixels.shape[:2], wanted)


SIZES = [
    (375, 500),
    (500, 333),
    (256, 256),
    (257, 255),
    (32, 32),
    (11, 17),
    (224, 1500),
    (1200, 90),
    (301, 603),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "wanted", [WANTED, Preprocessing(size_px=97, crop_share=1.0, interpolation="bilinear")], ids=("224", "97")
)
def test_equals_resize_and_center_crop(size, wanted):
    pixels = picture(1, *size)
    ours, theirs = cut(pixels, wanted).astype(int), by_timm(Image.fromarray(pixels), wanted)
    assert ours.shape == theirs.shape
    # Two passes, each rounded to bytes, with weights of other bits in Pillow and torch: one level each.
    assert np.abs(ours - theirs).max() <= 2
    assert np.abs(ours - theirs).mean() < 0.5


@pytest.mark.parametrize("size", [(1500, 1000), (3001, 2003)])
def test_a_reduced_jpeg_is_aligned_with_the_whole(size):
    data = encoded(picture(2, *size), "JPEG", quality=95)
    small = decode(data, max_pixels=LIMIT, min_px=short_side(WANTED))
    by = reduction(*size, short_side(WANTED))
    assert by > 1
    assert small.shape[:2] == tuple(-(-side // by) for side in size)
    ours = central_crop(small, *size, WANTED).astype(int)
    theirs = by_timm(Image.open(io.BytesIO(data)).convert("RGB"))
    # A smooth picture moved by one output pixel would differ by more.
    assert np.abs(ours - theirs).mean() < 0.5
    assert np.abs(ours - theirs).mean() < 0.5 * np.abs(np.roll(ours, 1, 1) - theirs).mean()


@pytest.mark.parametrize(
    ("side", "by"), [(255, 1), (511, 2), (512, 2), (1020, 2), (1024, 4), (2041, 8), (9000, 8)]
)
def test_a_reduction_never_goes_below_what_is_wanted(side, by):
    # libjpeg's output is ceil(side / by): 511 -> 256, 1020 -> 255 at a quarter, 2041 -> 256 at an eighth.
    assert reduction(side, side + 700, 256) == by
    assert reduction(side + 700, side, 256) == by


def test_orientation_and_reduction():
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = picture(3, 800, 1200)
    data = encoded(pixels, "JPEG", quality=95, exif=exif)
    small = decode(data, max_pixels=LIMIT, min_px=256)
    assert small.shape == (600, 400, 3)
    upright = np.rot90(pixels, -1)
    ours, theirs = central_crop(small, 1200, 800, WANTED).astype(int), by_timm(Image.fromarray(upright))
    assert np.abs(ours - theirs).mean() < 1


def test_a_cut_jpeg_is_damaged_at_reduced_scale_too():
    data = encoded(picture(4, 1200, 1600), "JPEG", quality=95)
    with pytest.raises(DataError, match="damaged"):
        decode(data[: len(data) // 2], max_pixels=LIMIT, min_px=256)


def kinds():
    """Files of other kinds, and the picture each shows."""
    rgb = picture(5, 300, 420)
    grey = Image.fromarray(rgb).convert("L")
    alpha = np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])
    alpha[:, :210, 3] = 0
    shown = rgb.copy()
    shown[:, :210] = 255
    cmyk, grey_file = io.BytesIO(), io.BytesIO()
    Image.fromarray(rgb).convert("CMYK").save(cmyk, "JPEG", quality=98)
    grey.save(grey_file, "JPEG", quality=98)
    return [
        ("a.jpg", grey_file.getvalue(), np.asarray(grey.convert("RGB"))),
        ("b.jpg", cmyk.getvalue(), rgb),
        ("c.png", encoded(alpha), shown),
        ("d.png", encoded(picture(6, 20, 31)), picture(6, 20, 31)),
        ("e.jpg", encoded(picture(7, 900, 1300), "JPEG", quality=98), picture(7, 900, 1300)),
        ("f.webp", encoded(rgb, "WEBP", lossless=True), rgb),
    ]


def loader_of(tmp_path, files, threads=2):
    data = make_tar([(name, content) for name, content, _ in files])
    (tmp_path / "a.tar").write_bytes(data)
    count = len(files)
    table = ImageTable(
        shard=np.zeros(count, np.int32),
        offset=np.array([data.index(content) for _, content, _ in files], np.int64),
        length=np.array([len(content) for _, content, _ in files], np.int64),
        crc32=np.array([zlib.crc32(content) for _, content, _ in files], np.uint32),
        width=np.array([shown.shape[1] for _, _, shown in files], np.int32),
        height=np.array([shown.shape[0] for _, _, shown in files], np.int32),
        is_ok=np.ones(count, np.bool_),
        is_eval=np.zeros(count, np.bool_),
        shard_uris=(str(tmp_path / "a.tar"),),
    )
    return PictureLoader(table, ImagesConfig(decode_threads=threads), WANTED)


def test_every_kind_of_file_is_the_picture_it_shows(tmp_path):
    files = kinds()
    pixels = loader_of(tmp_path, files).pictures(np.arange(len(files)))
    assert pixels.shape == (6, 3, 224, 224)
    assert pixels.dtype == torch.uint8
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    for row, (name, _, shown) in zip(pixels, files, strict=True):
        difference = np.abs(row.permute(1, 2, 0).numpy().astype(int) - by_timm(Image.fromarray(shown)))
        assert difference.mean() < 2, name


def test_a_row_depends_on_nothing_else_in_the_batch(tmp_path, monkeypatch):
    files = kinds()
    together = loader_of(tmp_path, files, threads=3).pictures(np.array([4, 0, 5, 2, 1, 3, 4]))
    monkeypatch.setattr("rayscan.data.pictures.ENCODED_BYTES", 1)  # every file is a portion of its own
    one = loader_of(tmp_path, files, threads=1)
    assert torch.equal(one.pictures(np.array([4, 0, 5, 2, 1, 3, 4])), together)
    for gid, row in zip([4, 0, 5, 2, 1, 3, 4], together, strict=True):
        assert torch.equal(one.pictures(np.array([gid]))[0], row)
    assert one.pictures(np.arange(0)).shape == (0, 3, 224, 224)


def test_another_picture_than_the_indexed_is_refused(tmp_path):
    loader = loader_of(tmp_path, kinds())
    loader._table.height[4] += 8  # one pixel at the reduction it is decoded with
    with pytest.raises(DataError, match="650 x 450"):
        loader.pictures(np.array([4]))


def test_real_photos_are_within_a_few_grey_levels_of_timm():
    shards = sorted((SHARED / "imagenet-sample").glob("*.tar"))
    if not shards:
        pytest.skip("the photos of shared/data/imagenet-sample are not here")
    with tarfile.open(shards[0]) as tar:
        names = [member for member in tar if member.name.endswith(".jpg")][:40]
        photos = [tar.extractfile(member).read() for member in names]
    means = []
    for data in photos:
        height, width = simplejpeg.decode_jpeg_header(data)[:2]
        small = decode(data, max_pixels=LIMIT, min_px=short_side(WANTED))
        theirs = by_timm(Image.open(io.BytesIO(data)).convert("RGB"))
        difference = np.abs(central_crop(small, height, width, WANTED).astype(int) - theirs)
        is_whole = reduction(height, width, short_side(WANTED)) == 1
        assert difference.max() <= 2 or not is_whole
        means.append(difference.mean())
    assert max(means) < 4  # of 255
