"""Pictures in a wide colour space -> sRGB, by the ICC profile they carry (ICC.1:2022).

Phones and cameras write Display P3 or Adobe RGB; taken for sRGB, such pictures look pale. Profiles that are
no wider than sRGB change nothing that matters here and are passed over, as are broken ones.
"""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

WIDER = 1.05
"""A space is wide if its triangle of primaries has so many times the area of that of sRGB."""
NO_CACHE = 0x40
"""Little CMS: no memory of the last pixel, so that threads may share a transform."""
KEPT = 64
"""Transforms kept; a set of pictures has few profiles."""
_XY = tuple[float, float]


def to_srgb(pixels: npt.NDArray[np.uint8], profile: bytes | None) -> npt.NDArray[np.uint8]:
    """Convert a picture whose profile is that of a wide RGB space; any other comes back as it is.

    Args:
        pixels: uint8 [h, w, 3].
        profile: Its ICC profile, if it has one.
    """
    transform = None if not profile else _transform(profile)
    if transform is None:
        return pixels
    return np.asarray(ImageCms.applyTransform(Image.fromarray(np.ascontiguousarray(pixels)), transform))


@lru_cache(KEPT)
def _transform(data: bytes) -> ImageCms.ImageCmsTransform | None:
    """Relative colorimetric, from a profile to sRGB; None if the profile is not of a wide RGB space."""
    try:
        profile, srgb = ImageCms.ImageCmsProfile(io.BytesIO(data)), _srgb()
        if profile.profile.xcolor_space.strip() != "RGB" or _area(profile) <= WIDER * _area(srgb):
            return None
        return ImageCms.buildTransform(
            profile, srgb, "RGB", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags(NO_CACHE)
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None  # a broken note about the picture; the picture itself is whole


def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _area(profile: ImageCms.ImageCmsProfile) -> float:
    """Area of the triangle of primaries in the chromaticity diagram; 0 if the profile has none."""
    found = profile.profile
    colorants = (found.red_colorant, found.green_colorant, found.blue_colorant)
    if any(colorant is None for colorant in colorants):
        return 0.0
    (ax, ay), (bx, by), (cx, cy) = (colorant[1][:2] for colorant in colorants if colorant is not None)
    return abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2
