"""More than 8 bits: one range a band for a set, from all its pictures, and for those that are predicted."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from rayscan.config import ImagesConfig
from rayscan.data.decode import decode
from rayscan.data.reader import Reader
from rayscan.data.table import ImageTable
from rayscan.data.tones import Decoding, in_bytes, used_range
from rayscan.errors import ConfigError
from rayscan.recipes import by_name
from rayscan.stages import index
from tests.unit.data.conftest import LIMIT, encoded, picture, write_files
from tests.unit.data.test_tiff_bands import tiff

RECIPE = by_name("digits")


def made(context, done=None, bands=None):
    recipe = replace(RECIPE, images=replace(RECIPE.images, bands=bands))
    return index.run(recipe, done or {}, index.plan(recipe, done or {}, context.sources), context)


def grey_tiff(values):
    return tiff(np.asarray(values, np.uint16)[:, :, None])


def images(artifact):
    table = ImageTable.from_artifact(artifact)
    return Reader(table).images(table.gids(None))


@pytest.mark.parametrize(
    ("greatest", "top"), [(0, 1023), (1023, 1023), (1024, 4095), (4096, 16383), (16384, 65535)]
)
def test_bits_that_are_used(greatest, top):
    assert used_range(greatest) == top


def test_twelve_bits_in_sixteen_are_not_black():
    values = np.array([[0, 4095], [2048, 1000]], np.uint16)
    out = decode(grey_tiff(values), max_pixels=LIMIT)
    np.testing.assert_array_equal(out[:, :, 0], np.floor(values.astype(float) * 255 / 4095 + 0.5))


def test_white_is_zero_is_the_negative():
    values = np.linspace(0, 65535, 1600).astype(np.uint16).reshape(40, 40, 1)
    black, white = (decode(tiff(values, photometric=p), max_pixels=LIMIT) for p in (1, 0))
    np.testing.assert_array_equal(white, 255 - black)


def test_a_dark_picture_stays_darker_than_a_bright_one(tmp_path, context_for):
    bright, dark = np.full((4, 4), 4000), np.full((4, 4), 500)
    write_files(
        tmp_path / "in", {"a.tif": grey_tiff(bright), "b.tif": grey_tiff(dark), "c.png": encoded(picture(1))}
    )
    artifact = made(context_for(str(tmp_path / "in")))
    assert artifact.facts["decoding"] == {"bands": [], "low": [0.0], "high": [4095.0]}
    first, second, third = images(artifact)
    assert np.unique(first).tolist() == [round(4000 * 255 / 4095)]
    assert np.unique(second).tolist() == [round(500 * 255 / 4095)]
    np.testing.assert_array_equal(third, picture(1))


def test_bands_are_stretched_by_percentiles_of_the_set(tmp_path, context_for):
    rng = np.random.default_rng(0)
    sets = [rng.normal((100, 200, 300, 400), 20, (30, 30, 4)).astype(np.float32) for _ in range(5)]
    write_files(tmp_path / "in", {f"{n}.tif": tiff(values) for n, values in enumerate(sets)})
    artifact = made(context_for(str(tmp_path / "in")), bands="4,2,1")
    told = artifact.facts["decoding"]
    everything = np.concatenate([values.reshape(-1, 4) for values in sets])[:, [3, 1, 0]]
    exact = np.percentile(everything, (2, 98), axis=0)
    np.testing.assert_allclose([told["low"], told["high"]], exact, atol=6)  # of 1,280 pixels of 4,500
    low, high = np.float32(told["low"]), np.float32(told["high"])
    for values, pixels in zip(sets, images(artifact), strict=True):
        scaled = (values[:, :, [3, 1, 0]] - low) * (255 / (high - low))
        np.testing.assert_array_equal(pixels, np.clip(np.floor(scaled + 0.5), 0, 255).astype(np.uint8))


def test_a_deep_picture_of_another_kind_beside_them_changes_no_range(tmp_path, context_for):
    rng = np.random.default_rng(0)
    files = {f"{n}.tif": tiff(rng.normal(100, 20, (20, 20, 3)).astype(np.float32)) for n in range(3)}
    write_files(tmp_path / "one", files)
    deep = io.BytesIO()
    Image.fromarray(rng.integers(0, 60_000, (20, 20)).astype(np.uint16)).save(deep, "PNG")
    write_files(tmp_path / "two", {**files, "deep.png": deep.getvalue()})
    one, two = (
        made(context_for(str(tmp_path / name), out=f"{name}-out"), bands="3,2,1") for name in ("one", "two")
    )
    assert one.facts["decoding"] == two.facts["decoding"]
    assert len(images(two)) == 4


def test_order_and_tasks_change_nothing(tmp_path, context_for, monkeypatch):
    from rayscan.data import listing

    rng = np.random.default_rng(0)
    files = [tiff(rng.normal(size=(9, 9, 1)).astype(np.float32)) for _ in range(6)]
    write_files(tmp_path / "one", {f"{n}.tif": data for n, data in enumerate(files)})
    write_files(tmp_path / "two", {f"{n}.tif": data for n, data in enumerate(reversed(files))})
    one = made(context_for(str(tmp_path / "one"), out="one"), bands="1")
    monkeypatch.setattr(listing, "FILES_PER_TASK", 2)
    two = made(context_for(str(tmp_path / "two"), out="two"), bands="1")
    assert one.facts["decoding"] == two.facts["decoding"]


def test_new_pictures_take_the_ranges_of_the_run_that_predicts_them(tmp_path, context_for):
    write_files(tmp_path / "in", {"a.tif": grey_tiff(np.full((4, 4), 60_000))})
    write_files(tmp_path / "new", {"b.tif": grey_tiff(np.full((4, 4), 500))})
    trained = made(context_for(str(tmp_path / "in")))
    context = context_for(None, str(tmp_path / "new"), out="predicted")
    predicted = made(context, {index.TRAINED: trained})
    assert predicted.facts["decoding"] == trained.facts["decoding"]
    assert images(predicted)[0].max() == 2
    alone = made(context_for(None, str(tmp_path / "new"), out="alone"))
    assert images(alone)[0].max() == 125 and alone.identity != predicted.identity


def test_no_value_is_black_and_beyond_the_range_is_clipped():
    values = np.array([[[np.nan], [-5.0], [0.5], [9.0]]])
    assert in_bytes(values, Decoding((1,), (0.0,), (1.0,)))[0, :, 0].tolist() == [0, 0, 128, 255]
    assert in_bytes(np.full((1, 1, 1), 3.0), Decoding((1,), (3.0,), (3.0,))).max() == 0


@pytest.mark.parametrize("bands", ["", "1,2", "0", "3,2,x", "1,2,3,4"])
def test_bands_are_one_or_three(bands):
    with pytest.raises(ConfigError, match="bands"):
        replace(by_name("custom"), images=ImagesConfig(bands=bands))


def test_animations_and_pages_give_their_first(tmp_path):
    import io

    frames = [Image.fromarray(picture(seed)) for seed in (1, 2, 3)]
    for kind in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        buffer, alone = io.BytesIO(), io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
        frames[0].save(alone, kind)
        out = decode(buffer.getvalue(), max_pixels=LIMIT).astype(int)
        assert np.abs(out - decode(alone.getvalue(), max_pixels=LIMIT)).mean() < 6, kind
        assert np.abs(out - picture(2)).mean() > 20, kind
