"""Features that are there already: rows of an earlier embed at the same place, for equal images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rayscan.artifacts import MANIFEST, Artifact, Step, load
from rayscan.data.table import BOXES, DECODING, IMAGES
from rayscan.storage import Place
from rayscan.types import Ints
from rayscan.vectors.parts import EmbeddingRows

_CONTENT = ("length", "crc32", "width", "height")


@dataclass(frozen=True, eq=False)
class FormerFeatures:
    """Rows of an earlier embed artifact for rows of a new one."""

    embed: Artifact
    rows: Ints
    """Its row for each new row [n]; -1 where there is none."""

    @property
    def count(self) -> int:
        """How many rows there are."""
        return int((self.rows >= 0).sum())

    @property
    def missing(self) -> Ints:
        """New rows that have to be computed, int64 [m]."""
        return np.flatnonzero(self.rows < 0)

    def part(self, first: int, stop: int) -> FormerFeatures | None:
        """What is known of new rows [first, stop); None if nothing."""
        mine = replace(self, rows=self.rows[first:stop])
        return mine if mine.count else None

    def made_by(self, facts: Mapping[str, str]) -> FormerFeatures | None:
        """Itself if all its features were made by this engine in this precision; else None."""
        return self if self.embed.facts.get("nets") == [dict(facts)] else None

    def filled(self, places: Ints, computed: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """All rows, [n, D].

        Args:
            places: New rows that were computed [m].
            computed: Their features [m, D]; of any shape if there are none.
        """
        known = np.flatnonzero(self.rows >= 0)
        taken = EmbeddingRows(self.embed).take(self.rows[known])
        rows = np.empty((len(self.rows), taken.shape[1]), computed.dtype)
        rows[known] = taken
        if len(places):
            rows[places] = computed
        return rows


def former_features(out: Place, step: Step, index: Artifact, gids: Ints) -> FormerFeatures | None:
    """What earlier results at a place know of the images of a new index; the one that knows most.

    Args:
        out: Of the run.
        step: Stage embed, with inputs index and pretext.
        index: The new index.
        gids: Its usable images [n].

    Raises:
        ArtifactError: an earlier result is damaged.
    """
    found = []
    indexes = {one.identity: one for one in _results(out, "index")}
    wanted = None
    for embed in _results(out, step.stage):
        told = embed.manifest
        is_alike = told["stage_schema"] == step.schema and _asked(told["config"]) == _asked(step.config)
        former = indexes.get(told["inputs"]["index"])
        if former is not None and former.facts.get(DECODING) != index.facts.get(DECODING):
            continue
        if not is_alike or told["inputs"]["pretext"] != step.inputs["pretext"] or former is None:
            continue
        wanted = _contents(index, gids) if wanted is None else wanted
        row_of = {content: row for row, content in enumerate(_contents(former, embed.read_array("gids.npy")))}
        rows = np.fromiter((row_of.get(content, -1) for content in wanted), np.int64, len(wanted))
        found.append(FormerFeatures(embed, rows))
    best = max(found, key=lambda one: one.count, default=None)
    return best if best is not None and best.count else None


def _asked(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an embed but the engine and precision that were asked for: facts tell what was taken."""
    asked = config.get("embed", {})
    return {**config, "embed": {k: v for k, v in asked.items() if k not in ("engine", "precision")}}


def _results(out: Place, stage: str) -> Iterator[Artifact]:
    for name in sorted(out.names()):
        if name.startswith(f"{stage}-") and out.child(name).size(MANIFEST) is not None:
            yield load(out.child(name))


def _contents(index: Artifact, gids: Ints) -> list[tuple[Any, ...]]:
    """What says that two images are the same: bytes, by their number and checksum, size, and own name."""
    table = index.read_table(IMAGES, columns=[*_CONTENT, "key"]).take(gids)
    columns = [table[name].to_pylist() for name in _CONTENT]
    if BOXES in index.files:
        columns += [column.to_pylist() for column in index.read_table(BOXES).take(gids).columns[1:]]
    names = [key.rpartition("/")[2] for key in table["key"].to_pylist()]
    return list(zip(names, *columns, strict=True))
