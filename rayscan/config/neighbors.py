"""Settings of the embeddings and of the neighbors mined among them (SCAN Sec. 2.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from rayscan.sections import Section, operational, require, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedConfig(Section):
    """Unit-length features of every image, without augmentation."""

    KEY: ClassVar[str] = "embed"

    space: Literal["backbone", "projection"] = "backbone"
    """Features before (D wide) or after (P wide) the projection head."""
    size_px: int | None = setting(None, ge=8)
    """Side of the square that a pretrained network sees, px; none takes that of the catalog."""
    num_views: int = setting(1, ge=1)
    """1 is the plain image; more adds augmented views of the train split, for training heads on features."""
    joined_components: int = setting(256, ge=1)
    """Principal components kept of each of several spaces where they are joined."""
    dtype: Literal["float16", "float32"] = "float32"
    """Stored precision."""
    engine: Literal["auto", "openvino", "torch"] = "auto"
    """What computes a pretrained network; auto is OpenVINO on a CPU where it is installed. `predict` takes
    that of the run."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the products of a pretrained network; auto is bf16 where the processor has units for it."""
    batch_size: int = operational(256)
    """Images per forward."""
    rows_per_part: int = operational(65_536, ge=1)
    """Rows of one `part-*.npy`; the unit of work and of recovery."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MineConfig(Section):
    """K nearest neighbors of every train image by cosine (SCAN Sec. 2.2)."""

    KEY: ClassVar[str] = "mine"

    num_neighbors: int = setting(50, ge=5)
    """Neighbors stored per image; scan uses the first `scan.num_neighbors`."""
    space: Literal["features", "whitened"] = "features"
    """Neighbors in the embeddings, or in these whitened twice by their neighbors, in 64 dimensions."""
    search: Literal["auto", "exact", "approximate"] = "auto"
    """auto is exact up to `max_exact_flops`, and reads some lists of rows per image beyond."""
    max_exact_flops: float = setting(1e17, ge=0)
    """Floating point operations, 2 N^2 D, up to which auto is exact."""
    min_recall: float = setting(0.99, ge=0, le=1)
    """Recall on 1,000 sampled images below which nothing is published; approximate search reads as many lists
    as it takes."""
    codes: Literal["flat", "sq8"] = "flat"
    """Codes of the inverted lists: rows as they are, or 8 bits a value, in a quarter of the memory."""
    max_copies: int | None = setting(None, ge=1)
    """Exact copies of one picture among the neighbors of an image, itself aside; none sets no limit, so that
    a collection full of copies gives copies for neighbors."""
    mutual: int | None = setting(None, ge=1)
    """Pair an image only with those of its first so many neighbors among whose first so many it is itself.
    Where none is left, with the nearest alone; none pairs with all. Lists stay, and so does the graph that
    judges; nothing is mined again."""
    num_shards: int | None = operational(None, ge=1)
    """Index shards; none takes one per worker. Changes speed, never the result."""
    storage: Literal["float32", "float16"] = operational("float32")
    """How shards hold rows. float16 takes half the memory (beside lists: none) and finds the same: what can
    come in by rounded scores is read from storage again and scored exactly."""
    query_block: int = operational(4096)
    """Query rows sent to the shards at a time."""

    def check(self) -> None:
        """The choice reads no more neighbors than are mined."""
        require(
            self.mutual is None or self.mutual <= self.num_neighbors,
            "mine.mutual",
            f"1..{self.num_neighbors}, as mine.num_neighbors mines, or none",
            self.mutual,
        )

    @property
    def chooses(self) -> bool:
        """Whether an image is paired with some of its mined neighbors only."""
        return self.mutual is not None

    @property
    def unchosen(self) -> MineConfig:
        """These settings without a rule that chooses: what it chooses from."""
        return replace(self, mutual=None)
