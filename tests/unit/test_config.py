"""Settings: refusals, what enters a fingerprint, and the way through JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rayscan.config import (
    PRETEXTS,
    BYOLConfig,
    EmbedConfig,
    EvaluateConfig,
    FleetConfig,
    ImagesConfig,
    InstDiscConfig,
    MineConfig,
    MoCoConfig,
    OptimizerConfig,
    PmiLossConfig,
    PretextConfig,
    Recipe,
    ScanLossConfig,
    SelfLabelConfig,
    SimCLRConfig,
)
from rayscan.errors import ConfigError
from rayscan.recipes import RECIPES
from rayscan.run import recipe_from_json, recipe_to_json
from rayscan.sections import Section, semantic, with_values

REFUSALS: list[tuple[Callable[..., Any], dict[str, Any], str, str]] = [
    (ImagesConfig, {"size_px": 7}, "images.size_px", ">= 8"),
    (ImagesConfig, {"size_px": 64, "canvas_px": 63}, "images.canvas_px", ">= images.size_px = 64"),
    (ImagesConfig, {"max_bad_fraction": 1.5}, "images.max_bad_fraction", "0 <= max_bad_fraction <= 1"),
    (OptimizerConfig, {"learning_rate": 0.0}, "optimizer.learning_rate", "> 0"),
    (OptimizerConfig, {"weight_decay": -1e-9}, "optimizer.weight_decay", ">= 0"),
    (OptimizerConfig, {"warmup_epochs": -1.0}, "optimizer.warmup_epochs", ">= 0"),
    (OptimizerConfig, {"final_fraction": 1.01}, "optimizer.final_fraction", "0 <= final_fraction <= 1"),
    (SimCLRConfig, {"epochs": 0}, "pretext.epochs", ">= 1"),
    (SimCLRConfig, {"batch_size": 1}, "pretext.batch_size", ">= 2"),
    (SimCLRConfig, {"temperature": 0.0}, "pretext.temperature", "> 0"),
    (SimCLRConfig, {"projection_dim": 1}, "pretext.projection_dim", ">= 2"),
    (MoCoConfig, {"queue_size": 1}, "pretext.queue_size", ">= 2"),
    (InstDiscConfig, {"noise_samples": 0}, "pretext.noise_samples", ">= 1"),
    (MoCoConfig, {"encoder_momentum": 1.0}, "pretext.encoder_momentum", "< 1"),
    (BYOLConfig, {"encoder_momentum": 1.0}, "pretext.encoder_momentum", "< 1"),
    (InstDiscConfig, {"bank_momentum": -0.1}, "pretext.bank_momentum", "0 <= bank_momentum < 1"),
    (SimCLRConfig, {"batch_size": 8, "accumulate_steps": 5}, "pretext.accumulate_steps", "1..4"),
    (EmbedConfig, {"num_views": 0}, "embed.num_views", ">= 1"),
    (EmbedConfig, {"rows_per_part": 0}, "embed.rows_per_part", ">= 1"),
    (EvaluateConfig, {"knn_neighbors": (5, 0)}, "evaluate.knn_neighbors", ">= 1"),
    (EvaluateConfig, {"knn_neighbors": ()}, "evaluate.knn_neighbors", "one or more"),
    (EvaluateConfig, {"probe_images": -1}, "evaluate.probe_images", ">= 0"),
    (MineConfig, {"num_neighbors": 4}, "mine.num_neighbors", ">= 5"),
    (MineConfig, {"num_shards": 0}, "mine.num_shards", ">= 1"),
    (ScanLossConfig, {"num_neighbors": -1}, "scan.num_neighbors", ">= 0"),
    (PmiLossConfig, {"pmi_beta": 0.0}, "scan.pmi_beta", "0 < pmi_beta <= 1"),
    (ScanLossConfig, {"marginal_decay": 1.0}, "scan.marginal_decay", "< 1"),
    (PmiLossConfig, {"marginal_decay": 1.0}, "scan.marginal_decay", "< 1"),
    (PmiLossConfig, {"teacher_decay": 1.0}, "scan.teacher_decay", "< 1"),
    (SelfLabelConfig, {"threshold_floor": 0.0}, "selflabel.threshold_floor", "0 < threshold_floor <= 1"),
    (SelfLabelConfig, {"ema_decay": 0.0, "teacher": "average"}, "selflabel.teacher", "student where"),
    (ScanLossConfig, {"entropy_weight": -0.1}, "scan.entropy_weight", ">= 0"),
    (ScanLossConfig, {"num_heads": 0}, "scan.num_heads", ">= 1"),
    (ScanLossConfig, {"epochs": 0}, "scan.epochs", ">= 1"),
    (ScanLossConfig, {"head_epochs": 0}, "scan.head_epochs", ">= 1"),
    (ScanLossConfig, {"heldout_fraction": 0.0}, "scan.heldout_fraction", "0 < heldout_fraction < 0.5"),
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
    (SimCLRConfig, {"epochs": 1, "batch_size": 2, "projection_dim": 2}),
    (MineConfig, {"num_neighbors": 5, "num_shards": 1}),
    (ScanLossConfig, {"num_neighbors": 0, "entropy_weight": 0.0, "heldout_fraction": 0.499}),
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
    "images.bands",  # in the plan of index, where it is given
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
    again = recipe_from_json(recipe_to_json(recipe), "")
    assert again == recipe
    assert semantic(again) == semantic(recipe)


def spoilt(path: tuple[str, ...], value: object) -> bytes:
    """A recipe's JSON with one key set."""
    tree = json.loads(recipe_to_json(Recipe(name="r")))
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
    with pytest.raises(ConfigError) as caught:
        recipe_from_json(spoilt(path, 1), "recipe.json")
    assert f"where:    recipe.json: {'.'.join(path)}" in caught.value.text.splitlines()[3]


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
    with pytest.raises(ConfigError):
        recipe_from_json(spoilt(path, value), "recipe.json")


