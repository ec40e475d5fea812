"""What all sections share: bounds on fields, dotted paths, trees."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import ClassVar

import pytest

from rayscan.config import Recipe
from rayscan.errors import ConfigError
from rayscan.recipes import by_name
from rayscan.sections import Section, flat, get, operational, paths, semantic, setting, with_values

RECIPE = by_name("cifar10")


@dataclass(frozen=True)
class Bounded(Section):
    """A field for each kind of bound."""

    KEY: ClassVar[str] = "x"

    ge: int = setting(1, ge=1)
    gt: float = setting(1.0, gt=0)
    closed: float = setting(0.5, ge=0, le=1)
    half: float = setting(0.5, gt=0, le=1)
    other_half: float = setting(0.5, ge=0, lt=1)
    open: float = setting(0.5, gt=0, lt=1)
    items: tuple[int, ...] = setting((1, 2), ge=1)
    optional: int | None = operational(None, ge=1)


INSIDE = {"ge": (1, 9), "gt": (1e-9,), "closed": (0, 1), "half": (1e-9, 1), "other_half": (0, 0.999),
          "open": (1e-9, 0.999), "items": ((1,), ()), "optional": (1, None)}  # fmt: skip
OUTSIDE = {"ge": ((0, ">= 1"),), "gt": ((0, "> 0"), (float("nan"), "> 0")),
           "closed": ((-0.1, "0 <= closed <= 1"), (1.1, "0 <= closed <= 1")),
           "half": ((0, "0 < half <= 1"), (1.1, "0 < half <= 1")),
           "other_half": ((-0.1, "0 <= other_half < 1"), (1, "0 <= other_half < 1")),
           "open": ((0, "0 < open < 1"), (1, "0 < open < 1")),
           "items": (((3, 0), ">= 1"),), "optional": ((0, ">= 1, or none"),)}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in INSIDE.items() for value in values]
)
def test_the_edge_of_a_bound_is_taken(name: str, value: object) -> None:
    assert getattr(Bounded(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [(name, value, expected) for name, cases in OUTSIDE.items() for value, expected in cases],
)
def test_a_value_beyond_a_bound_is_refused(name: str, value: object, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Bounded(**{name: value})
    assert caught.value.text.splitlines() == [
        f"setting x.{name} is out of range",
        f"  expected: {expected}",
        f"  got:      {value}",
        f"  where:    x.{name}",
        f"  to do:    pass --x.{name.replace('_', '-')} VALUE",
    ]


def test_paths_are_those_of_the_leaves() -> None:
    """Against a walk over an instance; types and marks of four by hand."""

    def walked(section: object, prefix: str = "") -> set[str]:
        values = {f.name: getattr(section, f.name) for f in dataclasses.fields(section)}  # type: ignore[arg-type]
        nested = (
            walked(v, f"{prefix}{k}.") if isinstance(v, Section) else {prefix + k} for k, v in values.items()
        )
        return set(itertools.chain.from_iterable(nested))

    known = paths(Recipe)
    assert walked(RECIPE) <= set(known)
    assert known["scan.head_num_neighbors"].hint == int | None
    assert known["scan.head_optimizer.learning_rate"].is_read_by_heads
    assert not known["scan.optimizer.learning_rate"].is_read_by_heads
    assert (known["mine.query_block"].is_semantic, known["mine.codes"].is_semantic) == (False, True)


def test_a_setting_is_found_by_its_path() -> None:
    assert get(RECIPE, "scan.optimizer.kind") == RECIPE.scan.optimizer.kind == "adam"
    assert get(RECIPE, "scan.optimizer") is RECIPE.scan.optimizer


@pytest.mark.parametrize(
    "path", ["scan.entropy_wieght", "scam.entropy_weight", "name.first", "scan.optimizer.kind.x"]
)
def test_an_unknown_path_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=f"there is no setting {path}"):
        get(RECIPE, path)
    with pytest.raises(ConfigError, match=f"there is no setting {path}"):
        with_values(RECIPE, {path: 1})


def test_a_misspelled_path_has_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"perhaps you meant scan\.entropy_weight"):
        with_values(RECIPE, {"scan.entropy_wieght": 1.0})


def test_values_are_checked_together() -> None:
    """K 60 of 50 mined is refused; with 60 mined it is not, whatever the order."""
    with pytest.raises(ConfigError, match=r"scan\.num_neighbors"):
        with_values(RECIPE, {"scan.num_neighbors": 60})
    for pair in itertools.permutations([("scan.num_neighbors", 60), ("mine.num_neighbors", 60)]):
        made = with_values(RECIPE, dict(pair))
        assert (made.scan.num_neighbors, made.mine.num_neighbors) == (60, 60)


def test_flat_trees() -> None:
    assert flat({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}
    assert flat(semantic(RECIPE))["scan.optimizer.kind"] == "adam"
