"""The clusters of a run as they are now: names, joined ones, waste; read again when edits are applied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from rayscan.assignments import WASTE
from rayscan.edits.applying import mapped, original_of
from rayscan.edits.history import fingerprint_of, read_history
from rayscan.edits.operations import WASTE_NAME
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
        original, current = original_of(run), run.artifact("assign")
        edited = mapped(run, original, current, read_history(run.place, fingerprint_of(original)))
        return cls(fingerprint_of(current), dict(edited.names), Rule(edited, is_for_new=True))

    def rows(self, tops: np.ndarray) -> Rows:
        """Clusters, confidence and margin of new images.

        Args:
            tops: Their best clusters, of `stages.assign.top_dtype` [n].
        """
        count = int((tops["ids"][:1] >= 0).sum())
        ids, probs = (np.ascontiguousarray(tops[name][:, :count]) for name in ("ids", "probs"))
        return self.rule.rows(
            pa.table(
                {
                    "gid": np.full(len(ids), -1),
                    "cluster": ids[:, 0].copy(),
                    "top5": as_lists(ids),
                    "top5_probs": as_lists(probs),
                }
            )
        )

    def name(self, number: int) -> str:
        """The name of a cluster, waste included."""
        return WASTE_NAME if number == WASTE else self.names[number]
