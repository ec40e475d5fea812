"""One worker's part of the pretext stage, every method, on real digits: from images to stored weights."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rayscan.artifacts import Artifact
from rayscan.config import Recipe
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.data.digits import write_digits
from rayscan.recipes import by_name
from rayscan.sections import with_values
from rayscan.stages import index, pretext
from rayscan.storage import Place
from rayscan.training.job import TrainJob
from rayscan.training.models import feature_net
from tests.unit.data.conftest import Serial

METHODS = ("simclr", "moco", "instdisc", "rotnet", "byol")


class Lone:
    """A worker that is alone."""

    rank, world_size, device = 0, 1, "cpu"

    @staticmethod
    def report(_: Any) -> None:
        """Nobody listens."""


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Artifact]:
    """The index of the digits' eval split, 299 images, as a train split."""
    out = Place(str(tmp_path_factory.mktemp("pretext") / "run"))
    sources = Sources(write_digits(out.child("data")).eval)
    context = Context(out, sources, Serial(), Progress(io.StringIO()))  # type: ignore[arg-type]
    recipe = by_name("digits")
    return context, index.run(recipe, {}, index.plan(recipe, {}, sources), context)


def quick(method: str, **changes: Any) -> Recipe:
    base = by_name("digits")
    own = {"moco": {"queue_size": 256}, "instdisc": {"noise_samples": 32}}.get(method, {})
    settings = {"method": method, "epochs": 2, "batch_size": 100, **own, **changes}
    return with_values(base, {f"pretext.{name}": value for name, value in settings.items()})


def trained(indexed: tuple[Context, Artifact], recipe: Recipe) -> Artifact:
    context, images = indexed
    step = pretext.plan(recipe, {"index": images}, context.sources)
    job = TrainJob(recipe, {"index": images}, context.draft(step), context.work(step))
    returned = pretext.train_worker(job, Lone())  # type: ignore[arg-type]
    return job.draft.commit(returned.files, facts=returned.facts)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_leaves_a_backbone_and_its_metrics(
    method: str, indexed: tuple[Context, Artifact]
) -> None:
    recipe = quick(method)
    artifact = trained(indexed, recipe)
    net, dim = feature_net(recipe, artifact)
    assert net.eval()(torch.zeros(2, 3, 16, 16)).shape == (2, dim)
    table = artifact.read_table("metrics.parquet").to_pydict()
    values: dict[str, list[float]] = {}
    for name, value in zip(table["name"], table["value"], strict=True):
        values.setdefault(name, []).append(value)
    assert np.isfinite(values["loss"]).all()
    assert len(values["effective_rank"]) == 2
    assert len(values["neighbor_stability"]) == 1
    assert {"seconds_data", "seconds_compute", "images_per_second", "learning_rate"} <= values.keys()
    assert artifact.facts["method"] == method


def test_the_projection_can_be_the_feature_space(indexed: tuple[Context, Artifact]) -> None:
    recipe = quick("byol")
    recipe = replace(recipe, embed=replace(recipe.embed, space="projection"))
    net, dim = feature_net(recipe, trained(indexed, recipe))
    assert dim == recipe.pretext.projection_dim
    assert net.eval()(torch.zeros(2, 3, 16, 16)).shape == (2, dim)


def test_lars_and_parts_train_too(indexed: tuple[Context, Artifact]) -> None:
    base = quick("simclr", accumulate_steps=3)
    lars = replace(base.pretext.optimizer, kind="lars", learning_rate=1.0)
    artifact = trained(indexed, replace(base, pretext=replace(base.pretext, optimizer=lars)))
    table = artifact.read_table("metrics.parquet").to_pydict()
    losses = [v for n, v in zip(table["name"], table["value"], strict=True) if n == "loss"]
    assert np.isfinite(losses).all()


def test_windows_of_shards_train_in_their_own_order(indexed: tuple[Context, Artifact]) -> None:
    base = quick("simclr", epochs=1)
    windowed = replace(base, images=replace(base.images, shard_window=1))
    context, images = indexed
    job, plain = (TrainJob(r, {"index": images}, None, None) for r in (windowed, base))  # type: ignore[arg-type]
    gids = job.images("cpu").gids
    order, mixed = job.windowed_order(gids, 100), plain.windowed_order(gids, 100)
    assert mixed.shards is None and order.num_steps == mixed.num_steps
    shards = [set(order.shards[np.searchsorted(gids, order.batch(0, step))].tolist()) for step in (0, 2)]  # type: ignore[index]
    assert all(len(found) == 1 for found in shards) and shards[0] != shards[1]
    assert pretext.plan(windowed, {"index": images}, context.sources).fingerprint != (
        pretext.plan(base, {"index": images}, context.sources).fingerprint
    )
    assert len(trained(indexed, windowed).read_table("metrics.parquet"))
