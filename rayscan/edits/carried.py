"""Edits where images came, went or moved and the model stayed: they go on being applied.

The model gives the clusters the numbers they had, and images keep their gids, but for eval images, whose gids
move on by as many as train images came (`data.stable_gids`). So the operations are the same but for gids.
"""

from __future__ import annotations

from dataclasses import replace

from rayscan.artifacts import MANIFEST, Artifact, load
from rayscan.data.table import IMAGES
from rayscan.edits.history import (
    History,
    Session,
    fingerprint_of,
    name_of,
    read_history,
    write_history,
)
from rayscan.edits.operations import Move, Operation
from rayscan.storage import Place


def carry(out: Place, former: Artifact, original: Artifact, index: Artifact) -> bool:
    """Make the edits of former assignments those of new ones by the same model.

    Args:
        out: The run.
        former: The assignments there were, as the model made them; their edits stay as they are.
        original: The new ones, as the model made them.
        index: The images of these.

    Returns:
        Whether there were any. There are none to carry where the new assignments have edits of their own, or
        the images of the former ones are removed; `rerun` then names those that are not applied.
    """
    history = read_history(out, fingerprint_of(former))
    there = read_history(out, fingerprint_of(original))
    if not history.sessions or (there.sessions and there.follows != history.fingerprint):
        return False
    before = _index_of(out, former)
    if before is None:
        return False
    first_eval = _num_train(before)
    shift = _num_train(index) - first_eval
    fingerprint = fingerprint_of(original)
    sessions = tuple(
        Session(
            fingerprint, tuple(_moved(one, first_eval, shift) for one in session.operations), session.names
        )
        for session in history.sessions
    )
    write_history(out, History(fingerprint, sessions, follows=history.fingerprint))
    if history.follows:  # those that it was carried over from itself are not needed by anybody
        out.delete(name_of(history.follows))
    return True


def _moved(operation: Operation, first_eval: int, shift: int) -> Operation:
    if not isinstance(operation, Move):
        return operation
    gids = [gid for gid in operation.images if isinstance(gid, int)]
    assert len(gids) == len(operation.images)  # those of a history are gids
    return replace(operation, images=tuple(gid + shift * (gid >= first_eval) for gid in gids))


def _index_of(out: Place, assign: Artifact) -> Artifact | None:
    """The index that assignments were made of; None if somebody removed it."""
    identity = assign.manifest["inputs"]["index"]
    for name in sorted({name.partition("/")[0] for name in out.names()}):
        if name.startswith("index-") and out.child(name).size(MANIFEST) is not None:
            found = load(out.child(name))
            if found.identity == identity:
                return found
    return None


def _num_train(index: Artifact) -> int:
    """Rows of the train split, of images that are gone too: they come first."""
    return int((index.read_table(IMAGES, columns=["split"])["split"].to_numpy() == "train").sum())
