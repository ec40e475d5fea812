"""A value that a cached function may use without its being part of the cache's key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Unkeyed(Generic[T]):
    """Carries a value past `functools.lru_cache`: all of these are equal, whatever they carry."""

    value: T = field(compare=False)
