"""Likeness of two pictures: against a slow twin, and against what leaves a picture the same or does not."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from rayscan.duplicates.alignment import CROP, FLAT, RIM_PX, SIGMA_PX, coarse_rows, likeness
from rayscan.duplicates.signatures import SIDE, signature
from testing.textures import brightened, cropped, halved, texture

NUM = 12


def rows_of(*pictures: np.ndarray) -> np.ndarray:
    return np.stack([signature(picture).ravel() for picture in pictures]).astype(np.float32)


def one(first: np.ndarray, second: np.ndarray) -> float:
    return float(likeness(rows_of(first, second), np.array([0]), np.array([1]))[0])


def naive(first: np.ndarray, second: np.ndarray) -> float:
    """The definition, pixel by pixel in float64."""

    def window(picture: np.ndarray, top: float, left: float) -> np.ndarray:
        at = np.arange(SIDE) + 0.5
        ys = np.clip(top * CROP * SIDE + at * (1 - CROP) - 0.5, 0, SIDE - 1)
        xs = np.clip(left * CROP * SIDE + at * (1 - CROP) - 0.5, 0, SIDE - 1)
        rows = np.stack([np.interp(xs, np.arange(SIDE), row) for row in picture])
        return np.stack([np.interp(ys, np.arange(SIDE), column) for column in rows.T], axis=1)

    def fine(picture: np.ndarray) -> np.ndarray:
        rest = picture - gaussian_filter(picture, SIGMA_PX, mode="nearest")
        return rest[RIM_PX : SIDE - RIM_PX, RIM_PX : SIDE - RIM_PX]

    def blocks(picture: np.ndarray) -> list[np.ndarray]:
        side = len(picture) // 4
        cuts = product(range(4), repeat=2)
        return [picture[side * i : side * (i + 1), side * j : side * (j + 1)] for i, j in cuts]

    places = list(product((0, 0.5, 1), repeat=2))
    tried = [(first, second)]
    for place in places:
        tried += [(window(first, *place), second), (first, window(second, *place))]
    best, found = -2.0, 0.0
    for a, b in tried:
        x, y = fine(a), fine(b)
        whole = (x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum())
        if whole <= best:
            continue
        ex, ey = (x * x).sum() / 16, (y * y).sum() / 16
        local = [
            ((p * q).sum() / np.sqrt(ex * ey) + FLAT)
            / np.sqrt(((p * p).sum() / ex + FLAT) * ((q * q).sum() / ey + FLAT))
            for p, q in zip(blocks(x), blocks(y), strict=True)
        ]
        best, found = whole, float(np.mean(sorted(local)[:4]))
    return found


def test_equals_the_definition_for_copies_crops_and_strangers() -> None:
    first = texture(0)
    others = [first, cropped(first, 0.06, 0.3, 0.9), brightened(first, 1.15), texture(1), halved(texture(2))]
    for other in others:
        a, b = (row.reshape(SIDE, SIDE).astype(np.float64) for row in rows_of(first, other))
        assert one(first, other) == pytest.approx(naive(a, b), abs=1e-3)


def test_is_the_same_in_both_orders_and_in_any_company() -> None:
    pictures = [
        texture(seed // 2) if seed % 2 else cropped(texture(seed // 2), 0.07, 1, 0) for seed in range(NUM)
    ]
    rows = rows_of(*pictures)
    first, second = (np.array(x) for x in zip(*product(range(NUM), repeat=2), strict=True))
    together = likeness(rows, first, second).reshape(NUM, NUM)
    np.testing.assert_array_equal(together, together.T)
    alone = [
        likeness(rows[[i, j]], np.array([0]), np.array([1]))[0] for i, j in product(range(NUM), repeat=2)
    ]
    np.testing.assert_array_equal(together.ravel(), alone)


@pytest.mark.parametrize("seed", range(8))
def test_an_alteration_is_far_more_alike_than_another_picture(seed: int) -> None:
    picture = texture(seed)
    assert one(picture, picture) == pytest.approx(1, abs=1e-3)
    assert one(picture, halved(picture)) > 0.9
    assert one(picture, brightened(picture, 0.85)) > 0.95
    for left, top in product((0.0, 0.5, 1.0), repeat=2):
        assert one(picture, cropped(picture, 0.065, left, top)) > 0.7
    assert one(picture, texture(seed + 100)) < 0.3


def test_neither_a_shared_frame_nor_a_shared_background_makes_two_pictures_one() -> None:
    def framed(seed: int) -> np.ndarray:
        picture = texture(seed).copy()
        picture[:7], picture[-7:], picture[:, :9], picture[:, -9:] = 255, 255, 255, 255
        return picture

    assert one(framed(0), framed(1)) < 0.4
    shelf, held = texture(5), texture(6)
    with_product = shelf.copy()
    with_product[30:90, 40:120] = held[30:90, 40:120]
    assert one(shelf, with_product) < 0.5


def test_pictures_of_one_grey_are_like_nothing() -> None:
    flat = np.full((40, 40, 3), 200, np.uint8)
    assert one(flat, flat) == 0
    assert one(flat, texture(0)) == 0
    assert not coarse_rows(rows_of(flat)).any()
