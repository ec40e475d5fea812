"""What every section of the settings has in common: bounds, variants, dotted paths, and what is semantic.

A field says in its metadata what is known of it:

- bounds (`ge`, `gt`, `le`, `lt`), checked when a section is made; a tuple's are those of its items;
- `semantic: False` where it changes how fast or where a run works, never what it finds: such a field enters
  no fingerprint;
- `read_by_heads: True` where heads on cached embeddings depend on it, so that `search` may vary it.
"""

from __future__ import annotations

import dataclasses
import difflib
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar, cast, get_type_hints

from rayscan.errors import ConfigError

T = TypeVar("T")
S = TypeVar("S", bound="Section")

BOUNDS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "ge": (operator.ge, ">="),
    "gt": (operator.gt, ">"),
    "le": (operator.le, "<="),
    "lt": (operator.lt, "<"),
}
"""Name of a bound -> its test, and how it is written."""


def setting(default: T, *, read_by_heads: bool = False, **bounds: float) -> T:
    """A field with bounds (`ge`, `gt`, `le`, `lt`) or marks; None and words are never out of bounds.

    Typed as its default, so that a type checker compares it with the annotation.
    """
    return _field(default, {"bounds": bounds, "read_by_heads": read_by_heads})


def operational(default: T, **bounds: float) -> T:
    """A field that decides speed or place, not the result; it enters no fingerprint."""
    return _field(default, {"bounds": bounds, "semantic": False})


def _field(default: T, metadata: Mapping[str, Any]) -> T:
    assert metadata["bounds"].keys() <= BOUNDS.keys(), metadata
    return field(default=default, metadata=metadata)


class Section:
    """Base of all sections: unknown keys in a saved file are errors, values are checked when it is made.

    A section may have variants: subclasses with fields of their own, told apart by one field, the tag.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "strict": False}
    KEY: ClassVar[str] = ""
    """Path of the section, for messages."""
    TAG: ClassVar[str] = ""
    """Field that names the variant; empty without variants."""
    VARIANTS: ClassVar[dict[str, type[Section]]] = {}
    """Value of that field -> class; a section with variants has a dictionary of its own."""

    @classmethod
    def register(cls, made: type[S]) -> type[S]:
        """Register a subclass, with the default of its tag; a decorator."""
        (tag,) = (f.default for f in dataclasses.fields(cast(Any, made)) if f.name == cls.TAG)
        cls.VARIANTS[str(tag)] = made
        return made

    def __post_init__(self) -> None:
        """Check every field's bounds, then what spans fields."""
        for f in dataclasses.fields(cast(Any, self)):
            _check_bounds(self.KEY, f, getattr(self, f.name))
        if self.TAG:
            name = getattr(self, self.TAG)
            expected = f"that of {type(self).__name__}; sections.with_values takes another class"
            require(self.VARIANTS.get(name) is type(self), f"{self.KEY}.{self.TAG}", expected, name)
        self.check()

    def check(self) -> None:
        """Refuse values that do not go together."""


def _check_bounds(section: str, f: dataclasses.Field[Any], value: Any) -> None:
    bounds: Mapping[str, float] = f.metadata.get("bounds", {})
    items = value if isinstance(value, tuple) else () if value is None or isinstance(value, str) else (value,)
    if not all(BOUNDS[name][0](item, limit) for item in items for name, limit in bounds.items()):
        expected = _written(f.name, bounds) + (", or none" if f.default is None else "")
        require(False, f"{section}.{f.name}".lstrip("."), expected, value)


def _written(name: str, bounds: Mapping[str, float]) -> str:
    """`>= 1`, or `0 < threshold < 1`."""
    if len(bounds) == 1:
        ((bound, limit),) = bounds.items()
        return f"{BOUNDS[bound][1]} {limit}"
    low = next(f"{limit} {'<=' if b == 'ge' else '<'}" for b, limit in bounds.items() if b in ("ge", "gt"))
    high = next(f"{BOUNDS[b][1]} {limit}" for b, limit in bounds.items() if b in ("le", "lt"))
    return f"{low} {name} {high}"


def require(is_right: bool, key: str, expected: str, got: object) -> None:
    """Refuse a setting.

    Raises:
        ConfigError: naming the key, what was expected and what came.
    """
    if not is_right:
        raise ConfigError(
            f"setting {key} is out of range",
            expected=expected,
            got=got,
            where=key,
            fix=f"pass --{dashed(key)} VALUE",
        )


def dashed(key: str) -> str:
    """The command-line spelling of a dotted key."""
    return key.replace("_", "-")


def semantic(section: Any) -> Any:
    """The JSON-ready tree of everything in `section` that can change a result."""
    if dataclasses.is_dataclass(section) and not isinstance(section, type):
        kept = [f.name for f in dataclasses.fields(section) if f.metadata.get("semantic", True)]
        return {name: semantic(getattr(section, name)) for name in kept}
    if isinstance(section, tuple | list):
        return [semantic(item) for item in section]
    if isinstance(section, float) and section.is_integer():
        return int(section)  # 5 in a recipe and 5.0 in its saved file are one setting
    return section


