"""One setting that varies, and how it is written: dotted path, type, bounds. Standard library only.

scan.entropy_weight=1:20:log      between 1 and 20, evenly in the logarithm
scan.num_neighbors=5,10,20,50     one of these
selflabel.threshold=0.8:0.999     between these
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args, get_origin

from rayscan.config import Recipe
from rayscan.errors import ConfigError
from rayscan.sections import no_such_setting, paths

Value: TypeAlias = int | float | str | bool | None

EXAMPLE = "path=low:high, path=low:high:log or path=one,another"


@dataclass(frozen=True)
class Axis:
    """One setting that varies."""

    path: str
    """Dotted, as in `recipe.json`."""
    kind: Literal["int", "float", "choice"]
    low: float = 0.0
    high: float = 0.0
    """Bounds of int and float, both included."""
    is_log: bool = False
    choices: tuple[Value, ...] = ()

    def extremes(self) -> tuple[Value, ...]:
        """The values whose validity implies that of all others: both bounds, or every choice."""
        if self.kind == "choice":
            return self.choices
        return (int(self.low), int(self.high)) if self.kind == "int" else (self.low, self.high)

    def grid(self) -> tuple[Value, ...] | None:
        """Every value, if they can be counted."""
        if self.kind == "choice":
            return self.choices
        return tuple(range(int(self.low), int(self.high) + 1)) if self.kind == "int" else None

    def contains(self, value: Value) -> bool:
        """Whether a value lies on the axis."""
        if self.kind == "choice":
            return any(value == c and type(value) is type(c) for c in self.choices)
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        """The axis as it is written on the command line."""
        if self.kind == "choice":
            return f"{self.path}={','.join('none' if c is None else str(c) for c in self.choices)}"
        return f"{self.path}={self.low:g}:{self.high:g}{':log' * self.is_log}"


def parse_axis(text: str) -> Axis:
    """The axis that a text of the form `path=values` describes.

    Raises:
        ConfigError: it is not of this form, the path is unknown, or a value is not of the setting's type.
    """
    path, mark, written = text.partition("=")
    path = path.strip().lstrip("-").replace("-", "_")
    if not mark or not path or not written.strip():
        raise ConfigError("a part of the space cannot be read", expected=EXAMPLE, got=text, where="--space")
    if path not in (known := paths(Recipe)):
        raise no_such_setting(path, Recipe, Recipe, where=f"--space {text}")
    hint = known[path].hint
    if ":" in written:
        return _range(path, hint, written, text)
    choices = tuple(_parsed(part.strip(), hint, path, text) for part in written.split(","))
    if len(choices) < 2 or len(set(choices)) < len(choices):
        raise ConfigError(
            f"{path} needs at least two different values",
            expected=EXAMPLE,
            got=written,
            where=f"--space {text}",
            fix=f"to fix it at one value pass --{path.replace('_', '-')} {written}",
        )
    return Axis(path, "choice", choices=choices)


def _range(path: str, hint: Any, written: str, text: str) -> Axis:
    bounds, log = written.split(":"), False
    if len(bounds) == 3 and bounds[2].strip() == "log":
        bounds, log = bounds[:2], True
    kinds = set(_alternatives(hint)) & {int, float}
    if len(bounds) != 2 or not kinds:
        raise ConfigError(
            f"{path} cannot be searched over this range",
            expected=EXAMPLE if kinds else "single values, one,another: it is not a number",
            got=written,
            where=f"--space {text}",
        )
    kind: Literal["int", "float"] = "float" if float in kinds else "int"
    low, high = (_parsed(bound.strip(), float if kind == "float" else int, path, text) for bound in bounds)
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    if low >= high or (log and low <= 0):
        raise ConfigError(
            f"the range of {path} is empty" if low >= high else f"{path} has no logarithm at {low}",
            expected="low < high" + ", and low > 0 with :log" * log,
            got=written,
            where=f"--space {text}",
        )
    return Axis(path, kind, float(low), float(high), log)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The types a setting may have: X | None is X and None."""
    is_choice_of_types = get_origin(hint) is not None and get_origin(hint) is not Literal
    return get_args(hint) if is_choice_of_types and type(None) in get_args(hint) else (hint,)


def _parsed(word: str, hint: Any, path: str, text: str) -> Value:
    """The value that a word means, of the setting's type."""
    for kind in _alternatives(hint):
        try:
            return _as(word, kind)
        except ValueError:
            continue
    names = [
        " or ".join(map(str, get_args(k))) or getattr(k, "__name__", str(k)) for k in _alternatives(hint)
    ]
    raise ConfigError(
        f"{path} cannot take this value",
        expected=" or ".join("none" if n == "NoneType" else n for n in names),
        got=word,
        where=f"--space {text}",
    )


def _as(word: str, kind: Any) -> Value:
    if kind is type(None) and word.lower() == "none":
        return None
    if kind is bool and word.lower() in ("true", "false"):
        return word.lower() == "true"
    if kind is int:
        return int(word)
    if kind is float and math.isfinite(float(word)):
        return float(word)
    if kind is str or (get_origin(kind) is Literal and word in get_args(kind)):
        return word
    raise ValueError(word)
