"""Received files as the pixels of a run's network, decoded and cut as its own images were."""

from __future__ import annotations

import zlib
from typing import Protocol

import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
from torch import Tensor

from rayscan.artifacts import Artifact
from rayscan.config import ImagesConfig, Recipe
from rayscan.config.preprocessing import Preprocessing
from rayscan.data.central_crop import central_crop, short_side
from rayscan.data.decode import Pixels, decode, reduction
from rayscan.data.loader import ViewLoader
from rayscan.data.reader import Reader
from rayscan.data.table import ImageTable
from rayscan.data.tones import PLAIN, Decoding
from rayscan.errors import DataError
from rayscan.serving.refusal import RefusalError
from rayscan.training.pictures import images_of, preprocessing_in


class Preparer(Protocol):
    """Files -> pixels, [n, 3, S, S]; may be called by several threads."""

    def __call__(self, files: list[bytes]) -> Tensor:
        """Decode and cut.

        Raises:
            RefusalError: naming the first file that is no image.
        """


def preparer(recipe: Recipe, pretext: Artifact, max_pixels: int, how: Decoding = PLAIN) -> Preparer:
    """What makes the pixels that the network of a run takes.

    Args:
        recipe: Of the run.
        pretext: Its network.
        max_pixels: Larger pictures are refused before they are decoded, or decoded smaller.
        how: Bands and ranges of the run's own images.
    """
    wanted = preprocessing_in(pretext)
    if wanted is None:
        return _TrainedHere(images_of(recipe, pretext), recipe.seed, max_pixels, how)
    return _Pretrained(wanted, max_pixels, how)


class _Pretrained:
    """Pixels of a pretrained network, uint8; the same bits as `PictureLoader`."""

    def __init__(self, wanted: Preprocessing, max_pixels: int, how: Decoding) -> None:
        self._wanted, self._max_pixels, self._how = wanted, max_pixels, how

    def __call__(self, files: list[bytes]) -> Tensor:
        size = self._wanted.size_px
        rows = np.empty((len(files), size, size, 3), np.uint8)
        for number, data in enumerate(files):
            picture, height, width = self._picture(data, number)
            rows[number] = central_crop(picture, height, width, self._wanted)
        return torch.from_numpy(rows).permute(0, 3, 1, 2)

    def _picture(self, data: bytes, number: int) -> tuple[Pixels, int, int]:
        """A picture, a JPEG as reduced as it may be, and the sides of the whole."""
        least = short_side(self._wanted)
        height, width = _sides(data)
        if reduction(height, width, least) > 1 and height * width <= self._max_pixels:
            small = _decoded(data, number, self._max_pixels, self._how, least)
            is_turned = (small.shape[0] > small.shape[1]) != (height > width)
            return (small, width, height) if is_turned else (small, height, width)
        whole = _decoded(data, number, self._max_pixels, self._how)
        height, width, _ = whole.shape
        if reduction(height, width, least) > 1:  # a reduced JPEG has other bits than a whole one
            whole = decode(data, max_pixels=height * width, min_px=least, how=self._how)
        return whole, height, width


class _TrainedHere:
    """Plain views of a network that was trained on the run's own images, float32."""

    def __init__(self, images: ImagesConfig, seed: int, max_pixels: int, how: Decoding) -> None:
        self._images, self._seed, self._max_pixels, self._how = images, seed, max_pixels, how

    def __call__(self, files: list[bytes]) -> Tensor:
        pictures = [_decoded(data, number, self._max_pixels, self._how) for number, data in enumerate(files)]
        reader = _InMemory(files, pictures)
        loader = ViewLoader(reader.table, self._images, self._seed, reader=reader)
        return loader.plain(np.arange(len(files), dtype=np.int64))


class _InMemory(Reader):
    """Pictures of a request, by their number."""

    def __init__(self, files: list[bytes], pictures: list[Pixels]) -> None:
        count = len(files)
        sizes = np.array([picture.shape[:2] for picture in pictures], np.int32)
        table = ImageTable(
            shard=np.zeros(count, np.int32),
            offset=np.zeros(count, np.int64),
            length=np.array([len(data) for data in files], np.int64),
            crc32=np.array([zlib.crc32(data) for data in files], np.uint32),
            width=sizes[:, 1],
            height=sizes[:, 0],
            is_ok=np.ones(count, bool),
            is_eval=np.zeros(count, bool),
            shard_uris=("request",),
        )
        super().__init__(table)
        self._pictures = pictures

    def images(self, gids: npt.ArrayLike, threads: int = 1) -> list[Pixels]:
        """The pictures, which are decoded already."""
        return [self._pictures[gid] for gid in np.asarray(gids).tolist()]


def _sides(data: bytes) -> tuple[int, int]:
    """Height and width that a JPEG declares; none of others, or of one that is damaged."""
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return 0, 0
    return height, width


def _decoded(data: bytes, number: int, max_pixels: int, how: Decoding, min_px: int | None = None) -> Pixels:
    try:
        return decode(data, max_pixels=max_pixels, how=how, min_px=min_px)
    except DataError as error:
        reason = error.text.partition("\n")[0]
        status = 413 if reason == "too-many-pixels" else 400 if reason == "empty" else 415
        raise RefusalError(status, f"image {number} is no picture that can be used: {reason}") from error
    except MemoryError as error:
        raise RefusalError(413, f"image {number} does not fit into memory") from error
