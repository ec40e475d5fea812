"""Pictures of a run for exports: stored files as they are, or small WebP, some at a time.

Bytes come from the sources as stages read them: by range from shards and archives, checked against the
checksums of the index.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from rayscan.data.cached_files import cache_for
from rayscan.data.decode import IMAGE_EXTENSIONS, decode
from rayscan.data.file_types import extension_of
from rayscan.data.reader import Reader
from rayscan.data.table import ImageTable
from rayscan.errors import RayscanError
from rayscan.run import Run
from rayscan.storage import split_uri

_CROP = re.compile(r"(.+?)(?:\.[A-Za-z0-9]+)?#(\d+)")
_PNG = b"\x89PNG\r\n\x1a\n"
BYTES_AT_ONCE = 32_000_000
"""Stored files in memory at a time, or one that is larger."""
ROWS_AT_ONCE = 256
QUALITY = 80
GIVE_UP = 64
"""Addresses that may lead to no picture in a row, from the first on, before no other is tried."""


class Pictures:
    """Pictures of the images of a run."""

    def __init__(self, run: Run) -> None:
        """Load the index; no picture is read yet.

        Args:
            run: With an index. Where it indexed embeddings alone, pictures are read from the addresses that
                came with these, as far as there are any.

        Raises:
            ArtifactError: the run has no index, or it cannot be read.
        """
        index = run.artifact("index")
        self._settings = run.recipe.images
        self._table = ImageTable.from_artifact(index) if index.facts.get("pictures") != 0 else None
        self._reader = (
            None if self._table is None else Reader(self._table, cache_for(self._table, run.recipe.images))
        )
        self.seen = 0
        """Pictures so far that could be read."""
        self.missed = 0
        """Pictures so far that could not be read, where there are addresses alone."""

    def pieces(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Cut tables with a column `gid` so that the pictures of a piece fit into memory."""
        for table in tables:
            gids = table["gid"].to_numpy()
            sizes = np.full(len(gids), 1 << 18) if self._table is None else self._table.length[gids]
            first = 0
            while first < len(gids):
                within = int(np.searchsorted(np.cumsum(sizes[first : first + ROWS_AT_ONCE]), BYTES_AT_ONCE))
                stop = first + max(1, within)
                yield table.slice(first, min(stop, len(gids)) - first)
                first = stop

    def encoded(self, rows: pa.Table) -> list[bytes | None]:
        """The stored files of images; crops as PNG, which loses nothing.

        Args:
            rows: A piece with columns `gid` and `source`.

        Returns:
            Files in the order asked; None where there is an address alone and nothing can be read there.

        Raises:
            DataError: a shard is missing, cut or not what was indexed.
        """
        gids = rows["gid"].to_numpy()
        found: list[bytes | None]
        if self._reader is not None and self._reader.table.boxes is not None:
            found = [_png(crop) for crop in self._reader.images(gids, self._settings.decode_threads)]
        elif self._reader is not None:
            found = list(self._reader.read(gids))
        else:
            found = [_fetched(source) for source in self._addresses(rows)]
        self._count(found)
        return found

    def thumbnails(self, rows: pa.Table, longest_px: int) -> list[bytes | None]:
        """Pictures as WebP, shrunk to fit but never enlarged.

        Args:
            rows: A piece with columns `gid` and `source`.
            longest_px: Longer side at most, px.

        Raises:
            DataError: a picture cannot be read, or does not decode as it did at index time.
        """
        made: list[bytes | None] = [None] * len(rows)
        if self._reader is not None:

            def use(number: int, picture: NDArray[np.uint8]) -> None:
                made[number] = _webp(picture, longest_px)

            gids = rows["gid"].to_numpy()
            threads = self._settings.decode_threads
            self._reader.each(gids, use, threads=threads, min_px=longest_px)
        else:
            most = self._settings.max_pixels
            made = [_fetched_small(source, longest_px, most) for source in self._addresses(rows)]
        self._count(made)
        return made

    def _addresses(self, rows: pa.Table) -> list[str | None]:
        """Where pictures may be, None for those that are not to be tried."""
        if not self.seen and self.missed >= GIVE_UP:
            return [None] * len(rows)
        addresses: list[str | None] = rows["source"].to_pylist()
        return addresses

    def _count(self, found: Sequence[bytes | None]) -> None:
        missed = sum(one is None for one in found)
        self.missed += missed
        self.seen += len(found) - missed


def _fetched(source: str | None) -> bytes | None:
    if not source:
        return None
    try:
        place, name = split_uri(source)
        return place.read(name)
    except (OSError, RayscanError):
        return None


def _fetched_small(source: str | None, longest_px: int, max_pixels: int) -> bytes | None:
    data = _fetched(source)
    try:
        return data and _webp(decode(data, max_pixels=max_pixels, min_px=longest_px), longest_px)
    except RayscanError:
        return None


def file_name(key: str | None, source: str | None, data: bytes) -> str:
    """A name of a picture for people, which ends as its format does."""
    crop = _CROP.fullmatch((key or "").rpartition("/")[2])
    if crop is not None and data.startswith(_PNG):  # a box of a picture; a link leads to the whole one
        return f"{crop[1]}-{crop[2]}.png"
    names = [(text or "").rpartition("/")[2] for text in (key, (source or "").rpartition("#")[2])]
    for name in names:
        if name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS:
            return name
    return f"{next(filter(None, names), 'image')}.{extension_of(data)}"


def _png(picture: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _webp(picture: NDArray[Any], longest_px: int) -> bytes:
    image = Image.fromarray(picture)
    image.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=2)
    return buffer.getvalue()


def as_images(data: Sequence[bytes | None], names: Sequence[str]) -> pa.StructArray:
    """A column struct<bytes, path>, as the Hugging Face hub has pictures; null where there is none."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pairs = zip(data, names, strict=True)
    return pa.array([None if one is None else {"bytes": one, "path": name} for one, name in pairs], kind)
