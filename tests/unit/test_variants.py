"""Variants on the command line: which recipe the parser starts from, and what it then accepts."""

from __future__ import annotations

import contextlib
import io

import pytest
import tyro

from rayscan.cli import main
from rayscan.config import MoCoConfig, PmiLossConfig, Recipe
from rayscan.config.variants import with_variants
from rayscan.errors import ConfigError
from rayscan.recipes import by_name


def parsed(*arguments: str) -> Recipe:
    return tyro.cli(Recipe, default=with_variants(by_name("digits"), arguments), args=arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        (
            "--pretext.method",
            "moco",
            "--pretext.queue-size",
            "512",
            "--scan.loss",
            "pmi",
            "--scan.pmi-beta",
            "0.7",
        ),
        ("--pretext.queue-size=512", "--pretext.method=moco", "--scan.pmi-beta=0.7", "--scan.loss=pmi"),
        (
            "--scan.pmi_beta",
            "0.7",
            "--scan.loss",
            "pmi",
            "--pretext.queue_size",
            "512",
            "--pretext.method",
            "moco",
        ),
    ],
)
def test_a_variant_and_its_flags_in_any_order_and_form(arguments: tuple[str, ...]) -> None:
    recipe = parsed(*arguments)
    assert isinstance(recipe.pretext, MoCoConfig) and isinstance(recipe.scan, PmiLossConfig)
    assert (recipe.pretext.queue_size, recipe.pretext.temperature, recipe.pretext.epochs) == (512, 0.5, 120)
    assert (recipe.scan.pmi_beta, recipe.scan.num_heads) == (0.7, 100)


def test_without_a_variant_the_recipe_stays() -> None:
    assert (
        parsed("--scan.entropy-weight", "3", "--pretext.method", "simclr").pretext
        == by_name("digits").pretext
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--pretext.queue-size", "9"], "pretext.queue_size belongs to pretext.method moco"),
        (
            ["--pretext.method=byol", "--pretext.temperature=1"],
            "belongs to pretext.method simclr or moco or instdisc",
        ),
        (
            ["--scan.loss", "pmi", "--scan.entropy-weight", "2"],
            "scan.entropy_weight belongs to scan.loss scan",
        ),
        (["--pretext.method", "mocco"], "perhaps you meant moco"),
        (["--scan.loss=temi"], "there is no scan.loss temi"),
    ],
)
def test_a_flag_of_another_variant_is_refused(arguments: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_variants(by_name("digits"), arguments)
    assert says in caught.value.text


def test_a_tag_without_a_value_is_left_to_the_parser() -> None:
    recipe = by_name("digits")
    assert with_variants(recipe, ["--pretext.method"]) == recipe
    assert with_variants(recipe, ["--pretext.method", "--out", "x"]) == recipe


@pytest.mark.parametrize(
    "command",
    [
        ["run", "digits", "--data", "x", "--out", "x"],
        ["search", "digits", "--data", "x", "--out", "x"],
        ["demo"],
        ["experiment", "methods", "digits", "--data", "x", "--out", "x"],
    ],
    ids=lambda c: c[0],
)
def test_every_command_with_a_recipe_knows_variants(command: list[str]) -> None:
    """The help of the chosen one; a flag of another one ends the command with status 2."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        main([*command, "--pretext.method", "moco", "--scan.loss=pmi", "--help"])
    assert "--pretext.queue-size" in out.getvalue() and "--scan.pmi-beta" in out.getvalue()
    assert "--pretext.noise-samples" not in out.getvalue()
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        assert main([*command, "--pretext.noise-samples", "9"]) == 2
    assert "belongs to pretext.method instdisc" in errors.getvalue()
