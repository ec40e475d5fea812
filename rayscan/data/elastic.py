"""Views of handwritten digits: a random affine map and a smooth random displacement, in one resampling.

No flip: a mirrored digit is another sign. The displacement is a coarse random field enlarged by cubic
convolution, after the elastic deformations of Simard, Steinkraus, Platt: Best practices for convolutional
neural networks applied to visual document analysis, ICDAR 2003.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rayscan.data.geometry import affine_matrices, compose
from rayscan.data.keyed import Floats

AFFINE_UNIFORMS = 7


@dataclass(frozen=True)
class Deformation:
    """Ranges of the deformation; every parameter is uniform in its symmetric range."""

    rotation: float = math.radians(15)
    """Largest angle, radians."""
    scale: float = 1.15
    """Magnification between 1 / scale and scale, uniform in its logarithm."""
    stretch: float = 1.2
    """Magnification across by t, down by 1 / t; t between 1 / stretch and stretch, uniform in its logarithm.
    The same digit is written narrow or wide."""
    shear: float = math.radians(12)
    """Largest angle along each axis, radians."""
    shift: float = 0.03
    """Largest distance along each axis, share of the side."""
    coarse: int = 4
    """Side of the coarse field; its nodes span the picture."""
    displacement: float = 0.08
    """Largest distance at a node of the coarse field, along each axis, share of the side."""

    @property
    def elastic_uniforms(self) -> int:
        """Numbers a field takes per view."""
        return 2 * self.coarse**2


def digit_matrices(u: Floats, size: int, deformation: Deformation) -> Floats:
    """Affine maps [M, 2, 3] from output to source px of the view, centered; `u` is [M, AFFINE_UNIFORMS]."""
    v = 2 * u - 1
    written = affine_matrices(
        v[:, 0] * deformation.rotation,
        np.exp(v[:, 1] * math.log(deformation.scale)),
        v[:, 2:4] * deformation.shear,
        v[:, 4:6] * deformation.shift * size,
    )
    stretched = np.zeros_like(written)
    stretched[:, 0, 0] = np.exp(-v[:, 6] * math.log(deformation.stretch))
    stretched[:, 1, 1] = 1 / stretched[:, 0, 0]
    return compose(stretched, written)


def elastic_field(u: Floats, size: int, deformation: Deformation, device: torch.device) -> Tensor:
    """A smooth displacement per view, px, as (x, y): [M, 2, S, S].

    Args:
        u: Uniform numbers [M, deformation.elastic_uniforms].
        size: Side of the view, px (S).
        deformation: Coarse side and amplitude.
        device: Where the field is wanted.
    """
    nodes = ((2 * u - 1) * deformation.displacement * size).reshape(
        -1, 2, deformation.coarse, deformation.coarse
    )
    coarse = torch.as_tensor(nodes.astype(np.float32), device=device)
    weights = torch.as_tensor(cubic_weights(deformation.coarse, size).astype(np.float32), device=device)
    # Explicit sums over the few nodes: their order, and so every bit, is the same for any batch.
    tall = _sum_in_order([weights[:, k, None] * coarse[:, :, k, None, :] for k in range(deformation.coarse)])
    return _sum_in_order([tall[..., k, None] * weights[:, k] for k in range(deformation.coarse)])


def cubic_weights(coarse: int, size: int) -> Floats:
    """Weights [size, coarse] of cubic convolution (a = -0.75) from nodes that span the output, ends repeated.

    Keys: Cubic convolution interpolation for digital image processing, IEEE TASSP 29 (1981), Eq. 4.
    """
    a = -0.75
    weights = np.zeros((size, coarse))
    positions = np.arange(size) * (coarse - 1) / max(size - 1, 1)
    for tap in range(-1, 3):
        node = np.floor(positions).astype(np.int64) + tap
        t = np.abs(positions - node)
        near = (a + 2) * t**3 - (a + 3) * t**2 + 1
        far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
        np.add.at(weights, (np.arange(size), np.clip(node, 0, coarse - 1)), np.where(t <= 1, near, far))
    return weights


def _sum_in_order(terms: list[Tensor]) -> Tensor:
    """First to last, one rounding each."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
