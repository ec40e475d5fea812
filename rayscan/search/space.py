"""The space of a search: a recipe, and the settings that vary. Checked before torch or Ray load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from rayscan.config import Recipe, ScanLossConfig
from rayscan.errors import ConfigError
from rayscan.search.axis import Axis, Value, parse_axis
from rayscan.sections import paths, require, with_values

Values: TypeAlias = Mapping[str, Value]
"""A value for each path of the space."""

NEVER = {
    "num_clusters": "scores of other numbers of clusters do not compare; search each by itself",
    "seed": "a seed is not a setting; the finalists run over several",
    "name": "a name changes no result",
    "method": "scores of another method do not compare; search each by itself",
}
K_PATHS = ("scan.num_neighbors", "scan.head_num_neighbors")


@dataclass(frozen=True)
class Space:
    """A search space: a base recipe, and the axes along which it varies."""

    base: Recipe
    axes: tuple[Axis, ...]

    def recipe(self, values: Values) -> Recipe:
        """The base recipe with these values.

        Raises:
            ConfigError: they do not go together.
        """
        return with_values(self.base, values)

    def contains(self, values: Values) -> bool:
        """Whether these are values of this space."""
        return set(values) == {a.path for a in self.axes} and all(
            a.contains(values[a.path]) for a in self.axes
        )


def make_space(recipe: Recipe, texts: Sequence[str], *, from_images: bool) -> Space:
    """Check a space against a recipe.

    Args:
        recipe: What stays as it is; more neighbors are mined if the space asks for more.
        texts: `path=values` each; none takes entropy weight, K and threshold.
        from_images: Trials train on images, so that every setting counts.

    Raises:
        ConfigError: a path is unknown or does nothing, a value has the wrong type or is out of range.
    """
    require(recipe.method == "scan", "method", "scan: the search tunes scan and selflabel", recipe.method)
    axes = tuple(parse_axis(text) for text in (texts or default_texts(recipe)))
    for i, axis in enumerate(axes):
        if axis.path in {a.path for a in axes[:i]}:
            raise ConfigError("a path is in the space twice", got=axis.path, where="--space")
        _require_effect(axis, recipe, from_images=from_images)
    base = _base(recipe, axes, from_images=from_images)
    for axis in axes:
        for value in axis.extremes():
            try:
                with_values(base, {axis.path: value})
            except ConfigError as error:
                raise ConfigError(
                    f"the space holds a value that {axis.path} cannot take",
                    expected=error.text.replace("\n", ";"),
                    got=value,
                    where=f"--space {axis}",
                    fix="narrow the range",
                ) from error
    return Space(base, axes)


def default_texts(recipe: Recipe) -> list[str]:
    """Entropy weight where the loss has it, K that heads read, and the threshold where it acts."""
    k_path = K_PATHS[recipe.scan.head_num_neighbors is not None]
    weight = ["scan.entropy_weight=1:20:log"] if isinstance(recipe.scan, ScanLossConfig) else []
    return [*weight, f"{k_path}=5,10,20,50"] + ["selflabel.threshold=0.8:0.999"] * (
        recipe.selflabel.epochs > 0
    )


def _base(recipe: Recipe, axes: Sequence[Axis], *, from_images: bool) -> Recipe:
    """The recipe with as many neighbors mined as the largest K needs, so that smaller ones are slices."""
    largest = [int(v) for a in axes if a.path in K_PATHS for v in a.extremes() if isinstance(v, int)]
    wanted = max([recipe.mine.num_neighbors, *largest])
    if wanted != recipe.mine.num_neighbors and not any(a.path == "mine.num_neighbors" for a in axes):
        recipe = replace(recipe, mine=replace(recipe.mine, num_neighbors=wanted))
    one_k = any(a.path == K_PATHS[0] for a in axes) and not any(a.path == K_PATHS[1] for a in axes)
    if one_k and not from_images:  # heads would read their own K and never see the axis
        recipe = replace(recipe, scan=replace(recipe.scan, head_num_neighbors=None))
    return recipe


def _require_effect(axis: Axis, recipe: Recipe, *, from_images: bool) -> None:
    """Refuse an axis that changes nothing, or what cannot be compared."""
    where = f"--space {axis}"
    if axis.path in NEVER:
        raise ConfigError(f"{axis.path} cannot be searched", expected=NEVER[axis.path], where=where)
    setting = paths(Recipe)[axis.path]
    if not setting.is_semantic or axis.path.startswith(("assign.", "evaluate.", "report.", "fleet.")):
        raise ConfigError(
            f"{axis.path} changes no cluster",
            expected="a setting that decides the result",
            where=where,
        )
    if axis.path.startswith("selflabel.") and axis.path != "selflabel.epochs" and not recipe.selflabel.epochs:
        raise ConfigError(
            f"{axis.path} does nothing: the recipe has selflabel.epochs 0",
            where=where,
            fix="pass --selflabel.epochs N, or leave this axis out",
        )
    if not from_images and not setting.is_read_by_heads:
        raise ConfigError(
            f"{axis.path} does nothing to heads on cached embeddings",
            expected=", ".join(path for path, leaf in paths(Recipe).items() if leaf.is_read_by_heads),
            got=axis.path,
            where=where,
            fix="add --from-images, which trains whole trials",
        )
