"""What the two parts of a service share: what answers, what passes between them, how it listens and grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from rayscan.config.serve import ServeConfig

Answer: TypeAlias = tuple[int, dict[str, Any]]
"""HTTP status and JSON body."""
Asked: TypeAlias = tuple[str, bytes]
"""Content type and body of a request."""
Told: TypeAlias = tuple[int, bytes, int]
"""HTTP status, body as JSON text, and how many images it answers."""


class Answering(Protocol):
    """What a replica holds; `prepare` is called by several threads, `answers` by one."""

    def prepare(self, content_type: str, body: bytes) -> Answer | Any:
        """What `answers` takes of a body, or the refusal of it."""

    def answers(self, prepared: Sequence[Any]) -> list[Answer]:
        """Answers of several requests, computed together."""

    def reload(self) -> bool:
        """Look whether the run changed."""

    @property
    def multiple(self) -> int:
        """Requests are quickest computed by so many, or a multiple."""

    @property
    def fingerprint(self) -> str:
        """What is served, in short."""


@dataclass(frozen=True)
class ServiceSettings:
    """How a service listens and grows."""

    config: ServeConfig
    token_sha256: str
    """Hash of the token that requests must bear, in hex; the token itself is kept nowhere."""
    listens: bool = False
    """The door itself, at the address of `config`; else Ray Serve's proxies do."""
