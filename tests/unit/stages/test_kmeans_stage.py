"""Stages pca and kmeans over stored digits, with the fleet in this process."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from rayscan.artifacts import Artifact
from rayscan.config import FleetConfig, KMeansConfig, PcaConfig, Recipe
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.errors import ConfigError
from rayscan.fleet import kmeans as fleet_kmeans
from rayscan.fleet.cluster import Cluster
from rayscan.fleet.shard_layout import one_per_node
from rayscan.stages import kmeans, pca
from rayscan.stages.kmeans import Centroids
from rayscan.storage import Place
from rayscan.vectors import cluster_shard
from testing.matrices import embedded, unit
from tests.unit.local_fleet import LocalFleet, LocalPool

TRAIN = 1500
SMALL = KMeansConfig(num_seeds=2, max_iter=6)
BASE = Recipe(
    name="test",
    num_clusters=10,
    method="kmeans",
    pca=PcaConfig(num_components=30),
    kmeans=KMeansConfig(num_seeds=2, n_init=2),
)


@pytest.mark.parametrize(
    ("cluster", "asked", "threads", "expected"),
    [
        (Cluster(16, 512, 0, is_own=False), None, None, (16, 32)),
        (Cluster(16, 512, 0, is_own=False), 64, None, (64, 8)),
        (Cluster(3, 2, 0, is_own=False), None, None, (3, 1)),  # a head without CPUs
        (Cluster(1, 8, 0, is_own=True), None, 3, (1, 3)),
    ],
)
def test_shards_and_threads_follow_the_machines(
    cluster: Cluster, asked: int | None, threads: int | None, expected: tuple[int, int]
) -> None:
    assert one_per_node(cluster, asked, threads) == expected


@pytest.fixture
def embed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_pool: None) -> Artifact:
    for module in (cluster_shard, fleet_kmeans):
        monkeypatch.setattr(module, "BLOCK_ROWS", 256)
    return embedded(Place(str(tmp_path / "in")), unit(load_digits().data), num_eval=1797 - TRAIN)


def run(out: Path, recipe: Recipe, embed: Artifact) -> dict[str, Artifact]:
    done, sources = {"embed": embed}, Sources(None)
    place = Place(str(out))
    context = Context(place, sources, LocalFleet(FleetConfig(num_workers=3), place), Progress(StringIO()))
    for stage in (pca, kmeans):
        done[stage.NAME] = stage.run(recipe, done, stage.plan(recipe, done, sources), context)
    return done


def test_fits_are_those_of_scikit_learn_on_scikit_learns_components(tmp_path: Path, embed: Artifact) -> None:
    done = run(tmp_path / "out", BASE, embed)
    x = unit(load_digits().data)[:TRAIN]
    theirs = PCA(30, svd_solver="full").fit(x)
    assert done["pca"].facts["explained"] == pytest.approx(theirs.explained_variance_ratio_.sum(), rel=1e-5)
    model = done["kmeans"]
    note, fitted = model.read_json("kmeans.json"), Centroids.read(model)
    assert fitted.all.shape == (2, 10, 30)
    assert LocalPool.made == 3
    z = fitted.pca.project(x)
    for centroids, fit in zip(fitted.all, note["fits"], strict=True):
        distances = ((z[:, None].astype(np.float64) - centroids[None]) ** 2).sum(axis=2).min(axis=1)
        assert fit["inertia"] == pytest.approx(distances.sum(), rel=1e-5)
        settled = SklearnKMeans(10, init=centroids, n_init=1, tol=0, algorithm="lloyd").fit(z)
        assert 0.995 * fit["inertia"] <= settled.inertia_ <= fit["inertia"] * (1 + 1e-6)
    assert [fit["seed"] for fit in note["fits"]] == [0, 1]
    assert note["best"] == int(np.argmin([fit["inertia"] for fit in note["fits"]]))
    curves = model.read_table("metrics.parquet").to_pydict()
    assert curves["value"] == [v for fit in note["fits"] for v in fit["history"]]


def test_any_number_of_shards_gives_the_same_files(tmp_path: Path, embed: Artifact) -> None:
    hashes = set()
    for shards in (1, 2, 5):
        recipe = replace(BASE, kmeans=replace(SMALL, num_shards=shards))
        model = run(tmp_path / f"out-{shards}", recipe, embed)["kmeans"]
        assert LocalPool.made == shards
        hashes.add((model.files["centroids.npy"].sha256, model.files["kmeans.json"].sha256))
    assert len(hashes) == 1


@pytest.mark.parametrize("settings", [{}, {"variant": "minibatch", "max_iter": 4}])
def test_a_lost_driver_goes_on_from_the_last_move(
    tmp_path: Path, embed: Artifact, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    recipe = replace(BASE, kmeans=replace(SMALL, **settings))
    whole = run(tmp_path / "whole", recipe, embed)["kmeans"]
    out, interrupted = tmp_path / "out", 0
    monkeypatch.setattr(LocalPool, "dies_after", 5)
    for _ in range(60):
        try:
            model = run(out, recipe, embed)["kmeans"]
            break
        except KeyboardInterrupt:
            interrupted += 1
    assert interrupted >= 2
    for name in ("centroids.npy", "kmeans.json"):
        assert model.files[name].sha256 == whole.files[name].sha256
    left = {path.name for path in out.glob("kmeans-*/**/*") if path.is_file()}
    assert left == {*model.files, "manifest.json"}


def test_over_clustering_forms_more(tmp_path: Path, embed: Artifact) -> None:
    recipe = replace(BASE, kmeans=replace(SMALL, over_clustering=1.5, num_seeds=1))
    assert Centroids.read(run(tmp_path / "out", recipe, embed)["kmeans"]).all.shape == (1, 15, 30)
    assert recipe.clusters_formed == 15
    assert replace(recipe, method="scan").clusters_formed == 10


def test_probabilities_are_the_posterior_of_equal_gaussians(tmp_path: Path, embed: Artifact) -> None:
    fitted = Centroids.read(run(tmp_path / "out", replace(BASE, kmeans=SMALL), embed)["kmeans"])
    z = fitted.pca.project(unit(load_digits().data)[:50]).astype(np.float64)
    distances = ((z[:, None] - fitted.all[fitted.best][None]) ** 2).sum(axis=2)
    density = np.exp(-(distances - distances.min(axis=1, keepdims=True)) / (2 * fitted.variance))
    got = fitted.probabilities(z.astype(np.float32))
    np.testing.assert_allclose(got, density / density.sum(axis=1, keepdims=True), atol=1e-4)
    assert (got.argmax(axis=1) == distances.argmin(axis=1)).all()


def test_more_components_than_there_are_is_refused(tmp_path: Path, embed: Artifact) -> None:
    with pytest.raises(ConfigError, match=r"pca\.num_components"):
        run(tmp_path / "out", replace(BASE, pca=PcaConfig(num_components=65)), embed)