def test_every_section_is_frozen_and_keyword_only() -> None:
    """A recipe is a value: nobody changes it on the way."""
    recipe = Recipe(name="r")
    for path, section in sections_of(recipe):
        first = dataclasses.fields(section)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(section, first, getattr(section, first))
        assert all(field.kw_only for field in dataclasses.fields(section)), path
        assert isinstance(section, Section), path


@pytest.mark.parametrize("name", PRETEXTS)
def test_another_pretext_keeps_what_both_have(name: str) -> None:
    """By hand: shared settings and the temperature go along, own ones take their defaults."""
    base = RECIPES["digits"]()
    made = with_values(base, {"pretext.method": name}).pretext
    assert (type(made), made.method) == (PRETEXTS[name], name)
    assert (made.epochs, made.optimizer, made.views) == (120, base.pretext.optimizer, "digits")
    own = {f.name for f in dataclasses.fields(PRETEXTS[name])} - {
        f.name for f in dataclasses.fields(PretextConfig)
    }
    expected = {
        "simclr": {"temperature": 0.5},
        "moco": {"temperature": 0.5, "queue_size": 65_536, "encoder_momentum": 0.999},
        "instdisc": {"temperature": 0.5, "noise_samples": 4_096, "bank_momentum": 0.5},
        "rotnet": {},
        "byol": {"encoder_momentum": 0.999},
    }[name]
    assert {key: getattr(made, key) for key in own} == expected


def test_another_loss_keeps_what_both_have() -> None:
    base = with_values(RECIPES["digits"](), {"scan.marginal_decay": 0.7})
    made = with_values(base, {"scan.loss": "pmi", "scan.pmi_beta": 0.7})
    assert isinstance(made.scan, PmiLossConfig)
    assert (made.scan.num_heads, made.scan.marginal_decay, made.scan.pmi_beta) == (100, 0.7, 0.7)
    assert with_values(made, {"scan.loss": "scan"}).scan.num_heads == 100


def test_a_setting_of_another_variant_is_refused_by_its_owner() -> None:
    recipe = Recipe(name="r")
    with pytest.raises(ConfigError, match=r"belongs to pretext\.method moco or byol") as caught:
        with_values(recipe, {"pretext.encoder_momentum": 0.9})
    assert "got:      pretext.method simclr" in caught.value.text
    assert "--pretext.method moco" in caught.value.text
    with pytest.raises(ConfigError, match=r"belongs to scan\.loss pmi"):
        with_values(recipe, {"scan.pmi_beta": 0.9})
    with pytest.raises(ConfigError, match=r"perhaps you meant simclr"):
        with_values(recipe, {"pretext.method": "simcrl"})


def test_a_variant_is_made_by_its_own_class() -> None:
    """Else `replace(pretext, method="moco")` would be SimCLR by another name."""
    with pytest.raises(ConfigError, match=r"pretext\.method"):
        dataclasses.replace(Recipe(name="r").pretext, method="moco")
    with pytest.raises(ConfigError, match=r"pretext\.method"):
        PretextConfig(method="simclr")


@pytest.mark.parametrize("name", PRETEXTS)
def test_a_recipe_file_is_flat_and_its_tag_chooses_the_class(name: str) -> None:
    recipe = with_values(Recipe(name="r"), {"pretext.method": name, "scan.loss": "pmi"})
    tree = json.loads(recipe_to_json(recipe))
    assert (tree["pretext"]["method"], tree["scan"]["loss"]) == (name, "pmi")
    assert set(tree["pretext"]) == {f.name for f in dataclasses.fields(PRETEXTS[name])}
    assert recipe_from_json(recipe_to_json(recipe), "") == recipe


@pytest.mark.parametrize(
    ("change", "where", "expected"),
    [
        ({"method": None}, "pretext.method", "one of simclr, moco, instdisc, rotnet, byol"),
        ({"method": "mocco"}, "pretext.method", "one of simclr, moco, instdisc, rotnet, byol"),
        ({"method": ["moco"]}, "pretext.method", "one of simclr, moco, instdisc, rotnet, byol"),
        ({"queue_size": 9}, "pretext.queue_size", "Unexpected keyword argument"),
        ({"method": "moco", "queue_size": "long"}, "pretext.queue_size", "valid integer"),
        ({"temperature": 0}, "pretext", "setting pretext.temperature is out of range"),
    ],
    ids=str,
)
def test_a_wrong_variant_in_a_recipe_file_is_named(change: dict[str, Any], where: str, expected: str) -> None:
    tree = json.loads(recipe_to_json(Recipe(name="r")))
    tree["pretext"] = {k: v for k, v in {**tree["pretext"], **change}.items() if v is not None}
    with pytest.raises(ConfigError) as caught:
        recipe_from_json(json.dumps(tree).encode(), "recipe.json")
    assert f"recipe.json: {where}" in caught.value.text
    assert expected in caught.value.text


@pytest.mark.parametrize("text", [b"{", b"[]", b'"moco"'])
def test_a_recipe_file_that_is_no_object_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigError, match="a JSON object"):
        recipe_from_json(text, "recipe.json")
