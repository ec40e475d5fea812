"""Settings: refusals, what enters a fingerprint, and the way through JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from rayscan.config import (
    EmbedConfig,
    EvaluateConfig,
    FleetConfig,
    ImagesConfig,
    MineConfig,
    OptimizerConfig,
    PretextConfig,
    Recipe,
    ScanConfig,
    SelfLabelConfig,
)
from rayscan.errors import ConfigError
from rayscan.recipes import RECIPES
from rayscan.sections import Section, semantic

ADAPTER = TypeAdapter(Recipe)

REFUSALS: list[tuple[Callable[..., Any], dict[str, Any], str, str]] = [
    (ImagesConfig, {"size_px": 7}, "images.size_px", ">= 8"),
    (ImagesConfig, {"size_px": 64, "canvas_px": 63}, "images.canvas_px", ">= images.size_px = 64"),
    (ImagesConfig, {"max_bad_fraction": 1.5}, "images.max_bad_fraction", "0 <= max_bad_fraction <= 1"),
    (OptimizerConfig, {"learning_rate": 0.0}, "optimizer.learning_rate", "> 0"),
    (OptimizerConfig, {"weight_decay": -1e-9}, "optimizer.weight_decay", ">= 0"),
    (OptimizerConfig, {"warmup_epochs": -1.0}, "optimizer.warmup_epochs", ">= 0"),
    (OptimizerConfig, {"final_fraction": 1.01}, "optimizer.final_fraction", "0 <= final_fraction <= 1"),
    (PretextConfig, {"epochs": 0}, "pretext.epochs", ">= 1"),
    (PretextConfig, {"batch_size": 1}, "pretext.batch_size", ">= 2"),
    (PretextConfig, {"temperature": 0.0}, "pretext.temperature", "> 0"),
    (PretextConfig, {"projection_dim": 1}, "pretext.projection_dim", ">= 2"),
    (PretextConfig, {"queue_size": 1}, "pretext.queue_size", ">= 2"),
    (PretextConfig, {"noise_samples": 0}, "pretext.noise_samples", ">= 1"),
    (PretextConfig, {"encoder_momentum": 1.0}, "pretext.encoder_momentum", "< 1"),
    (PretextConfig, {"bank_momentum": -0.1}, "pretext.bank_momentum", "0 <= bank_momentum < 1"),
    (PretextConfig, {"batch_size": 8, "accumulate_steps": 5}, "pretext.accumulate_steps", "1..4"),
    (EmbedConfig, {"num_views": 0}, "embed.num_views", ">= 1"),
    (EmbedConfig, {"rows_per_part": 0}, "embed.rows_per_part", ">= 1"),
    (EvaluateConfig, {"knn_neighbors": (5, 0)}, "evaluate.knn_neighbors", ">= 1"),
    (EvaluateConfig, {"knn_neighbors": ()}, "evaluate.knn_neighbors", "one or more"),
    (EvaluateConfig, {"probe_images": -1}, "evaluate.probe_images", ">= 0"),
    (MineConfig, {"num_neighbors": 4}, "mine.num_neighbors", ">= 5"),
    (MineConfig, {"num_shards": 0}, "mine.num_shards", ">= 1"),
    (ScanConfig, {"num_neighbors": -1}, "scan.num_neighbors", ">= 0"),
    (ScanConfig, {"pmi_beta": 0.0}, "scan.pmi_beta", "0 < pmi_beta <= 1"),
    (ScanConfig, {"marginal_decay": 1.0}, "scan.marginal_decay", "< 1"),
    (SelfLabelConfig, {"threshold_floor": 0.0}, "selflabel.threshold_floor", "0 < threshold_floor <= 1"),
    (SelfLabelConfig, {"ema_decay": 0.0, "teacher": "average"}, "selflabel.teacher", "student where"),
    (ScanConfig, {"entropy_weight": -0.1}, "scan.entropy_weight", ">= 0"),
    (ScanConfig, {"num_heads": 0}, "scan.num_heads", ">= 1"),
    (ScanConfig, {"epochs": 0}, "scan.epochs", ">= 1"),
    (ScanConfig, {"head_epochs": 0}, "scan.head_epochs", ">= 1"),
    (ScanConfig, {"heldout_fraction": 0.0}, "scan.heldout_fraction", "0 < heldout_fraction < 0.5"),
    (SelfLabelConfig, {"threshold": 1.0}, "selflabel.threshold", "0 < threshold < 1"),
    (SelfLabelConfig, {"epochs": -1}, "selflabel.epochs", ">= 0"),
    (SelfLabelConfig, {"ema_decay": 1.0}, "selflabel.ema_decay", "< 1"),
    (SelfLabelConfig, {"plateau_epochs": 0}, "selflabel.plateau_epochs", ">= 1"),
    (Recipe, {"name": "x", "num_clusters": 1}, "num_clusters", ">= 2"),
    (Recipe, {"name": "x", "seed": -1}, "seed", ">= 0"),
    (
        Recipe,
        {"name": "x", "mine": MineConfig(num_neighbors=10)},
        "scan.num_neighbors",
        "0..10, as mine.num_neighbors",
    ),
]


@pytest.mark.parametrize(("section", "settings", "key", "expected"), REFUSALS, ids=lambda v: str(v)[:40])
def test_refuses_out_of_range(
    section: Callable[..., Any], settings: dict[str, Any], key: str, expected: str
) -> None:
    """The message names the key, what was expected, what came, and the flag to pass."""
    with pytest.raises(ConfigError) as caught:
        section(**settings)
    lines = dict(line.strip().split(": ", 1) for line in caught.value.text.splitlines()[1:])
    assert lines["where"].strip() == key
    assert expected in lines["expected"]
    assert lines["to do"].strip() == f"pass --{key.replace('_', '-')} VALUE"
    got = lines["got"].strip()
    last = list(settings.values())[-1]
    assert str(last) in got or dataclasses.is_dataclass(last)


ACCEPTED: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (ImagesConfig, {"size_px": 8, "canvas_px": 8}),
    (ImagesConfig, {"max_bad_fraction": 1.0}),
    (OptimizerConfig, {"weight_decay": 0.0, "final_fraction": 1.0}),
    (PretextConfig, {"epochs": 1, "batch_size": 2, "projection_dim": 2}),
    (MineConfig, {"num_neighbors": 5, "num_shards": 1}),
    (ScanConfig, {"num_neighbors": 0, "entropy_weight": 0.0, "heldout_fraction": 0.499}),
    (SelfLabelConfig, {"epochs": 0, "ema_decay": 0.0}),
    (Recipe, {"name": "x", "num_clusters": 2}),
    (Recipe, {"name": "x", "mine": MineConfig(num_neighbors=20)}),
]


@pytest.mark.parametrize(("section", "settings"), ACCEPTED, ids=lambda v: str(v)[:40])
def test_takes_the_edge_of_the_range(section: Callable[..., Any], settings: dict[str, Any]) -> None:
    """The last value inside a range is taken as it is."""
    made = section(**settings)
    assert {key: getattr(made, key) for key in settings} == settings


def sections_of(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every dataclass in a recipe, with its dotted path."""
    yield path, tree
    for field in dataclasses.fields(tree):
        value = getattr(tree, field.name)
        if dataclasses.is_dataclass(value):
            yield from sections_of(value, f"{path}{field.name}.")


