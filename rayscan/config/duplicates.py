"""Settings of near-copies and outliers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from rayscan.sections import Section, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class DuplicatesConfig(Section):
    """Groups of near-copies among mined neighbors, and how far an image lies from all others."""

    KEY: ClassVar[str] = "duplicates"

    compare: Literal["pixels", "features", "none"] = "pixels"
    """What tells a copy among the mined neighbors: small grey pictures, for which every train image is read
    once more; the features, which find less; or nothing, so that no copies are looked for."""
    threshold: float | None = setting(None, gt=0, le=1)
    """Likeness from which on two images are near-copies: correlation of their pixels, or cosine; none takes
    it from the distribution (`rayscan.duplicates.threshold`)."""
    outlier_neighbors: int | None = setting(None, ge=1)
    """The outlier score is the distance to this neighbor; none takes the farthest that was mined."""
