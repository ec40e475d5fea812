"""Deformations of digits: the smooth field as torch interpolates it, the ranges as stated, never mirrored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rayscan.data import elastic
from rayscan.data.keyed import uniforms

CPU = torch.device("cpu")


@pytest.mark.parametrize(("coarse", "size"), [(4, 16), (3, 28), (5, 33)])
def test_field_is_torchs_bicubic_enlargement_of_the_coarse_one(coarse: int, size: int) -> None:
    deformation = elastic.Deformation(coarse=coarse, displacement=0.1)
    u = uniforms(0, 0, np.arange(6), 0, "elastic", deformation.elastic_uniforms)
    field = elastic.elastic_field(u, size, deformation, CPU)
    nodes = torch.from_numpy((2 * u - 1).reshape(6, 2, coarse, coarse) * 0.1 * size)
    want = torch.nn.functional.interpolate(nodes, (size, size), mode="bicubic", align_corners=True)
    torch.testing.assert_close(field.double(), want, atol=1e-5, rtol=0)


def test_weights_reproduce_constants_and_the_nodes_themselves() -> None:
    weights = elastic.cubic_weights(4, 16)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights[[0, 5, 10, 15]], np.eye(4), atol=1e-12)


def test_maps_stay_in_their_ranges_and_never_mirror() -> None:
    deformation = elastic.Deformation()
    u = uniforms(0, 0, np.arange(5000), 0, "affine", elastic.AFFINE_UNIFORMS)
    matrices = elastic.digit_matrices(u, 16, deformation)
    determinants = np.linalg.det(matrices[:, :, :2])
    assert determinants.min() > 0
    # Rotations, shears and stretches keep areas, scale s multiplies them by s^2: the inverse's
    # determinant is 1 / s^2.
    assert np.sqrt(determinants).min() >= 1 / deformation.scale - 1e-9
    assert np.sqrt(determinants).max() <= deformation.scale + 1e-9
    # 5,000 draws of a uniform come near both ends.
    assert np.ptp(np.sqrt(determinants)) > 0.95 * (deformation.scale - 1 / deformation.scale)


def test_no_deformation_is_the_identity() -> None:
    still = elastic.Deformation(rotation=0, scale=1, stretch=1, shear=0, shift=0, displacement=0)
    u = uniforms(0, 0, np.arange(3), 0, "affine", elastic.AFFINE_UNIFORMS)
    np.testing.assert_allclose(
        elastic.digit_matrices(u, 16, still), np.tile(np.eye(2, 3), (3, 1, 1)), atol=1e-12
    )
    field = elastic.elastic_field(uniforms(0, 0, np.arange(3), 0, "e", 32), 16, still, CPU)
    assert field.abs().max() == 0


def test_shift_moves_by_at_most_its_share() -> None:
    deformation = elastic.Deformation(rotation=0, scale=1, stretch=1, shear=0, shift=0.12)
    u = uniforms(0, 0, np.arange(3000), 0, "affine", elastic.AFFINE_UNIFORMS)
    moved = np.abs(elastic.digit_matrices(u, 50, deformation)[:, :, 2])
    assert 5.9 < moved.max() <= 6.0


def test_stretch_widens_as_much_as_it_flattens() -> None:
    deformation = elastic.Deformation(rotation=0, scale=1, stretch=1.5, shear=0, shift=0)
    u = uniforms(0, 0, np.arange(3000), 0, "affine", elastic.AFFINE_UNIFORMS)
    matrices = elastic.digit_matrices(u, 16, deformation)
    across, down = matrices[:, 0, 0], matrices[:, 1, 1]
    np.testing.assert_allclose(across * down, 1)
    np.testing.assert_array_equal(matrices[:, [0, 1, 0, 1], [1, 0, 2, 2]], 0)
    # Uniform in its logarithm, with both ends nearly reached.
    assert 1 / 1.5 <= across.min() < 0.67
    assert 1.49 < across.max() <= 1.5
    np.testing.assert_allclose(
        np.quantile(np.log(across), [0.25, 0.5, 0.75]) / np.log(1.5), [-0.5, 0, 0.5], atol=0.05
    )
