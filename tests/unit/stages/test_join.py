"""The join of spaces against plain numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rayscan.artifacts import Artifact
from rayscan.config import EmbedConfig, Recipe
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.errors import DataError
from rayscan.stages import join
from rayscan.storage import Place
from rayscan.vectors.parts import EmbeddingRows
from tests.unit.embeddings.artifacts import embedded
from tests.unit.local_fleet import LocalFleet

DIMS = {"embed@a": 7, "embed@b": 5}


def unit(x: Any) -> Any:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def joined(place: Place, spaces: dict[str, Artifact], recipe: Recipe, **more: Artifact) -> Artifact:
    context = Context(place, Sources(data=None), LocalFleet(recipe.fleet, place, print), Progress())
    done = {**spaces, **more}
    step = join.plan(recipe, done, context.sources)
    return join.run(recipe, done, step, context)


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(name="r", num_clusters=2, method="kmeans", features=("file:a.npy", "file:b.npy"))


def spaces_of(place: Place, missing: dict[str, int]) -> tuple[dict[str, Artifact], dict[str, Any]]:
    """Two spaces of 40 train and 10 eval images, with an image missing in each."""
    rng = np.random.default_rng(1)
    artifacts, rows = {}, {}
    for name, dim in DIMS.items():
        rows[name] = unit(rng.normal(size=(50, dim)) * np.linspace(2, 0.1, dim) + rng.normal(size=dim))
        gids = np.array([g for g in range(50) if g != missing.get(name)])
        train = int((gids < 40).sum())
        artifacts[name] = embedded(place, name, rows[name][gids], gids, train)
    return artifacts, rows


def test_each_space_counts_the_same(tmp_path: Path, recipe: Recipe) -> None:
    place = Place(str(tmp_path))
    artifacts, rows = spaces_of(place, {"embed@a": 3, "embed@b": 45})
    made = joined(place, artifacts, recipe)
    found = EmbeddingRows(made)
    both = [g for g in range(50) if g not in (3, 45)]
    assert found.gids.tolist() == both
    assert found.train_rows == 39
    # by a singular value decomposition of the train rows of each space
    blocks = []
    for name, missing in (("embed@a", 3), ("embed@b", 45)):
        train = rows[name][[g for g in range(40) if g != missing]].astype(np.float64)
        centred = train - train.mean(axis=0)
        _, s, v = np.linalg.svd(centred, full_matrices=False)
        scale = 1 / np.sqrt((s**2).sum() / (len(train) - 1))
        blocks.append(scale * (rows[name][both] - train.mean(axis=0)) @ v.T)
    expected = unit(np.concatenate(blocks, axis=1))
    # signs of components are free: cosines between rows are not
    got = found.read(0, len(both))
    np.testing.assert_allclose(got @ got.T, expected @ expected.T, atol=2e-5)


def test_fewer_components_and_parts_of_other_sizes(tmp_path: Path, recipe: Recipe) -> None:
    place = Place(str(tmp_path))
    artifacts, _ = spaces_of(place, {})
    few = Recipe(
        name="r",
        num_clusters=2,
        method="kmeans",
        features=recipe.features,
        embed=EmbedConfig(joined_components=2, rows_per_part=7),
    )
    whole = Recipe(
        name="r",
        num_clusters=2,
        method="kmeans",
        features=recipe.features,
        embed=EmbedConfig(joined_components=2),
    )
    one, other = (joined(place.child(name), artifacts, r) for name, r in (("x", few), ("y", whole)))
    assert one.facts["dim"] == 4
    assert one.identity == other.identity
    np.testing.assert_array_equal(EmbeddingRows(one).read(0, 50), EmbeddingRows(other).read(0, 50))


def test_new_images_go_through_the_components_of_the_run(tmp_path: Path, recipe: Recipe) -> None:
    place = Place(str(tmp_path))
    artifacts, rows = spaces_of(place, {})
    trained = joined(place.child("run"), artifacts, recipe)
    some = np.arange(10, 22)
    new = {n: embedded(place, f"{n}-new", rows[n][some], np.arange(12), 0) for n in DIMS}
    made = joined(place.child("new"), new, recipe, **{join.TRAINED: trained})
    np.testing.assert_allclose(EmbeddingRows(made).read(0, 12), EmbeddingRows(trained).take(some), atol=1e-6)


def test_spaces_of_other_images_are_refused(tmp_path: Path, recipe: Recipe) -> None:
    place = Place(str(tmp_path))
    x = unit(np.random.default_rng(0).normal(size=(4, 3)))
    artifacts = {
        "embed@a": embedded(place, "a", x, np.arange(4), 4),
        "embed@b": embedded(place, "b", x, np.arange(4, 8), 4),
    }
    with pytest.raises(DataError, match="no image has features in all spaces"):
        joined(place, artifacts, recipe)
