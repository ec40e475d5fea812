"""The 1,797 handwritten digits that ship inside scikit-learn, as WebDataset shards: the demo's images.

E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998: 8x8 pixels, 17 grey levels.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from rayscan.data.shard_writer import write_samples
from rayscan.storage import Place

EVAL_EVERY = 6
"""Every sixth digit is eval: 299 of 1,797."""
SHARDS = 2


@dataclass(frozen=True)
class Digits:
    """Where the shards and the labels are."""

    train: str
    eval: str
    labels: str


def write_digits(place: Place) -> Digits:
    """Write train and eval shards and a labels file, unless they are there.

    The labels file is written last: where it is, the shards are whole.
    """
    where = Digits(
        place.uri_of("digits-train-*.tar"),
        place.uri_of("digits-eval-*.tar"),
        place.uri_of("digits-labels.csv"),
    )
    if place.size("digits-labels.csv") is not None:
        return where
    from sklearn.datasets import load_digits  # takes a second to import; only the demo needs it

    digits = load_digits()
    is_eval = np.arange(len(digits.images)) % EVAL_EVERY == EVAL_EVERY - 1
    for split, chosen in (("train", np.flatnonzero(~is_eval)), ("eval", np.flatnonzero(is_eval))):
        write_samples(
            _samples(digits.images, chosen), place.uri, f"digits-{split}", max_count=len(chosen) // SHARDS + 1
        )
    rows = [f"digit-{i:04d},{label}" for i, label in enumerate(digits.target)]
    place.write("digits-labels.csv", "\n".join(["key,label", *rows, ""]).encode())
    return where


def _samples(
    images: np.ndarray[Any, Any], chosen: np.ndarray[Any, Any]
) -> Iterator[tuple[str, bytes, str, str]]:
    """(key, PNG bytes, extension, source) of each chosen digit."""
    for i in chosen.tolist():
        grey = np.round(images[i] * (255 / 16)).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(grey).save(buffer, format="PNG")
        key = f"digit-{i:04d}"
        yield key, buffer.getvalue(), "png", f"scikit-learn digits #{i}"
