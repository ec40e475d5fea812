"""Settings of the images: how stored bytes become pixels, and pixels become views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from rayscan.sections import Section, operational, require, setting

ViewKind = Literal["plain", "simclr", "randaugment", "digits"]
"""Augmentation families, see `data.views`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagesConfig(Section):
    """How stored bytes become pixels."""

    KEY: ClassVar[str] = "images"

    size_px: int = setting(32, ge=8)
    """Side of the square the networks see, px (S)."""
    canvas_px: int | None = None
    """If set, every image is first resized to this short side and center-cropped to a square, kept in memory
    as uint8 when the whole set fits; random crops are then taken from that square. If not set, random crops
    are taken from the full picture at every epoch."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Per-channel mean of RGB in 0..1 that is subtracted."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Per-channel standard deviation of RGB in 0..1 that divides."""
    color: Literal["exact", "fast"] = "exact"
    """Color jitter of simclr views: exact is torchvision's, in HSV and clipped after every step; fast is one
    3 x 3 matrix per view, several times as fast, see `data.color_matrix`."""
    on_bad: Literal["skip", "stop"] = operational("skip")
    """Images that cannot be decoded: skip puts them into quarantine, where they keep their row and number, up
    to `max_bad_fraction`; stop ends indexing at any."""
    max_bad_fraction: float = setting(0.001, ge=0, le=1)
    """Stop at indexing when more than this share of the images cannot be decoded."""
    max_pixels: int = 64_000_000
    """Images that declare more pixels than this are decoded at a reduced scale (JPEG, JPEG 2000), or else
    quarantined undecoded."""
    bands: str | None = operational(None)
    """Bands of TIFFs that are red, green and blue, as 3,2,1, or the one that is grey: for 16 bits, floats, or
    many bands. Each is stretched from percentile 2 to 98 of a sample of all pictures."""
    shard_window: int | None = None
    """Pretext: mix so many shards at a time instead of all images; for remote sets larger than the cache."""
    cache_bytes: int = operational(50_000_000_000)
    """Remote shards kept on each node's disk, in bytes; 0 reads by range every time."""
    cache_dir: str | None = operational(None)
    """Where they are kept; none takes a folder of this user in the system's temporary directory."""
    resident_bytes: int = operational(4_000_000_000)
    """Keep decoded canvases in memory when they fit in this many bytes per worker."""
    decode_threads: int = operational(2)
    """Decoding threads per worker."""

    @property
    def band_numbers(self) -> tuple[int, ...]:
        """`bands` as numbers."""
        return () if self.bands is None else tuple(int(text) for text in self.bands.split(","))

    def check(self) -> None:
        """The stored square is as large as what is cut from it; bands are one or three."""
        numbers = [] if self.bands is None else self.bands.split(",")
        is_right = all(text.strip().isdecimal() and int(text) > 0 for text in numbers)
        require(is_right and len(numbers) in (0, 1, 3), "images.bands", "1, or three as 3,2,1", self.bands)
        require(
            self.canvas_px is None or self.canvas_px >= self.size_px,
            "images.canvas_px",
            f">= images.size_px = {self.size_px}, or none",
            self.canvas_px,
        )
