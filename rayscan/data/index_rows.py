"""What the scans of all files come to: the tables of an index, rows numbered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayscan.data import metadata
from rayscan.data.box_files import Boxes
from rayscan.data.boxes import Crops, crops_of
from rayscan.data.index_chunks import FORMER, ScannedChunk
from rayscan.data.inspection import TONES
from rayscan.data.shard_keys import with_unique_keys
from rayscan.data.sources.base import ROWS
from rayscan.data.stable_gids import with_gids
from rayscan.data.table import IMAGE_SCHEMA
from rayscan.data.tones import Decoding, of_samples

TOO_LARGE = "too-many-pixels"
LARGER = "larger ones are taken with --images.max-pixels (of rayscan index: --max-pixels)"
"""What to do about those."""
_SCANNED = ["split", "shard", *ROWS.names, FORMER]


@dataclass(frozen=True)
class IndexRows:
    """The images of an index."""

    rows: pa.Table
    """By `IMAGE_SCHEMA`, gids rising, without those that are gone."""
    gone: pa.Table
    """Images of the former index that are not there any more."""
    shards: pa.Table
    """One row per file, by number."""
    metadata: pa.Table | None
    """See `metadata.of_index`."""
    members: Mapping[str, int]
    """See `Scan.members`, summed."""
    roots: Mapping[str, str]
    """The root of each split whose keys begin with the name of their shard."""
    changes: Mapping[str, int]
    """See `with_gids`."""
    tones: pa.Table | None
    """Of images of more than 8 bits: crc32, and `TONES`."""
    crops: Crops | None = None
    """Where the images are crops: the pictures' rows are those of the crops then."""

    def cropped(self, boxes: Boxes, margin: float, where: str) -> IndexRows:
        """The crops of the pictures in their place, see `crops_of`."""
        crops = crops_of(self.rows, boxes, margin, self.metadata, where)
        return replace(self, rows=crops.rows, metadata=crops.metadata, crops=crops)

    def decoding(self, bands: tuple[int, ...]) -> Decoding | None:
        """The ranges of the set, see `of_samples`."""
        if self.tones is None:
            return None
        samples = [np.asarray(sample, np.float32) for sample in self.tones[TONES].to_pylist()]
        return of_samples(samples, self.tones["crc32"].to_numpy().astype(np.int64), bands)

    @property
    def lines(self) -> list[str]:
        """What to do about pictures that are too large, and what happened to boxes."""
        large = pc.sum(pc.equal(self.rows["status"], TOO_LARGE)).as_py() or 0
        lines = [f"{large:,} pictures have too many pixels; {LARGER}"] if large else []
        words = {
            "clipped": "boxes reach beyond their picture, and are cut there",
            "unmatched": "boxes are of pictures that are not here",
            "without": "pictures have no box, and are left out",
        }
        counts = {} if self.crops is None else self.crops.counts
        return lines + [f"{counts[name]:,} {text}" for name, text in words.items() if counts.get(name)]

    @property
    def all(self) -> pa.Table:
        """One row per gid."""
        return pa.concat_tables([self.rows, self.gone]).sort_by("gid") if len(self.gone) else self.rows


def assembled(
    parts: Sequence[ScannedChunk],
    uris: Sequence[str],
    roots: Mapping[str, str],
    listed: Sequence[pa.Table | None],
    former: pa.Table | None,
) -> IndexRows:
    """Put together what was scanned, and what is taken over.

    Args:
        parts: Every file is in one of them.
        uris: Addresses of the files by their number.
        roots: Folder that names of files are relative to, of each split.
        listed: What lists and folders say of images.
        former: Rows of a former index of the same place.

    Raises:
        DataError: a key comes twice within a file.
    """
    rows = pa.concat_tables([part.rows.select(_SCANNED) for part in parts])
    rows, changed = with_unique_keys(rows, uris, roots)
    rows, gone, changes = with_gids(rows, former)
    told = metadata.of_index(rows, listed, [(len(part.rows), part.metadata) for part in parts])
    tones = [part.tones for part in parts if part.tones is not None]
    members: Counter[str] = Counter()
    for part in parts:
        members.update(part.members)
    return IndexRows(
        rows.select(IMAGE_SCHEMA.names).cast(IMAGE_SCHEMA).sort_by("gid"),
        gone,
        pa.concat_tables([part.shards for part in parts]).sort_by("shard"),
        told,
        members,
        changed,
        changes,
        pa.concat_tables(tones) if tones else None,
    )
