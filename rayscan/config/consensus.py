"""Settings of consensus clustering: there is little to set, by design."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from rayscan.sections import Section, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsensusConfig(Section):
    """Many groupings in whitened spaces, judged without labels; the best vote (`rayscan.consensus`)."""

    KEY: ClassVar[str] = "consensus"

    sizes: Literal["auto", "even", "uneven"] = "auto"
    """Of the classes, as far as known. even: of groupings as clear as each other that of equal clusters is
    taken. uneven: some are many times as large as others; none is cut to fill the number of clusters. auto:
    even, unless uneven ones are clear by far."""
    max_rows: int = setting(100_000, ge=1_000)
    """Train images that groupings are made from: of more a seeded sample, whose model then assigns all."""
