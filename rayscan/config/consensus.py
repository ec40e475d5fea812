"""Settings of consensus clustering: there is little to set, by design."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rayscan.sections import Section, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsensusConfig(Section):
    """Many groupings in whitened spaces, judged without labels; the best vote (`rayscan.consensus`)."""

    KEY: ClassVar[str] = "consensus"

    max_rows: int = setting(100_000, ge=1_000)
    """Train images that groupings are made from: of more a seeded sample, whose model then assigns all."""
