"""The four augmentation families of a recipe, batched: from boxes in pictures to the input of a network.

    plain        the centered evaluation square
    simclr       random resized crop, flip, color jitter, gray; blur from 64 px on
                 (Chen et al., arXiv 2002.05709, appendix A; strengths of SCAN's published settings)
    randaugment  crop of the evaluation size, flip, four operations of RandAugment, Cutout (SCAN Table S2)
    digits       affine and elastic deformation, thickness and shade of the strokes, no flip

`boxes` says where in the source a view comes from, `make_views` turns pixels into views. Apart, because large
pictures are cut on the host while decoding and small ones on the device.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rayscan.config import ImagesConfig, ViewKind
from rayscan.data import color, color_matrix, elastic, geometry, randaugment, strokes
from rayscan.data.keyed import Booleans, Draw
from rayscan.types import Ints

SIMCLR_SCALE = (0.2, 1.0)
SIMCLR_JITTER = color.Jitter(0.4, 0.4, 0.4, 0.1)
JITTER_SHARE, GRAY_SHARE, FLIP_SHARE, BLUR_SHARE = 0.8, 0.2, 0.5, 0.5
BLUR_FROM_PX = 64
BLUR_SIGMA = (0.1, 2.0)
DIGIT_DEFORMATION = elastic.Deformation()
DIGIT_INK = strokes.Ink()


def view_boxes(family: ViewKind, draw: Draw, heights: Ints, widths: Ints, size: int) -> Ints:
    """Where the views lie in their sources, px: int64 [M, 4] of (top, left, height, width).

    Args:
        family: Augmentation family.
        draw: Randomness of M = V * B views.
        heights: Source heights, px [M].
        widths: Source widths, px [M].
        size: Side of the views, px (S).
    """
    if family == "simclr":
        return geometry.random_resized_boxes(
            draw("crop", geometry.CROP_UNIFORMS), heights, widths, SIMCLR_SCALE
        )
    if family == "randaugment":
        return geometry.random_square_boxes(draw("crop", 2), heights, widths, size)
    return geometry.evaluation_boxes(heights, widths, size)


def view_flips(family: ViewKind, draw: Draw) -> Booleans:
    """Which views are mirrored left to right, bool [M]."""
    if family in ("plain", "digits"):
        return np.zeros(len(draw.gids) * len(draw.views), bool)
    return draw("flip", 1)[:, 0] < FLIP_SHARE


def make_views(
    pixels: Tensor,
    boxes: Ints | None,
    family: ViewKind,
    draw: Draw,
    images: ImagesConfig,
    out: Tensor | None = None,
    colors: color_matrix.Colors | None = None,
) -> Tensor:
    """Views as networks see them.

    Args:
        pixels: Sources, uint8 [M, 3, h, w], one for each view.
        boxes: Where in its source each view lies [M, 4], from `view_boxes`; None if it is cut, scaled and
            mirrored already.
        family: Augmentation family.
        draw: Randomness of the M views, the same that gave the boxes.
        images: Side, mean and standard deviation, and how exact colors are.
        out: Where to put the views, if it is there already.
        colors: What `fast_colors` gives, if it was asked for a larger batch already.

    Returns:
        float32 [M, 3, S, S], normalized. The bits of a view depend on nothing else in the batch.
    """
    size = images.size_px
    is_fast = is_colored_fast(family, images)
    x = pixels.float() if is_fast else pixels.float().mul_(1 / 255)
    if family == "digits":
        whole = np.tile([0, 0, size, size], (len(x), 1))
        x = _deform(x, whole if boxes is None else boxes, draw, size)
    else:
        x = x if boxes is None else geometry.crop(x, boxes, view_flips(family, draw), size)
    out = x.new_empty((len(x), 3, size, size)) if out is None else out
    if is_fast:
        colors = fast_colors(draw, size) if colors is None else colors
        return color_matrix.recolor(x, colors, images, 255.0, out)
    if family == "simclr":
        x = _recolor(x, draw)
    elif family == "randaugment":
        x = randaugment.randaugment(x, draw("randaugment", randaugment.RANDAUGMENT_UNIFORMS))
    mean, std = (x.new_tensor(values).reshape(1, 3, 1, 1) for values in (images.mean, images.std))
    x = torch.sub(x, mean, out=out).div_(std)
    if family == "randaugment":
        x = randaugment.cutout(x, draw("cutout", randaugment.CUTOUT_UNIFORMS), cutout_longest(size))
        out.copy_(x)
    return out


def cutout_longest(size: int) -> int:
    """Longest side of the Cutout square, px: S / 2 up to 64 px (16 of 32), S / 3 above (75 of 224)."""
    return size // 2 if size <= 64 else round(size / 3)


def _deform(x: Tensor, boxes: Ints, draw: Draw, size: int) -> Tensor:
    deformation = DIGIT_DEFORMATION
    matrices = geometry.compose(
        geometry.crop_matrices(boxes, size, x.shape[2], x.shape[3]),
        elastic.digit_matrices(draw("affine", elastic.AFFINE_UNIFORMS), size, deformation),
    )
    field = elastic.elastic_field(draw("elastic", deformation.elastic_uniforms), size, deformation, x.device)
    warped = geometry.warp(x, matrices, size, field)
    return strokes.ink(warped, draw("ink", strokes.STROKE_UNIFORMS), DIGIT_INK)


def _recolor(x: Tensor, draw: Draw) -> Tensor:
    """Jitter, gray and blur, each on its share of the views, in place."""
    jittered = np.flatnonzero(draw("jitter?", 1)[:, 0] < JITTER_SHARE)
    color.jitter(x, jittered, draw("jitter", color.JITTER_UNIFORMS)[jittered], SIMCLR_JITTER)
    gray = np.flatnonzero(draw("gray?", 1)[:, 0] < GRAY_SHARE)
    if len(gray):
        index = torch.as_tensor(gray, device=x.device)
        x.index_copy_(0, index, color.grayscale(x.index_select(0, index)).expand(-1, 3, -1, -1))
    blurred = np.flatnonzero(draw("blur?", 1)[:, 0] < BLUR_SHARE)
    if len(blurred) and x.shape[2] >= BLUR_FROM_PX:
        index = torch.as_tensor(blurred, device=x.device)
        sigma = BLUR_SIGMA[0] + (BLUR_SIGMA[1] - BLUR_SIGMA[0]) * draw("sigma", 1)[blurred, 0]
        x.index_copy_(0, index, color.gaussian_blur(x.index_select(0, index), sigma, BLUR_SIGMA[1]))
    return x


def is_colored_fast(family: ViewKind, images: ImagesConfig) -> bool:
    """Whether views of a family are colored by matrices."""
    return images.color == "fast" and family == "simclr"


def fast_colors(draw: Draw, size: int) -> color_matrix.Colors:
    """The choices of `_recolor` as one affine map and one blur per view; rows as those of the draw."""
    jittered = np.flatnonzero(draw("jitter?", 1)[:, 0] < JITTER_SHARE)
    gray = np.flatnonzero(draw("gray?", 1)[:, 0] < GRAY_SHARE)
    count = len(draw.gids) * len(draw.views)
    drawn = draw("jitter", color.JITTER_UNIFORMS)[jittered]
    sigma = np.zeros(count)
    if size >= BLUR_FROM_PX:
        blurred = draw("blur?", 1)[:, 0] < BLUR_SHARE
        drawn_sigma = BLUR_SIGMA[0] + (BLUR_SIGMA[1] - BLUR_SIGMA[0]) * draw("sigma", 1)[:, 0]
        sigma = np.where(blurred, drawn_sigma, 0)
    return color_matrix.colors(drawn, jittered, gray, sigma, SIMCLR_JITTER)
