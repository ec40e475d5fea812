"""What every section of the settings has in common: strict files, checked ranges, and what is semantic.

Fields whose metadata carries `semantic: False` change how fast or where a run works, never what it finds;
they enter no fingerprint.
"""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any, ClassVar

from rayscan.errors import ConfigError


def operational(default: Any) -> Any:
    """A field that decides speed or place, not the result; it enters no fingerprint."""
    return field(default=default, metadata={"semantic": False})


def later(default: Any) -> Any:
    """A semantic field that came after results were stored.

    It enters a fingerprint only where it differs from its default, which means what was done before it
    existed: older results keep their fingerprints.
    """
    return field(default=default, metadata={"later": True})


class Section:
    """Base of all sections: unknown keys in a saved file are errors, types are strict."""

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "strict": False}


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


def _enters(f: dataclasses.Field[Any], value: Any) -> bool:
    is_as_before = f.metadata.get("later", False) and value == f.default
    return f.metadata.get("semantic", True) and not is_as_before


def semantic(section: Any) -> Any:
    """The JSON-ready tree of everything in `section` that can change a result."""
    if dataclasses.is_dataclass(section) and not isinstance(section, type):
        kept = [f for f in dataclasses.fields(section) if _enters(f, getattr(section, f.name))]
        return {f.name: semantic(getattr(section, f.name)) for f in kept}
    if isinstance(section, tuple | list):
        return [semantic(item) for item in section]
    if isinstance(section, float) and section.is_integer():
        return int(section)  # 5 in a recipe and 5.0 in its saved file are one setting
    return section
