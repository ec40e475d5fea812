"""The fast color mode: jitter, gray and normalisation of a view as one 3 x 3 matrix and a bias.

Every operation of the jitter but the clipping is affine in RGB, so a whole drawn sequence is one affine map,
composed per view on the host in float64 from the same draws as the exact mode. `images.color = "fast"` asks
for it; `color` stays the reference.

Deviation: hue turns in the plane of constant luma (YIQ) instead of around the hexagon of HSV; values are
clipped once, after the whole sequence, instead of after every operation; from 112 px on, the mean luma that
contrast pivots on is taken over every fourth row and column; blur stops at three standard deviations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rayscan.config import ImagesConfig
from rayscan.data.color import BLUE, BLUR_REACH, GREEN, RED, Jitter, gaussian_blur, jitter_draws
from rayscan.data.keyed import Floats, groups
from rayscan.types import Ints

LUMA = np.array([RED, GREEN, BLUE])
_TO_YIQ = np.array([LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
"""NTSC (FCC 1953): luma, then two axes of color at right angles."""
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
SPARSE_FROM_PX = 112
STRIDE = 4


@dataclass(frozen=True)
class Colors:
    """What is done to the colors of M views: `matrix @ rgb + pivot * mean_luma` of each pixel, then blur."""

    matrix: Floats
    """[M, 3, 3], for colors in 0..1."""
    pivot: Floats
    """[M, 3]; what multiplies the mean luma of the whole picture."""
    sigma: Floats
    """Standard deviation of the blur, px [M]; 0 for none."""

    def __getitem__(self, rows: slice) -> Colors:
        """Those of some views."""
        return Colors(self.matrix[rows], self.pivot[rows], self.sigma[rows])


def colors(u: Floats, rows: Ints, gray: Ints, sigma: Floats, strength: Jitter) -> Colors:
    """Compose the jitter of some views and the graying of some.

    Luma is what makes this short: brightness scales a picture's mean luma, contrast, saturation and hue leave
    it as it is. So the luma that contrast pivots on is known without reading the changed picture.

    Args:
        u: Uniform numbers [n, JITTER_UNIFORMS] of the jittered views.
        rows: Which views those are, int64 [n].
        gray: Which views become gray.
        sigma: Blur of every view, px [M]; 0 for none.
        strength: Half-widths of the ranges.
    """
    amounts, orders = jitter_draws(u, strength)
    matrix = np.tile(np.eye(3), (len(rows), 1, 1))
    pivot = np.zeros((len(rows), 3))
    scale = np.ones(len(rows))  # of the mean luma so far
    for place in range(4):
        for kind, members in groups(orders[:, place]):
            amount = amounts[members, kind]
            step = (_scaling, _scaling, _saturation, _hue)[kind](amount)
            matrix[members] = step @ matrix[members]
            pivot[members] = (step @ pivot[members, :, None])[..., 0]
            if kind == 0:
                scale[members] *= amount
            elif kind == 1:
                pivot[members] += ((1 - amount) * scale[members])[:, None]
    whole = Colors(np.tile(np.eye(3), (len(sigma), 1, 1)), np.zeros((len(sigma), 3)), sigma)
    whole.matrix[rows], whole.pivot[rows] = matrix, pivot
    whole.matrix[gray] = LUMA @ whole.matrix[gray][:, None]
    whole.pivot[gray] = (whole.pivot[gray] @ LUMA)[:, None]
    return whole


def _scaling(factor: Floats) -> Floats:
    return factor[:, None, None] * np.eye(3)


def _saturation(factor: Floats) -> Floats:
    toward_gray: Floats = _scaling(factor) + (1 - factor)[:, None, None] * np.tile(LUMA, (3, 1))
    return toward_gray


def _hue(turns: Floats) -> Floats:
    """Turn colors as HSV does: a third of a turn brings red to the side of green."""
    angle = -2 * np.pi * turns
    turn = np.zeros((len(turns), 3, 3))
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = np.cos(angle)
    turn[:, 1, 2], turn[:, 2, 1] = -np.sin(angle), np.sin(angle)
    turned: Floats = _FROM_YIQ @ turn @ _TO_YIQ
    return turned


def recolor(x: Tensor, changes: Colors, images: ImagesConfig, unit: float, out: Tensor) -> Tensor:
    """Color, clip, normalize and blur.

    Args:
        x: Float [M, 3, h, w] in 0..unit.
        changes: Of the M views.
        images: Mean and standard deviation of each channel, in 0..1.
        unit: What is full brightness in x: 1 or 255.
        out: Where the result goes.

    Returns:
        `out`, normalized. Products and sums only, each rounded by itself: a view has the same bits in any
        batch.
    """
    mean, std, deviation = images.mean, images.std, np.array(images.std)
    matrix = _on(x, changes.matrix / (deviation[:, None] * unit))
    luma = mean_luma(x, unit)
    bias = _on(x, changes.pivot / deviation) * luma[:, None] - _on(x, np.array(mean) / deviation)
    term = torch.empty_like(x[:, 0])
    for channel in range(3):
        target = torch.mul(x[:, 0], matrix[:, channel, 0, None, None], out=out[:, channel])
        for other in (1, 2):
            target += torch.mul(x[:, other], matrix[:, channel, other, None, None], out=term)
        target += bias[:, channel, None, None]
        low, high = ((bound - mean[channel]) / std[channel] for bound in (0.0, 1.0))
        target.clamp_(low, high)
    _blur(out, changes.sigma)
    return out


def mean_luma(x: Tensor, unit: float) -> Tensor:
    """Mean luma in 0..1 of each picture, float [M]; rounded to 2^-16, so that no order of the sum shows."""
    stride = STRIDE if x.shape[2] >= SPARSE_FROM_PX else 1
    seen = x[:, :, ::stride, ::stride]
    luma = seen[:, 0] * (RED * 65536.0 / unit) + seen[:, 1] * (GREEN * 65536.0 / unit)
    luma += seen[:, 2] * (BLUE * 65536.0 / unit)
    total = luma.round_().sum(dim=(1, 2), dtype=torch.float64)
    return (total / (65536.0 * luma[0].numel())).to(x.dtype)


def _blur(x: Tensor, sigma: Floats) -> None:
    """Blur in place, each view as far as its own kernel reaches; sigma 0 is no blur."""
    for reach, rows in groups(np.ceil(BLUR_REACH * sigma).astype(np.int64)):
        if reach == 0:
            continue
        index = torch.as_tensor(rows, device=x.device)
        x.index_copy_(0, index, gaussian_blur(x.index_select(0, index), sigma[rows], reach / BLUR_REACH))


def _on(x: Tensor, values: Floats) -> Tensor:
    return torch.as_tensor(values.astype(np.float32), device=x.device)
