"""How a digit was inked, apart from its shape: thickness of the strokes, shades along their edges, strength.

Two views cut from one picture share the pen it was written with. A contrastive loss then compares amounts of
ink instead of shapes, as it compares color histograms where colors are not jittered (Chen et al., SimCLR,
arXiv 2002.05709, Sec. 3.2). Bright on black.

Thickness is grey-scale dilation and erosion with a flat 3 x 3 square (Serra, Image Analysis and Mathematical
Morphology, 1982). Shades follow the bias curve of Schlick: Fast alternatives to Perlin's bias and gain
functions, Graphics Gems IV, 1994; a rational stand-in for a power, of operations that round correctly, so
that a view's bits do not depend on its batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from rayscan.data.keyed import Floats

STROKE_UNIFORMS = 3


@dataclass(frozen=True)
class Ink:
    """Ranges; every parameter is uniform in its range."""

    thickness: float = 0.8
    """Share t in -t..t of the way to the dilated picture (t > 0) or to the eroded one (t < 0)."""
    gamma: float = 2.5
    """Shades: the bias curve that sends 1/2 to (1/2)^g; g between 1 / gamma and gamma, uniform in its
    logarithm."""
    fading: float = 0.4
    """Largest share of the brightness that is lost."""


def ink(pixels: Tensor, u: Floats, how: Ink) -> Tensor:
    """Thicken or thin the strokes, bend their shades, fade them.

    Args:
        pixels: Float [M, 3, S, S] in 0..1, bright strokes on black.
        u: Uniform numbers [M, STROKE_UNIFORMS].
        how: Ranges.

    Returns:
        [M, 3, S, S] in 0..1.
    """
    v = 2 * u - 1
    thickness = _column(v[:, 0] * how.thickness, pixels)
    bias = _column(0.5 ** np.exp(v[:, 1] * math.log(how.gamma)), pixels)
    strength = _column(1 - u[:, 2] * how.fading, pixels)
    dilated, eroded = max_pool2d(pixels, 3, 1, 1), -max_pool2d(-pixels, 3, 1, 1)
    target = torch.where(thickness > 0, dilated, eroded)
    thick = pixels + thickness.abs() * (target - pixels)
    return schlick_bias(thick.clamp_(0, 1), bias) * strength


def schlick_bias(x: Tensor, bias: Tensor) -> Tensor:
    """Bend shades by x / ((1 / b - 2) (1 - x) + 1): 0 and 1 stay, 1/2 becomes b; b = 1/2 is the identity."""
    return x / ((1 / bias - 2) * (1 - x) + 1)


def _column(values: Floats, like: Tensor) -> Tensor:
    """One number per view, [M, 1, 1, 1]."""
    return torch.as_tensor(values.astype(np.float32), device=like.device)[:, None, None, None]
