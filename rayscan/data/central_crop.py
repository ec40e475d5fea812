"""The square a pretrained network sees: short side resized, centre cut out, in one resampling.

Geometry and rounding are those of torchvision's `Resize` and `CenterCrop`, which timm's evaluation transform
is made of: the short side becomes floor(size / crop share), the long one follows rounded down, and the square
begins at half of what is left, rounded. Resampling is antialiased as in Pillow.

Deviation: a picture that has no more px than the square is enlarged to it whole. To enlarge it further and
cut its border off takes from what there is little of (docs/results/features.md).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from rayscan.config.preprocessing import Preprocessing

Pixels = npt.NDArray[np.uint8]

_PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_TORCH: dict[str, Any] = {
    "bilinear": torch.ops.aten._upsample_bilinear2d_aa,
    "bicubic": torch.ops.aten._upsample_bicubic2d_aa,
}
LONGEST = 2
"""Long over short side up to which torch resizes the whole picture and drops what is outside the square."""


def short_side(wanted: Preprocessing) -> int:
    """Side a picture's short side is resized to, px."""
    return math.floor(wanted.size_px / wanted.crop_share)


def central_crop(picture: Pixels, height: int, width: int, wanted: Preprocessing) -> Pixels:
    """Resize and cut out the centre.

    Args:
        picture: uint8 [h, w, 3], whole or decoded at a reduced scale.
        height: Of the whole picture, px.
        width: Of the whole picture, px.
        wanted: Sides and interpolation.

    Returns:
        uint8 [S, S, 3].
    """
    size = wanted.size_px
    short = size if min(height, width) <= size else short_side(wanted)
    if height <= width:
        rows, columns = short, short * width // height
    else:
        rows, columns = short * height // width, short
    top, left = round((rows - size) / 2), round((columns - size) / 2)
    # Source px per resized px. A reduced picture has ceil(side / by) px; the last of them shows less than
    # `by` px, so that the scale follows from the whole side.
    by = round(max(height, width) / max(picture.shape[:2]))
    down, right = height / by / rows, width / by / columns
    if (down, right) == (1.0, 1.0):
        return picture[top : top + size, left : left + size]
    if max(height, width) > LONGEST * min(height, width):
        return _by_pillow(
            picture, wanted, (left * right, top * down, (left + size) * right, (top + size) * down)
        )
    # Torch is about three times as quick as Pillow, but knows no box.
    source = torch.from_numpy(picture if picture.flags.writeable else picture.copy()).permute(2, 0, 1)[None]
    resized = _TORCH[wanted.interpolation](source, (rows, columns), False, 1 / down, 1 / right)
    cut: Pixels = resized[0, :, top : top + size, left : left + size].permute(1, 2, 0).numpy()
    return cut


def _by_pillow(picture: Pixels, wanted: Preprocessing, box: tuple[float, float, float, float]) -> Pixels:
    """The box (left, top, right, bottom) of a picture as a square; nothing outside of it is computed."""
    size = wanted.size_px
    height, width, _ = picture.shape
    box = (max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height))
    resized = Image.fromarray(picture).resize((size, size), _PILLOW[wanted.interpolation], box=box)
    return np.asarray(resized)
