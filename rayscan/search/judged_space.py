"""The space that all trials of a search are judged in, made once: `<out>/search/judge-<hash12>/`.

The base embeddings whitened twice by their neighbours (`training.whitened`). Beyond 50,000 train images those
of a seeded sample, so that neither the search for neighbours nor memory grows with the data set.

judged.npy [n]    rows of the train images in the graph        neighbors.npy [n, 5]    positions in judged
probed.npy [m]    rows of the train images for the linear rule    coordinates.npy [m, d]    their components
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayscan.artifacts import Artifact, Draft, Step, find
from rayscan.consensus.probe import probe_of
from rayscan.data.keyed import permutation
from rayscan.objectives.selection import GRAPH_NEIGHBORS
from rayscan.search.trial_score import Judge
from rayscan.storage import Place
from rayscan.training.whitened import MAX_ROWS, drawn, sampled_space
from rayscan.types import Ints

SCHEMA = 1
STAGE = "judge"
PROBED = 20_000
PROBED_PER_CLUSTER = 50
"""The linear rule sees so many of them, more if there are many clusters."""


def find_or_make(embed: Artifact, mine: Artifact, out: Place, num_clusters: int) -> Artifact:
    """The judged space of these embeddings, or the one that was made before.

    Args:
        embed: Base embeddings.
        mine: Their neighbors; where every train image is judged and at least ten were mined, these are used.
        out: The folder of the search.
        num_clusters: C.

    Raises:
        DataError: all train images have the same embedding.
    """
    config = {"judged": MAX_ROWS, "probed": _limit(num_clusters)}
    step = Step(STAGE, SCHEMA, config, {"embed": embed.identity})
    found = find(out.child(step.directory), step)
    if found is not None:
        return found
    sampled = sampled_space(embed, mine)
    judged, space = sampled.rows, sampled.space
    among = drawn(len(judged), _limit(num_clusters))
    draft = Draft(out, step)
    arrays: dict[str, NDArray[Any]] = {
        "judged": judged,
        "neighbors": np.ascontiguousarray(space.ids[:, :GRAPH_NEIGHBORS]),
        "probed": judged[among],
        "coordinates": space.rows[among],
    }
    files = {f"{name}.npy": draft.write_array(f"{name}.npy", array) for name, array in arrays.items()}
    return draft.commit(files, facts={"judged": len(judged), "probed": len(among)})


def judge(space: Artifact, anchors: Ints, num_clusters: int) -> Judge:
    """The judge in a space that was made.

    Args:
        space: From `find_or_make`.
        anchors: gids of the train images [N].
        num_clusters: C.
    """
    names = ("judged", "neighbors", "probed", "coordinates")
    judged, ids, probed, rows = (space.read_array(f"{name}.npy") for name in names)
    probe = probe_of(rows, permutation(0, "probed images", 0, len(rows)), num_clusters)
    return Judge(anchors, judged, ids, probed, probe, num_clusters)


def _limit(num_clusters: int) -> int:
    return min(MAX_ROWS, max(PROBED, PROBED_PER_CLUSTER * num_clusters))
