"""The index in memory: where the bytes of every image lie. From the index stage to `reader` and `loader`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rayscan.artifacts import Artifact
from rayscan.data.tones import PLAIN, Decoding
from rayscan.types import Ints

Split = Literal["train", "eval"]
IMAGES = "images.parquet"
SHARDS = "shards.parquet"

IMAGE_SCHEMA = pa.schema(
    {
        "gid": pa.int64(),
        "split": pa.string(),
        "shard": pa.int32(),
        "key": pa.string(),
        "offset": pa.int64(),
        "length": pa.int64(),
        "crc32": pa.uint32(),
        "width": pa.int32(),
        "height": pa.int32(),
        "status": pa.string(),
        "source": pa.string(),
        "id": pa.string(),
    }
)
"""Columns of `images.parquet`: bytes for offset and length, px for width and height as decoded."""

DECODING = "decoding"
"""Fact of an index of pictures of more than 8 bits: see `Decoding.facts`."""
BOXES = "boxes.parquet"
"""File of an index whose images are crops, by `BOX_SCHEMA`."""
BOX_SCHEMA = pa.schema(
    {
        "gid": pa.int64(),
        "left": pa.int32(),
        "top": pa.int32(),
        "right": pa.int32(),
        "bottom": pa.int32(),
        "picture_width": pa.int32(),
        "picture_height": pa.int32(),
    }
)
"""Pixels [left, right) x [top, bottom) of the upright picture, and the size of that."""

_PLAIN_COLUMNS = ("shard", "offset", "length", "crc32", "width", "height")
ROWS_AT_ONCE = 131_072


@dataclass(frozen=True, eq=False)
class ImageTable:
    """One row per image; the row number is the gid. Train rows come first."""

    shard: npt.NDArray[np.int32]
    """Row of `shard_uris` [N]."""
    offset: Ints
    """First byte in the shard [N]."""
    length: Ints
    """Bytes [N]."""
    crc32: npt.NDArray[np.uint32]
    """Checksum of those bytes [N]."""
    width: npt.NDArray[np.int32]
    """Decoded width, px [N]."""
    height: npt.NDArray[np.int32]
    """Decoded height, px [N]."""
    is_ok: npt.NDArray[np.bool_]
    """Whether it decodes [N]; the others are in quarantine."""
    is_eval: npt.NDArray[np.bool_]
    """Whether it belongs to the eval split [N]."""
    shard_uris: tuple[str, ...]
    """Addresses of the shards, or of the images where each is a file."""
    shard_bytes: tuple[int, ...] = ()
    """Their sizes; empty if not known."""
    shard_sha256: tuple[str, ...] = ()
    """Their hashes; empty if not known, and an empty text for an image that is a file."""
    boxes: Ints | None = None
    """Where images are crops: left, top, right, bottom, and width and height of the picture, px [N, 6]."""
    decoding: Decoding = PLAIN
    """Bands and ranges of pictures of more than 8 bits."""

    @classmethod
    def from_artifact(cls, index: Artifact) -> Self:
        """Load the columns that reading needs.

        Raises:
            ArtifactError: the files of the index are missing or altered.
        """
        stored = pq.ParquetFile(
            pa.BufferReader(index.read(IMAGES)),
            # Text that repeats stays as one number per row: a million strings cost more than all else here.
            read_dictionary=["split", "status"],
        )
        count = stored.metadata.num_rows
        plain = {
            name: np.empty(count, IMAGE_SCHEMA.field(name).type.to_pandas_dtype()) for name in _PLAIN_COLUMNS
        }
        is_ok, is_eval = np.empty(count, bool), np.empty(count, bool)
        row = 0
        # Some rows at a time: the columns are held once, not also as they come out of the file.
        wanted = [*_PLAIN_COLUMNS, "split", "status"]
        for batch in stored.iter_batches(ROWS_AT_ONCE, columns=wanted, use_threads=False):
            here = slice(row, row + len(batch))
            for name, values in plain.items():
                values[here] = batch.column(name).to_numpy()
            is_ok[here] = _equals(batch.column("status"), "ok")
            is_eval[here] = _equals(batch.column("split"), "eval")
            row += len(batch)
        boxes = None
        if BOXES in index.files:
            columns = index.read_table(BOXES).columns[1:]
            boxes = np.stack([column.to_numpy() for column in columns], axis=1).astype(np.int64)
        shards = index.read_table(SHARDS, columns=["uri", "bytes", "sha256"])
        return cls(
            **plain,
            is_ok=is_ok,
            is_eval=is_eval,
            shard_uris=tuple(shards["uri"].to_pylist()),
            shard_bytes=tuple(shards["bytes"].to_pylist()),
            shard_sha256=tuple(shards["sha256"].to_pylist()),
            boxes=boxes,
            decoding=Decoding.of_facts(index.facts.get(DECODING)),
        )

    def gids(self, split: Split | None = None) -> Ints:
        """Row numbers of the usable images of a split, or of both, rising; int64 [n]."""
        chosen = self.is_ok if split is None else self.is_ok & (self.is_eval == (split == "eval"))
        return np.flatnonzero(chosen).astype(np.int64)

    def __len__(self) -> int:
        """Rows, with those in quarantine."""
        return len(self.shard)


def _equals(column: pa.DictionaryArray, word: str) -> npt.NDArray[np.bool_]:
    """Where a dictionary-encoded column holds a word."""
    codes = [code for code, text in enumerate(column.dictionary.to_pylist()) if text == word]
    return np.isin(column.indices.to_numpy(), codes)
