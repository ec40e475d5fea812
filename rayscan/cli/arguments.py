"""From the words of a command line to the arguments of a function, by tyro.

A command is a function: its keyword parameters are the options, its positional ones the words before them,
its docstring the help. One with a parameter `recipe` has every setting of that recipe among its options.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional, arg

from rayscan.config import Recipe
from rayscan.config.variants import with_variants
from rayscan.errors import ConfigError
from rayscan.spaces import ALONE, parse_spaces

if TYPE_CHECKING:
    from rayscan.context import Sources

HELP = ("-h", "--help")

Settings = Annotated[Recipe, arg(name="")]
"""A recipe whose settings are options without a prefix."""


@dataclass(frozen=True)
class Reading:
    """Which parts of files are the images."""

    image_column: str | None = None
    """The column with the images, where they are in Parquet files; found by itself if there is one."""
    image_member: str | None = None
    """The extension of the members that are the images, where samples of shards have several, such as jpg."""
    boxes: str | None = None
    """Boxes in the pictures, each of which becomes an image: COCO .json; a table with file_name, x, y, w, h;
    a folder of Pascal VOC .xml or of YOLO .txt."""
    boxes_margin: float = 0.0
    """What is added to a box on every side, as a part of its width or height."""
    rebase: str | None = None
    """OLD=NEW: files below OLD are below NEW now, and are what they were: only their sizes are compared with
    what this --out has indexed, not their times."""


NO_READING = Reading()
ReadingOptions = Annotated[Reading, arg(name="")]
"""`Reading` as options without a prefix."""
RunUri = Positional[Annotated[str, arg(metavar="RUN")]]
RunUris = Positional[Annotated[tuple[str, ...], arg(metavar="RUN ...")]]


@dataclass(frozen=True)
class Command:
    """An entry of the table of commands."""

    function: Callable[..., None]
    """What runs, see the module's docstring."""
    recipe: str | None = None
    """The recipe where the command line names none."""
    recipe_word: int | None = None
    """Which word before the options names the recipe, from 0; None if no word does."""
    choices: Callable[[], str] | None = None
    """What there is to choose from, such as recipes; shown by `--help`."""
    prog: str | None = None
    """How the command is called, where that is not `rayscan NAME`; the usage leaves it out."""

    @property
    def summary(self) -> str:
        """The first line of the help."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0].removesuffix(".")

    @property
    def words(self) -> str:
        """The words before the options, in capitals."""
        words = []
        for name, parameter in inspect.signature(self.function).parameters.items():
            if name == "recipe":
                words += ["RECIPE" if self.recipe is None else "[RECIPE]"] * (self.recipe_word is not None)
            elif parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
                word = "RUN RUN ..." if name == "runs" else name.upper()
                words.append(word if parameter.default is inspect.Parameter.empty else f"[{word}]")
        return " ".join(words)

    def __call__(self, prog: str, rest: Sequence[str]) -> None:
        """Parse the rest of a command line, and do what it asks.

        Raises:
            ConfigError: the words or a setting cannot be used; tyro refuses unknown options by itself.
        """
        words = list(takewhile(lambda word: not word.startswith("-"), rest))
        has_recipe = self.recipe is not None or self.recipe_word is not None
        if self.choices is not None and not words and (not rest or rest[0] in HELP):
            if has_recipe:  # the options are known once the recipe is
                sys.stdout.write(f"usage: {prog} {self.words} ...\n\n{self.summary}.\n\n{self.choices()}")
                return
            sys.stdout.write(f"{self.choices()}\n")
        if not has_recipe:
            parse(self.function, rest, prog)
            return
        at = len(words) if self.recipe_word is None else self.recipe_word
        named = words[at : at + 1]
        recipe = recipe_named(named[0] if named else self.recipe)
        parse(self.function, [*rest[:at], *rest[at + len(named) :]], " ".join([prog, *words]), recipe)


def parse(
    function: Callable[..., None], rest: Sequence[str], prog: str, recipe: Recipe | None = None
) -> None:
    """Call a function with what the command line says; the one place where options change a recipe.

    Args:
        function: A command.
        rest: Its words and options.
        prog: How it was called, for the help.
        recipe: Passed on with the settings that the options change.
    """
    if recipe is not None:
        function = partial(function, recipe=with_variants(recipe, rest))
    tyro.cli(function, args=list(rest), prog=prog)


def recipe_named(name: str | None) -> Recipe:
    """Return a recipe by its name, or from a recipe.json.

    Raises:
        ConfigError: no recipe was named, there is none of that name, or the file cannot be used.
    """
    from rayscan.recipes import RECIPES, by_name

    if name is None:
        raise ConfigError("the recipe comes first", expected=", ".join(RECIPES), got="an option")
    if name.endswith(".json"):
        from rayscan.run import recipe_from_json
        from rayscan.storage import split_uri

        place, file = split_uri(name)
        try:
            return recipe_from_json(place.read(file), name)
        except FileNotFoundError as error:
            raise ConfigError("there is no such recipe file", got=name, where="recipe") from error
    return by_name(name)


def recipe_choices() -> str:
    """Return the recipes and the first line of what each says of itself."""
    from rayscan.recipes import RECIPES

    names = "".join(f"  {name:24}{_first_line(function)}\n" for name, function in RECIPES.items())
    return f"recipes, or the path of a recipe.json:\n{names}"


def experiment_choices() -> str:
    """Return the experiments, and what each one shows."""
    from rayscan.experiments import EXPERIMENTS

    names = "".join(
        f"  {e.name:18} {e.title} ({e.source}){'; trains on labels' if e.reads_labels else ''}\n"
        for e in EXPERIMENTS.values()
    )
    return f"experiments:\n{names}"


def network_choices() -> str:
    """Return the pretrained networks: width, size, cost, licence, and what they were trained with."""
    from rayscan.catalog import CATALOG

    names = "".join(
        f"  {e.name:22}D {e.dim:<6}{e.size_px} px {e.gmacs:8.1f} GMAC  {e.licence:16}{e.trained_with}\n"
        for e in CATALOG.values()
    )
    return f"pretrained networks, or timm/NAME for any other of timm:\n{names}"


def format_choices() -> str:
    """Return the formats of `rayscan export`, and what each one is."""
    from rayscan.exports import EXPORTERS

    names = "".join(f"  {name:18}{_first_line(exporter)}\n" for name, exporter in EXPORTERS.items())
    return f"formats:\n{names}"


def _first_line(function: Callable[..., object]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


def sources(
    data: str | None,
    eval_data: str | None = None,
    labels: str | None = None,
    reading: Reading = NO_READING,
) -> Sources:
    """Return where images and labels are, with absolute paths: a run is resumed from any directory.

    Raises:
        ConfigError: an address carries credentials, or the margin of boxes is none.
    """
    from rayscan.context import Sources
    from rayscan.sections import require

    margin = reading.boxes_margin
    require(0 <= margin <= 10, "boxes-margin", "0 to 10", margin)
    told = replace(
        reading,
        boxes=absolute_file(reading.boxes),
        image_member=_extension(reading.image_member),
        rebase=_absolute_pair(reading.rebase),
    )
    return Sources(absolute(data), absolute(eval_data), absolute_file(labels), **vars(told))


def _absolute_pair(text: str | None) -> str | None:
    """OLD=NEW with absolute paths."""
    from rayscan.sections import require

    if text is None:
        return None
    old, sign, new = text.partition("=")
    require(bool(old and sign and new), "rebase", "OLD=NEW, two folders", text)
    return f"{absolute(old)}={absolute(new)}"


def _extension(text: str | None) -> str | None:
    return None if text is None else text.lower().lstrip(".")


def absolute(pattern: str | None) -> str | None:
    """Return what names data, with its local parts made absolute (`data.addresses`)."""
    from rayscan.data.addresses import absolute_all

    if pattern is not None and pattern.startswith(ALONE):
        return ALONE + str(absolute(pattern.removeprefix(ALONE)))
    return None if pattern is None or not pattern.strip() else absolute_all(pattern)


def absolute_file(uri: str | None) -> str | None:
    """Return the address of one file, a local one made absolute; a comma is part of its name."""
    if uri is None or "://" in uri:
        return uri
    return os.path.abspath(os.path.expanduser(uri))  # noqa: PTH100,PTH111


def absolute_features(features: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words of `--features` with the local paths in them made absolute."""
    made = {"checkpoint": absolute_file, "file": absolute}
    return tuple(
        f"{space.kind}:{made[space.kind](space.target)}" if space.kind in made else space.spec
        for space in parse_spaces(features)
    )


def embeddings_alone(recipe: Recipe) -> str:
    """Return what stands in the place of images where there are none: the first file of embeddings.

    Raises:
        ConfigError: the features of the recipe are made of images.
    """
    for space in recipe.spaces:
        if space.kind == "file":
            return ALONE + space.target
    raise ConfigError(
        "a run needs images",
        expected="--data: shards, a folder, or a list",
        got="none",
        where="--data",
        fix="only a run from embeddings, --features file:PATH, does without",
    )
