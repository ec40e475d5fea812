"""Names that were proposed for the clusters of a run: written by stage names, read by report and exports."""

from __future__ import annotations

from rayscan.artifacts import Artifact

NAMES = "names"
"""The stage."""
PROPOSED = "proposed.json"


def proposed_names(names: Artifact | None) -> dict[int, list[str]]:
    """Proposals by cluster, best first; none where the stage was not done."""
    if names is None:
        return {}
    return {int(number): list(listed) for number, listed in names.read_json(PROPOSED).items()}
