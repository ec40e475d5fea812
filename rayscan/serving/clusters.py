"""The clusters of a run as they are now: names, joined ones, waste; read again when edits are applied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from rayscan.artifacts import load
from rayscan.assignments import WASTE
from rayscan.cluster_names import edited_names
from rayscan.edits.applying import ORIGINAL
from rayscan.edits.history import fingerprint_of, read_history
from rayscan.edits.operations import WASTE_NAME
from rayscan.edits.result import clusters_after
from rayscan.edits.rule import Rows, Rule
from rayscan.run import Run
from rayscan.tables import as_lists


@dataclass(frozen=True)
class Clusters:
    """What becomes of the probabilities of a model."""

    fingerprint: str
    """Of the assignments the run has now."""
    names: dict[int, str]
    rule: Rule

    @classmethod
    def read(cls, run: Run) -> Clusters:
        """Read edits and names; nothing is written.

        Raises:
            ArtifactError: the run has no assignments, or they or its edits cannot be read.
        """
        said, current = run.record["stages"].get("assign", {}), run.artifact("assign")
        original = load(run.place.child(said[ORIGINAL])) if ORIGINAL in said else current
        edited = clusters_after(read_history(run.place, fingerprint_of(original)), run.place, original)
        edited.call(edited_names(current), run.place.uri_of("clusters.json"))
        return cls(fingerprint_of(current), dict(edited.names), Rule(edited, is_for_new=True))

    def rows(self, tops: np.ndarray) -> Rows:
        """Clusters, confidence and margin of new images.

        Args:
            tops: Their best clusters, of `stages.assign.top_dtype` [n].
        """
        ids, probs = (np.ascontiguousarray(tops[name]) for name in ("ids", "probs"))
        count = int((ids[:1] >= 0).sum())
        ids, probs = ids[:, :count], probs[:, :count]
        second = probs[:, 1] if count > 1 else np.zeros(len(probs), np.float32)
        return self.rule.rows(
            pa.table(
                {
                    "gid": np.full(len(ids), -1),
                    "cluster": ids[:, 0].copy(),
                    "confidence": probs[:, 0].copy(),
                    "margin": probs[:, 0] - second,
                    "top5": as_lists(np.ascontiguousarray(ids)),
                    "top5_probs": as_lists(np.ascontiguousarray(probs)),
                }
            )
        )

    def name(self, number: int) -> str:
        """The name of a cluster, waste included."""
        return WASTE_NAME if number == WASTE else self.names[number]
