"""Small pictures: sizes, order, and the cap in bytes."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from rayscan.report import thumbnails


def opened(url: str) -> Image.Image:
    kind, data = url.split(",")
    assert kind == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def picture(gid: int, height: int = 40, width: int = 60) -> np.ndarray:
    rng = np.random.default_rng(gid)
    return np.kron(rng.integers(0, 256, (4, 6, 3)), np.ones((height // 4, width // 6, 1))).astype(np.uint8)


def test_the_longer_side_shrinks_and_the_shape_stays() -> None:
    assert opened(thumbnails.encode(np.zeros((100, 300, 3), np.uint8), 64)).size == (64, 21)
    assert opened(thumbnails.encode(np.zeros((300, 100, 3), np.uint8), 64)).size == (21, 64)
    assert opened(thumbnails.encode(np.zeros((3, 900, 3), np.uint8), 64)).size == (64, 1)
    assert opened(thumbnails.encode(np.zeros((8, 8, 3), np.uint8), 64)).size == (8, 8)


def test_it_is_the_same_picture() -> None:
    original = picture(0)
    small = np.asarray(opened(thumbnails.encode(original, 60)).convert("RGB"), np.float64)
    assert np.abs(small - original).mean() < 12


def test_rounds_take_turns_and_name_each_image_once() -> None:
    assert thumbnails.round_robin([[1, 2, 3], [4], [], [5, 1]]) == [1, 4, 5, 2, 3]


def test_the_cap_holds_and_the_first_asked_come_first() -> None:
    asked: list[int] = []

    def read(gids: np.ndarray) -> list[np.ndarray]:
        asked.extend(gids.tolist())
        return [picture(gid) for gid in gids]

    costs = [len(thumbnails.encode(picture(g), 32)) + thumbnails.RECORD_BYTES + 7 for g in range(500)]
    cap = sum(costs[:41])
    made = thumbnails.fill(range(500), read, 32, cap, lambda _: 7)
    assert list(made) == list(range(41))
    assert len(asked) < 500  # what cannot fit is not decoded
    assert list(thumbnails.fill(range(500), read, 32, cap - 1, lambda _: 7)) == list(range(40))
    assert thumbnails.fill(range(3), read, 32, -5, lambda _: 7) == {}
    assert list(thumbnails.fill(range(3), read, 32, 1e9, lambda _: 7)) == [0, 1, 2]
