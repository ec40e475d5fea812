"""The spaces of features that `--features` names, read from their words. Standard library only.

A space is features of every image from one source:

    own                  the pretext task, trained here on the images themselves (`pretext.*`)
    NAME, timm/NAME      a pretrained network: of the catalog, or any that timm knows
    checkpoint:PATH      weights on disk, for the network that `pretext.backbone` names
    file:PATH            embeddings that are there already
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from rayscan.errors import ConfigError

Kind = Literal["own", "pretrained", "checkpoint", "file"]

OWN = "own"
ALONE = "embeddings:"
"""Begins an address of embeddings in the place of images, where a run has no pictures."""
EXPECTED = "own, lite0, a name of the catalog, timm/NAME, checkpoint:PATH or file:PATH"


@dataclass(frozen=True)
class Space:
    """One source of features."""

    kind: Kind
    target: str
    """Name of the network, or path of the weights or embeddings; empty for own."""
    name: str
    """What results and pages call it: unique within a run, fit for a file name."""

    @property
    def spec(self) -> str:
        """The words that name it."""
        return self.target or OWN if self.kind in ("own", "pretrained") else f"{self.kind}:{self.target}"

    @property
    def has_net(self) -> bool:
        """Whether a network makes the features, so that it can be tuned and given new images."""
        return self.kind != "file"


def parse_spaces(features: tuple[str, ...]) -> tuple[Space, ...]:
    """The spaces that the words of `--features` name, in order.

    Raises:
        ConfigError: there is none, a word is empty, or one comes twice.
    """
    if not features:
        raise ConfigError("a run needs features", expected=EXPECTED, got="none", where="features")
    spaces: list[Space] = []
    for words in features:
        kind, target = _kind_and_target(words)
        if any((kind, target) == (other.kind, other.target) for other in spaces):
            raise ConfigError(
                "features are named twice", expected="different ones", got=words, where="features"
            )
        name = OWN if kind == "own" else _slug(target if kind == "pretrained" else kind)
        taken = {other.name for other in spaces}
        unique = next(n for n in (name, *(f"{name}-{i}" for i in range(2, 99))) if n not in taken)
        spaces.append(Space(kind, target, unique))
    return tuple(spaces)


def _kind_and_target(words: str) -> tuple[Kind, str]:
    kind, colon, target = words.partition(":")
    if colon and kind in ("checkpoint", "file"):
        if not target:
            raise ConfigError("features without a path", expected=f"{kind}:PATH", got=words, where="features")
        return ("checkpoint" if kind == "checkpoint" else "file"), target
    if words == OWN:
        return "own", ""
    if not words or colon:
        raise ConfigError(
            "there are no such features",
            expected=EXPECTED,
            got=words or "an empty word",
            where="features",
            fix="embeddings on disk are file:PATH, weights are checkpoint:PATH",
        )
    return "pretrained", words


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.") or "space"