def paths_of(tree: Any, path: str = "") -> set[str]:
    """Dotted paths of the leaves of a JSON tree."""
    if isinstance(tree, dict):
        return {leaf for key, value in tree.items() for leaf in paths_of(value, f"{path}{key}.")}
    return {path.rstrip(".")}


OPERATIONAL = {
    "images.cache_bytes",
    "images.cache_dir",
    "images.on_bad",
    "images.resident_bytes",
    "images.decode_threads",
    "embed.batch_size",
    "embed.rows_per_part",
    "mine.num_shards",
    "mine.query_block",
    "mine.storage",
    "kmeans.num_shards",
    "assign.batch_size",
    "sela.prior",  # the same
    "sela.first_labels",
    "sela.memory_bytes",
    "scan.prior",  # a path: the numbers in the file enter the fingerprint
    *(f"fleet.{field.name}" for field in dataclasses.fields(FleetConfig)),
}


def test_fingerprint_leaves_out_exactly_what_changes_no_result() -> None:
    """DESIGN section 2: worker counts, batches of a forward and block sizes are not semantic; all else is."""
    recipe = Recipe(name="r")
    everything = {
        f"{path}{field.name}"
        for path, section in sections_of(recipe)
        for field in dataclasses.fields(section)
        if not dataclasses.is_dataclass(getattr(section, field.name))
    }
    kept = paths_of({k: v for k, v in semantic(recipe).items() if k != "fleet"})
    assert everything - kept == OPERATIONAL
    assert semantic(recipe.fleet) == {}


def test_fingerprint_follows_a_semantic_setting_only() -> None:
    """The same tree for another block size, another one for another K."""
    assert semantic(MineConfig(query_block=1)) == semantic(MineConfig(query_block=2))
    assert semantic(MineConfig(num_neighbors=6)) != semantic(MineConfig(num_neighbors=7))


def test_fingerprint_tree_is_json() -> None:
    """Tuples become lists, so that the tree equals itself after JSON."""
    tree = semantic(Recipe(name="r"))
    assert json.loads(json.dumps(tree, allow_nan=False)) == tree


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_survives_json(name: str) -> None:
    """recipe.json gives back an equal recipe, types included."""
    recipe = RECIPES[name]()
    again = ADAPTER.validate_json(ADAPTER.dump_json(recipe))
    assert again == recipe
    assert semantic(again) == semantic(recipe)


def spoilt(path: tuple[str, ...], value: object) -> bytes:
    """A recipe's JSON with one key set."""
    tree = json.loads(ADAPTER.dump_json(Recipe(name="r")))
    at = tree
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return json.dumps(tree).encode()


@pytest.mark.parametrize(
    "path",
    [("num_cluster",), ("scan", "num_neighbours"), ("pretext", "optimizer", "lr"), ("fleet", "gpu")],
    ids=".".join,
)
def test_json_with_an_unknown_key_is_refused(path: tuple[str, ...]) -> None:
    """A misspelled key must not silently mean its default."""
    with pytest.raises(ValidationError) as caught:
        ADAPTER.validate_json(spoilt(path, 1))
    assert [error["loc"] for error in caught.value.errors()] == [path]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("scan", "num_neighbors"), "many"),
        (("scan", "num_neighbors"), 2.5),
        (("pretext", "stem"), "vgg"),
        (("images", "mean"), [0.5, 0.5]),
        (("scan", "num_neighbors"), 51),
    ],
    ids=str,
)
def test_json_with_a_wrong_value_is_refused(path: tuple[str, ...], value: object) -> None:
    """Wrong type, fraction, unknown choice, wrong length, and one that only the whole recipe can refuse."""
    with pytest.raises((ValidationError, ConfigError)):
        ADAPTER.validate_json(spoilt(path, value))


def test_every_section_is_frozen_and_keyword_only() -> None:
    """A recipe is a value: nobody changes it on the way."""
    recipe = Recipe(name="r")
    for path, section in sections_of(recipe):
        first = dataclasses.fields(section)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(section, first, getattr(section, first))
        assert all(field.kw_only for field in dataclasses.fields(section)), path
        assert isinstance(section, Section), path