@dataclass(frozen=True)
class Leaf:
    """One setting in the tree of sections."""

    hint: Any
    """Its type."""
    is_semantic: bool
    """Whether it can change a result."""
    is_read_by_heads: bool
    """Whether heads on cached embeddings depend on it."""


def paths(section: type[Section]) -> Mapping[str, Leaf]:
    """Every setting below a section by dotted path; where it has variants, those of all of them."""
    found: dict[str, Leaf] = {}
    for made in section.VARIANTS.values() or (section,):
        hints = get_type_hints(made)
        for f in dataclasses.fields(cast(Any, made)):
            hint, is_read = hints[f.name], f.metadata.get("read_by_heads", False)
            if isinstance(hint, type) and issubclass(hint, Section):
                for path, leaf in paths(hint).items():
                    below = Leaf(leaf.hint, leaf.is_semantic, is_read or leaf.is_read_by_heads)
                    found.setdefault(f"{f.name}.{path}", below)
                continue
            if f.name == section.TAG:
                hint = _LITERAL[tuple(section.VARIANTS)]
            found.setdefault(f.name, Leaf(hint, f.metadata.get("semantic", True), is_read))
    return found


_LITERAL: Any = Literal


def variant_sections(section: type[Section]) -> dict[str, type[Section]]:
    """The fields of a section that have variants, with their base class."""
    hints = get_type_hints(section)
    return {name: hints[name] for name in sorted(_names(section)) if getattr(hints[name], "TAG", "")}


def get(section: Section, path: str) -> Any:
    """The setting, or the section, at a dotted path.

    Raises:
        ConfigError: there is none.
    """
    value: Any = section
    for name in path.split("."):
        if not isinstance(value, Section) or name not in _names(type(value)):
            raise no_such_setting(path, type(section), type(value))
        value = getattr(value, name)
    return value


def with_values(section: S, values: Mapping[str, Any]) -> S:
    """The section with the settings at some dotted paths replaced, all at once: they are checked together.

    Another tag (`scan.loss`, `pretext.method`) takes another class; what both classes have stays as it was.

    Raises:
        ConfigError: there is no such setting, a value is out of range, or values do not go together.
    """
    tree: dict[str, Any] = {}
    for path, value in values.items():
        node = tree
        *sections, name = path.split(".")
        for part in sections:
            node = node.setdefault(part, {})
        node[name] = value
    return cast(S, _replaced(section, tree, type(section), ""))


def _replaced(section: Any, tree: Mapping[str, Any], root: type[Section], prefix: str) -> Any:
    """The section at `prefix` below `root` with a tree of new values."""
    made: Any = type(section)
    if issubclass(made, Section) and made.TAG in tree:
        made = variant(made, tree[made.TAG])
    for name in tree:
        if not issubclass(made, Section) or name not in _names(made):
            raise no_such_setting(next(iter(flat({name: tree[name]}, prefix))), root, made)
    new = {
        name: _replaced(getattr(section, name), value, root, f"{prefix}{name}.")
        if isinstance(value, dict)
        else value
        for name, value in tree.items()
    }
    kept = (_names(made) & _names(type(section))) - {made.TAG}
    return made(**{name: getattr(section, name) for name in kept} | new)


def variant(section: type[Section], name: Any) -> type[Section]:
    """The class of a section's variant.

    Raises:
        ConfigError: there is none of that name; the message names the nearest ones.
    """
    if name in section.VARIANTS:
        return section.VARIANTS[name]
    near = difflib.get_close_matches(str(name), section.VARIANTS)
    key = f"{section.KEY}.{section.TAG}"
    raise ConfigError(
        f"there is no {key} {name}",
        expected=", ".join(section.VARIANTS),
        got=name,
        where=key,
        fix=f"perhaps you meant {' or '.join(near)}" if near else f"pass --{dashed(key)} with one of these",
    )


def no_such_setting(
    path: str, root: type[Section], section: type[Any], *, where: str | None = None
) -> ConfigError:
    """The error for a path below `root` whose last name `section` lacks: misspelled, or another variant's."""
    known, name = paths(root), path.rpartition(".")[2]
    if not issubclass(section, Section) or path not in known:
        near = difflib.get_close_matches(path, known, n=3, cutoff=0.5)
        return ConfigError(
            f"there is no setting {path}",
            expected="a dotted path of recipe.json, such as scan.num_neighbors",
            got=path,
            where=where or path,
            fix=f"perhaps you meant {' or '.join(near)}" if near else "see rayscan run RECIPE --help",
        )
    tag = f"{section.KEY}.{section.TAG}"
    chosen = next(tag for tag, made in section.VARIANTS.items() if made is section)
    owners = [tag for tag, made in section.VARIANTS.items() if name in _names(made)]
    return ConfigError(
        f"setting {path} belongs to {tag} {' or '.join(owners)}",
        expected=f"{tag} {' or '.join(owners)}",
        got=f"{tag} {chosen}",
        where=where or path,
        fix=f"pass --{dashed(tag)} {owners[0]}, or leave {path} out",
    )


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a tree of mappings, such as `semantic` makes, by dotted path."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves


def _names(section: type[Any]) -> set[str]:
    return {f.name for f in dataclasses.fields(section)}
