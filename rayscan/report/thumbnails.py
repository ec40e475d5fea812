"""Small pictures for the page, as data URLs, as many as the size cap allows.

Comes from decoded images, goes into `page`. Pictures are made round by round (the first of every cluster,
then the second, ...), so that a cap thins all clusters alike. A batch of pictures is decoded at a time.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from itertools import islice, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rayscan.types import Ints

Pixels = NDArray[np.uint8]
Read = Callable[[Ints], Sequence[Pixels]]

BATCH = 32
QUALITY = 80
RECORD_BYTES = 110
"""What a picture costs in the page beside its pixels and its name: number, cluster, confidence, quotes."""


def encode(image: NDArray[Any], longest_px: int) -> str:
    """Return one picture as a `data:` URL, WebP, shrunk to fit but never enlarged.

    Args:
        image: uint8 [h, w, 3].
        longest_px: Longer side at most, px.
    """
    picture = Image.fromarray(image)
    scale = longest_px / max(picture.size)
    if scale < 1:
        size = tuple(max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def round_robin(lists: Iterable[Sequence[int]]) -> list[int]:
    """Return all first members, then all second ones, and so on; each number once."""
    turns = zip_longest(*lists)
    return list(dict.fromkeys(number for turn in turns for number in turn if number is not None))


def fill(
    gids: Iterable[int], read: Read, longest_px: int, max_bytes: float, name_bytes: Callable[[int], int]
) -> dict[int, str]:
    """Make thumbnails in the order given until the next one would pass the cap.

    Args:
        gids: Images wanted, the most wanted first.
        read: Decodes images: int64 [n] gids -> n pictures uint8 [h, w, 3].
        longest_px: Longer side of a thumbnail, px.
        max_bytes: Room in the page.
        name_bytes: Bytes that an image's name takes.

    Returns:
        gid -> data URL.
    """
    made: dict[int, str] = {}
    room = max_bytes
    waiting = iter(gids)
    while batch := list(islice(waiting, BATCH)):
        for gid, image in zip(batch, read(np.array(batch, np.int64)), strict=True):
            url = encode(image, longest_px)
            room -= len(url) + RECORD_BYTES + name_bytes(gid)
            if room < 0:
                return made
            made[gid] = url
    return made
