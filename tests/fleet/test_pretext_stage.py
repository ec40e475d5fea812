"""The pretext stage on two workers: a method with its own state; a checkpoint that needs no training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from rayscan import pipeline
from rayscan.artifacts import Artifact
from rayscan.config import FleetConfig, Recipe
from rayscan.context import Sources
from rayscan.data.digits import write_digits
from rayscan.engine.tensors import under, unpack
from rayscan.errors import ConfigError
from rayscan.fleet import train
from rayscan.recipes import by_name
from rayscan.sections import with_values
from rayscan.stages import embed, index, pretext
from rayscan.storage import Place
from tests.fleet.controller_spy import NOTES, SpyBudget


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(str(tmp_path_factory.mktemp("pretext") / "run"))


def recipe(**changes: object) -> Recipe:
    base = by_name("digits")
    quick = {"epochs": 2, "batch_size": 300, "accumulate_steps": 2, **changes}
    made = with_values(base, {f"pretext.{name}": value for name, value in quick.items()})
    return replace(made, fleet=FleetConfig(num_workers=2))


def run(place: Place, asked: Recipe) -> dict[str, Artifact]:
    digits = write_digits(place.child("data"))
    return pipeline.run(asked, Sources(digits.train), place, stages=(index, pretext, embed))


def test_instance_discrimination_then_its_backbone_as_a_checkpoint(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "controller"
    monkeypatch.setenv(NOTES, str(notes))
    monkeypatch.setattr(train, "RetryBudget", SpyBudget)
    asked = recipe(method="instdisc", temperature=0.2, noise_samples=64)
    done = run(place, asked)
    states = [line.split() for line in notes.read_text().splitlines()]
    assert {"RunningState", "FinishedState"} <= {state for state, _ in states}
    assert not any(has_torch == "True" for _, has_torch in states), "every training waits for this process"
    table = done["pretext"].read_table("metrics.parquet").to_pydict()
    last = dict(zip(table["name"], table["value"], strict=True))
    assert np.isfinite(last["loss"])
    assert 0 < last["neighbor_stability"] <= 1
    assert last["effective_rank"] > 1
    assert last["seconds_communication"] > 0
    assert last["images_per_second"] > 0
    assert done["pretext"].facts["method"] == "instdisc"

    weights = under(unpack(done["pretext"].read("backbone.safetensors")), "backbone")
    save_file(weights, tmp_path / "weights.safetensors")
    taken = recipe(checkpoint_license="mine")
    again = run(place, replace(taken, features=(f"checkpoint:{tmp_path}/weights.safetensors",)))
    assert again["pretext"].facts["method"] == "checkpoint"
    assert again["pretext"].identity != done["pretext"].identity
    for name in ("part-00000.npy", "gids.npy"):
        assert np.array_equal(again["embed"].read_array(name), done["embed"].read_array(name))


def test_the_river_can_be_stopped_at_a_stage() -> None:
    names = [stage.NAME for stage in pipeline.stages_until(by_name("cifar10"), "embed")]
    assert names == ["index", "pretext", "embed"]
    for wrong in ("embeds", "evaluate"):
        with pytest.raises(ConfigError, match="--until"):
            pipeline.stages_until(by_name("cifar10"), wrong)
