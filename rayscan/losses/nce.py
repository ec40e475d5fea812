"""Noise-contrastive estimation over instances (arXiv 1805.01978, Eq. 4 to 7)."""

from __future__ import annotations

import math

from torch import Tensor


def instance_nce(positives: Tensor, noise: Tensor, log_z: Tensor, num_images: int) -> Tensor:
    """Sum over the samples of -log h(i, v) - sum over the noise of log(1 - h(j, v)).

    h(i, v) = P / (P + m / N) with P = exp(v_i f / tau) / Z is the chance that row i comes from the data and
    not from the m uniform noise rows.

    Args:
        positives: v_i f / tau of every sample's own row of the bank [n].
        noise: v_j f / tau of its noise rows [n, m].
        log_z: log Z, a constant [].
        num_images: N.

    Returns:
        Scalar sum.
    """
    prior = positives.new_tensor(math.log(noise.shape[1] / num_images))
    own, other = positives - log_z, noise - log_z
    is_data = own - own.logaddexp(prior)
    is_noise = prior - other.logaddexp(prior)
    return -(is_data.sum() + is_noise.sum())
