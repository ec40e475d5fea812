"""Edits where stages run again, and where new images get the clusters of an edited run.

Edits belong to the assignments that they were made for, by fingerprint. With the same settings they are
applied again, and where images came or went and the model stayed, they are carried over (`carried`). Other
settings make other assignments, to which they are not applied; they stay in the run, and come back with their
settings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from rayscan.artifacts import MANIFEST, Artifact, load
from rayscan.assignments import CLUSTERS
from rayscan.cluster_names import names_by_hand
from rayscan.edits.applying import ORIGINAL, Edited, directory_of, mapped, recorded
from rayscan.edits.carried import carry
from rayscan.edits.clusters import EditedClusters
from rayscan.edits.history import (
    Session,
    fingerprint_of,
    others,
    read_history,
    write_history,
)
from rayscan.edits.result import clusters_after, edited_result, names_of, step_of
from rayscan.run import Run
from rayscan.storage import Place


def with_edits(
    out: Place,
    before: Mapping[str, Any],
    original: Artifact,
    done: Mapping[str, Artifact],
    said: dict[str, Any],
    say: Callable[[str], None],
    *,
    is_same_model: bool = False,
) -> tuple[Artifact, dict[str, Any]]:
    """The assignments of a run with the edits that were made for them.

    Names given by hand in `clusters.json` are kept first, before other assignments take its place. Clusters
    that got the name of another one there are joined with it.

    Args:
        out: Of the run.
        before: What the record said of stage assign before; nothing in a first run.
        original: The assignments that come now, as the model made them.
        done: What they were made of: `index` and `embed`.
        said: What the record of the run says of stage assign.
        say: Shows a line.
        is_same_model: The model that made them also made those of before: their edits go on being applied.

    Returns:
        The assignments, and what the record says of them.
    """
    former = _keep_names(out, before, original)
    if former is not None and is_same_model and carry(out, former, original, done["index"]):
        say("  edits: those from before the images changed go on being applied")
    embed = done["embed"]
    history = read_history(out, fingerprint_of(original))
    edited = clusters_after(history, out, original)
    result = edited_result(out, original, edited, embed)
    by_hand = names_by_hand(result)
    more = history.plus(Session(fingerprint_of(result), (), by_hand))
    joined = clusters_after(more, out, original)
    if len(joined.joined) > len(edited.joined):
        say(f"  edits: clusters of one name in clusters.json are joined, {len(joined.numbers):,} are left")
        result, history = edited_result(out, original, joined, embed), more
        write_history(out, history)
    if history.sessions:
        say(f"  edits: {history.num_operations:,} applied ({directory_of(result)})")
    for name in others(out, history):
        say(
            f"  edits: those in {out.uri_of(name)} are for other assignments, and not applied to these; "
            "they are kept, and come back with the settings they were made under"
        )
    return result, recorded(said, original, result)


def current(out: Place, original: Artifact) -> Artifact:
    """The assignments of a run with its edits, where both are there already; nothing is written."""
    history = read_history(out, fingerprint_of(original))
    edited = clusters_after(history, out, original)
    if edited.is_as(names_of(original)):
        return original
    place = out.child(step_of(original, edited).directory)
    return original if place.size(MANIFEST) is None else load(place)


def _keep_names(out: Place, before: Mapping[str, Any], original: Artifact) -> Artifact | None:
    """Keep names given by hand in `clusters.json` with the edits of the assignments they were given to.

    Returns:
        Those assignments as the model made them; None where there were none, or the very same.
    """
    directories = [before.get(key, before.get("directory", "")) for key in (ORIGINAL, "directory")]
    if directories[0] in ("", directory_of(original)):
        return None
    if any(out.child(name).size(MANIFEST) is None for name in directories):
        return None  # removed by somebody: there is nothing left that the names could be for
    former, shown = (load(out.child(name)) for name in directories)
    if names := names_by_hand(shown):
        history = read_history(out, fingerprint_of(former))
        write_history(out, history.plus(Session(fingerprint_of(shown), (), names)))
    return former


def publish_proposals(out: Place, proposed: Mapping[int, list[str]]) -> None:
    """Write the names that are proposed for clusters beside their names in `clusters.json`."""
    listed = Run(out.uri).clusters
    told = [
        {**{k: v for k, v in row.items() if k != "proposed"}, **({"proposed": names} if names else {})}
        for row in listed
        for names in [proposed.get(row["cluster"], [])]
    ]
    if told != listed:
        out.write(CLUSTERS, json.dumps(told, indent=2).encode())


def predicted(trained: Run, out: Place, assign: Artifact, embed: Artifact) -> Artifact:
    """Assignments of new images, with the clusters of a run as they are after its edits.

    Images that were moved by hand say nothing of new ones.

    Args:
        trained: The run whose model assigned them.
        out: Of the prediction.
        assign: The new assignments, as the model made them.
        embed: Features of the new images.
    """
    edited = clusters_for_new(trained)
    return assign if edited is None else edited_result(out, assign, edited, embed, is_for_new=True)


def clusters_for_new(trained: Run) -> EditedClusters | None:
    """What becomes of the clusters that a model gives, by the edits of its run; None where that is nothing.

    `Rule(clusters, is_for_new=True)` does it to rows.
    """
    state = Edited.read(trained)
    edited = mapped(trained, state.original, state.current, state.history)
    return edited if state.history.sessions or edited.joined else None
