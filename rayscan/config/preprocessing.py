"""How the pictures of a pretrained network are made: what its authors fed it, never typed by a user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rayscan.sections import Section, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing(Section):
    """Resize, central crop and normalisation before a pretrained network."""

    size_px: int = setting(224, ge=8)
    """Side of the square the network sees, px."""
    crop_share: float = setting(0.875, gt=0, le=1)
    """That side over the short side a picture is resized to; timm's crop_pct."""
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    """Resampling, antialiased as Pillow does it."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Per-channel mean of RGB in 0..1 that is subtracted."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Per-channel standard deviation of RGB in 0..1 that divides."""
