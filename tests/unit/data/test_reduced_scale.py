"""Pictures with too many pixels come reduced where the codec can; the setting rules for every codec."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from rayscan.data.decode import decode
from rayscan.data.reader import Reader
from rayscan.data.reduced_scale import least_reduction
from rayscan.data.table import ImageTable
from rayscan.errors import DataError
from rayscan.recipes import by_name
from rayscan.stages import index
from tests.unit.data.conftest import encoded, picture, write_files

RECIPE = by_name("digits")


def smaller(pixels, by):
    """The mean of every by x by block."""
    height, width = (side // by * by for side in pixels.shape[:2])
    blocks = pixels[:height, :width].reshape(height // by, by, width // by, by, 3)
    return blocks.mean(axis=(1, 3))


@pytest.mark.parametrize(("most", "by"), [(64 * 96, 1), (64 * 96 - 1, 2), (32 * 48 - 1, 4), (16 * 24 - 1, 8)])
@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_the_least_reduction_that_is_allowed(kind, most, by):
    pixels = picture(3, 64, 96)
    out = decode(encoded(pixels, kind), max_pixels=most)
    assert out.shape == (64 // by, 96 // by, 3)
    alike = np.corrcoef(out.ravel(), smaller(pixels, by).ravel())[0, 1]
    assert alike > 0.9  # the low band of a wavelet is no mean


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_more_than_can_be_reduced_is_refused_by_the_setting_and_no_other_limit(kind):
    data = encoded(picture(3, 64, 96), kind)
    with pytest.raises(DataError, match="too-many-pixels") as caught:
        decode(data, max_pixels=10)
    assert "--images.max-pixels" in caught.value.text


def test_pillow_has_no_limit_of_its_own():
    buffer = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(buffer, "PNG")  # more than twice Pillow's default
    assert decode(buffer.getvalue(), max_pixels=200_000_000).shape == (10_000, 20_000, 3)


def test_sides_are_rounded_up():
    assert least_reduction(9, 9, 25) == 2  # 5 x 5
    assert least_reduction(9, 9, 24) == 4
    assert decode(encoded(picture(3, 65, 97), "JPEG"), max_pixels=33 * 49).shape == (33, 49, 3)
    assert decode(encoded(picture(3, 65, 97), "JPEG"), max_pixels=33 * 49, min_px=10).shape == (17, 25, 3)


def test_jpeg_2000_is_reduced_as_far_as_it_has_levels():
    buffer = io.BytesIO()
    Image.fromarray(picture(3, 64, 96)).save(buffer, "JPEG2000", num_resolutions=2)
    assert decode(buffer.getvalue(), max_pixels=32 * 48).shape == (32, 48, 3)
    with pytest.raises(DataError, match="too-many-pixels"):
        decode(buffer.getvalue(), max_pixels=32 * 48 - 1)


def test_cmyk_jpegs_are_reduced_as_well():
    cmyk = Image.fromarray(picture(3, 64, 96)).convert("CMYK")
    buffer = io.BytesIO()
    cmyk.save(buffer, "JPEG")
    assert decode(buffer.getvalue(), max_pixels=32 * 48).shape == (32, 48, 3)


def test_they_are_indexed_and_read_at_that_size(tmp_path, context_for):
    large = {"a.jpg": encoded(picture(1, 64, 96), "JPEG"), "b.jp2": encoded(picture(2, 64, 96), "JPEG2000")}
    write_files(tmp_path / "in", large | {"c.png": encoded(picture(3))})
    recipe = replace(RECIPE, images=replace(RECIPE.images, max_pixels=1000))
    context = context_for(str(tmp_path / "in"))
    artifact = index.run(recipe, {}, index.plan(recipe, {}, context.sources), context)
    found = artifact.read_table("images.parquet").to_pylist()
    assert [(r["height"], r["width"], r["status"]) for r in found] == [(16, 24, "ok")] * 2 + [(12, 16, "ok")]
    reader = Reader(ImageTable.from_artifact(artifact))
    assert [p.shape[:2] for p in reader.images([0, 1, 2])] == [(16, 24), (16, 24), (12, 16)]
    sizes = []
    reader.each([0, 1], lambda row, pixels: sizes.append(pixels.shape[:2]), min_px=8)
    assert sizes == [(8, 12), (16, 24)]
    sizes.clear()
    reader.each([0], lambda row, pixels: sizes.append(pixels.shape[:2]), min_px=2)
    assert sizes == [(8, 12)]  # libjpeg ends at an eighth
