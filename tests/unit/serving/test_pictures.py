"""Pixels of received files: the same bits as the loaders of stages embed and assign make from an index."""

from __future__ import annotations

import io
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rayscan.artifacts import Artifact
from rayscan.config import FleetConfig, ImagesConfig, Recipe
from rayscan.config.preprocessing import Preprocessing
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.data.loader import ViewLoader
from rayscan.data.pictures import PictureLoader
from rayscan.data.table import ImageTable
from rayscan.serving.pictures import preparer
from rayscan.serving.refusal import RefusalError
from rayscan.stages import index
from rayscan.storage import Place
from testing.textures import jpeg, texture
from tests.unit.local_fleet import LocalFleet

MOST = 10_000_000
WANTED = Preprocessing(size_px=48)


def pretext(preprocessing: Preprocessing | None) -> Artifact:
    told = {} if preprocessing is None else {"preprocessing": asdict(preprocessing)}
    return Artifact("pretext", Place("/nowhere"), {"facts": told})


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def written(folder: Path) -> list[bytes]:
    """Pictures of several sizes and formats, one of them turned by its EXIF."""
    files = [jpeg(texture(n, 40 + 60 * n, 260 - 50 * n)) for n in range(4)] + [jpeg(texture(9, 600, 900))]
    image, buffer = Image.fromarray(texture(7)), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(buffer, "JPEG", exif=exif, quality=90)
    png = io.BytesIO()
    image.save(png, "PNG")
    files += [buffer.getvalue(), png.getvalue()]
    folder.mkdir()
    for number, data in enumerate(files):
        (folder / f"{number}.jpg").write_bytes(data)
    return files


def table_of(folder: Path, out: Path, **images: int) -> ImageTable:
    place = Place(str(out))
    context = Context(place, Sources(str(folder)), LocalFleet(FleetConfig(), place), Progress(io.StringIO()))
    recipe = Recipe(name="test", num_clusters=2, images=ImagesConfig(**images))
    step = index.plan(recipe, {}, context.sources)
    return ImageTable.from_artifact(index.run(recipe, {}, step, context))


def test_are_those_of_a_pretrained_network(tmp_path: Path) -> None:
    files = written(tmp_path / "photos")
    table = table_of(tmp_path / "photos", tmp_path / "run")
    expected = PictureLoader(table, ImagesConfig(), WANTED).pictures(np.arange(len(files)))
    found = preparer(Recipe(name="test", num_clusters=2), pretext(WANTED), MOST)(files)
    assert torch.equal(found, expected)


def test_a_jpeg_above_the_limit_is_decoded_smaller_as_the_index_does(tmp_path: Path) -> None:
    files = [jpeg(texture(3, 800, 1200))]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "0.jpg").write_bytes(files[0])
    table = table_of(tmp_path / "photos", tmp_path / "run", max_pixels=500_000)
    assert (table.height[0], table.width[0]) == (400, 600)
    expected = PictureLoader(table, ImagesConfig(), WANTED).pictures(np.arange(1))
    found = preparer(Recipe(name="test", num_clusters=2), pretext(WANTED), 500_000)(files)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("canvas", [None, 40])
def test_are_those_of_a_network_trained_here(tmp_path: Path, canvas: int | None) -> None:
    files = written(tmp_path / "photos")
    table = table_of(tmp_path / "photos", tmp_path / "run")
    recipe = Recipe(name="test", num_clusters=2)
    recipe = replace(recipe, images=replace(recipe.images, canvas_px=canvas))
    expected = ViewLoader(table, recipe.images, recipe.seed).plain(np.arange(len(files)))
    assert torch.equal(preparer(recipe, pretext(None), MOST)(files), expected)


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"", 400), (b"no picture", 415), (jpeg(texture(0))[:900], 415), (png(texture(0, 200, 200)), 413)],
)
@pytest.mark.parametrize("preprocessing", [WANTED, None])
def test_what_is_no_picture_is_refused_by_its_number(
    data: bytes, status: int, preprocessing: Preprocessing | None
) -> None:
    prepare = preparer(Recipe(name="test", num_clusters=2), pretext(preprocessing), 120 * 160)
    with pytest.raises(RefusalError, match="image 1") as refused:
        prepare([jpeg(texture(1)), data])
    assert refused.value.status == status
