"""Variants of a recipe's sections that a command line names: `--pretext.method moco`, `--scan.loss pmi`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rayscan.config import Recipe
from rayscan.sections import get, paths, variant_sections, with_values


def with_variants(recipe: Recipe, arguments: Sequence[str]) -> Recipe:
    """The recipe with the variants that a command line names, so that its parser offers their flags.

    Raises:
        ConfigError: there is no such variant, or a flag belongs to one that is not chosen.
    """
    tags = {f"{name}.{section.TAG}" for name, section in variant_sections(Recipe).items()}
    given = list(_flags(arguments))
    made = with_values(recipe, {path: value for path, value in given if path in tags and value is not None})
    known = paths(Recipe)
    for path, _ in given:
        if path in known:
            get(made, path)
    return made


def _flags(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Path and value of every `--path value` and `--path=value`; None where no value follows."""
    for argument, following in zip(arguments, [*arguments[1:], "--"], strict=True):
        if argument.startswith("--"):
            name, mark, value = argument[2:].partition("=")
            after = None if following.startswith("--") else following
            yield name.replace("-", "_"), value if mark else after
