"""`rayscan apply`: the edits of a file, checked, become assignments of their own.

Each step leaves a run that is whole: the new assignments are written first, then the edits are kept
(`history`), then the record of the run and the copies under `--out` name the new ones. Scores and page are
those of the former assignments; the record forgets them, so that `report` and `evaluate` make them anew.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

from rayscan.artifacts import Artifact, load
from rayscan.assignments import CLUSTERS
from rayscan.cluster_names import edited_names, names_by_hand
from rayscan.edits.clusters import EditedClusters
from rayscan.edits.history import (
    History,
    Session,
    fingerprint_of,
    name_of,
    read_history,
    write_history,
)
from rayscan.edits.images import with_gids
from rayscan.edits.operations import Edits, Operation, read_edits
from rayscan.edits.result import clusters_after, edited_result
from rayscan.errors import ConfigError, DataError
from rayscan.lock import RunLock
from rayscan.out_kinds import RUN, kind_at
from rayscan.run import Run, record
from rayscan.storage import split_uri

STALE = ("names", "evaluate", "report")
"""Stages whose results say nothing of the new assignments."""
SCORES = "scores.json"
ORIGINAL = "original"
"""Key of the assignments as the model made them, in the record of stage assign."""


@dataclass(frozen=True)
class Edited:
    """A run whose assignments are edited or can be."""

    run: Run
    original: Artifact
    """The assignments as the model made them."""
    current: Artifact
    """Those after its edits."""
    history: History
    embed: Artifact | None
    """Features of the images, where the run has them."""

    @classmethod
    def read(cls, run: Run) -> Edited:
        """Read what a run says of it.

        Raises:
            ArtifactError: the run has no assignments, or its edits cannot be read.
        """
        original = original_of(run)
        history = read_history(run.place, fingerprint_of(original))
        clusters = clusters_after(history, run.place, original)
        embed = run.artifact("embed") if "embed" in run.record["stages"] else None
        current = edited_result(run.place, original, clusters, embed)
        return cls(run, original, current, history, embed)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the assignments that the run has now."""
        return fingerprint_of(self.current)

    @property
    def is_recorded(self) -> bool:
        """Whether the record of the run names the assignments after its edits; not if `apply` was cut off."""
        return bool(self.run.record["stages"]["assign"]["directory"] == directory_of(self.current))


def original_of(run: Run) -> Artifact:
    """The assignments of a run as the model made them."""
    said = run.record["stages"].get("assign", {})
    return load(run.place.child(said[ORIGINAL])) if ORIGINAL in said else run.artifact("assign")


def mapped(run: Run, original: Artifact, current: Artifact, history: History) -> EditedClusters:
    """The clusters of a run as new images get them: after its edits, by the names they have now.

    Args:
        run: The run; nothing is written.
        original: Its assignments as the model made them.
        current: Those it has now.
        history: Its edits.
    """
    edited = clusters_after(history, run.place, original)
    edited.call(edited_names(current), run.place.uri_of(CLUSTERS))
    return edited


def apply(uri: str, edits: str | None = None, *, reset: bool = False, dry_run: bool = False) -> str:
    """Apply edits to the assignments of a run.

    Args:
        uri: `--out` of a run or of a prediction.
        edits: Address of an `edits.json`; none takes up names that were changed in `clusters.json` alone.
        reset: Forget all edits instead: the clusters are again as the model made them.
        dry_run: Check and tell, and change nothing.

    Returns:
        What was done, as text.

    Raises:
        ConfigError: there is no such file, or it comes with `reset`.
        DataError: the edits cannot be used, or were made for other assignments.
        ArtifactError: the run has no assignments, or cannot be read.
    """
    if reset and edits is not None:
        raise ConfigError("--reset takes no edits", expected="either", got=edits, where="EDITS")
    run = Run(uri)
    with nullcontext() if dry_run else RunLock(run.place, kind=kind_at(run.place) or RUN):
        state = Edited.read(Run(uri))
        if reset:
            return _reset(state, dry_run)
        given = None if edits is None else _read(edits)
        session = _session(state, given, edits or "")
        if not (session.operations or session.names):
            if not (dry_run or state.is_recorded):
                _publish(state, state.current)
            return _told(state, "nothing to change")
        history = state.history.plus(session)
        clusters = clusters_after(history, state.run.place, state.original)
        if dry_run:
            return _told(state, f"would apply {_counted(session)}: {_shape(clusters)} after it")
        result = edited_result(state.run.place, state.original, clusters, state.embed)
        if result == state.current:
            return _told(state, "nothing to change: the clusters are so already")
        write_history(state.run.place, history)
        _publish(state, result)
        after = Edited.read(Run(uri))
        return _told(after, f"applied {_counted(session)}: {_shape(clusters)}") + _next(uri)


def _read(uri: str) -> Edits:
    place, name = split_uri(uri)
    try:
        return read_edits(place.read(name), uri)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ConfigError(
            "there is no such file of edits",
            expected="an edits.json, as the report page saves it",
            got=uri,
            where="EDITS",
            fix="open report/index.html of the run, edit, and save",
        ) from error


def _session(state: Edited, edits: Edits | None, where: str) -> Session:
    """What is to be done beyond what was done before."""
    names = names_by_hand(state.current)
    if edits is None:
        return Session(state.fingerprint, (), names)
    rest = _rest(state, edits, with_gids(edits.operations, state.original, where), where)
    return Session(state.fingerprint, rest, names if rest else {})


def _rest(
    state: Edited, edits: Edits, operations: tuple[Operation, ...], where: str
) -> tuple[Operation, ...]:
    """Operations that were not applied yet: a page that stays open saves the former ones with the new ones.

    Raises:
        DataError: the edits are for other assignments than those the run has or had.
    """
    if edits.fingerprint == state.fingerprint:
        return operations
    done = state.history.since(edits.fingerprint)
    if done is not None:
        shared = min(len(done), len(operations))
        if done[:shared] == operations[:shared]:
            return operations[shared:]
    raise DataError(
        "the edits were made for other assignments",
        expected=f"fingerprint {state.fingerprint}, of {state.current.place.uri}",
        got=f"fingerprint {edits.fingerprint}"
        + (", which the run had before other edits were applied" if done is not None else ""),
        where=where,
        fix="render the page of this run anew with `rayscan report`, and edit there; nothing was changed",
    )


def _reset(state: Edited, dry_run: bool) -> str:
    if not state.history.sessions:
        return _told(state, "nothing to forget")
    count = f"{state.history.num_operations:,} edits"
    if dry_run:
        return _told(state, f"would forget {count}")
    _publish(state, state.original)
    state.run.place.delete(name_of(state.history.fingerprint))
    uri = state.run.place.uri
    return _told(Edited.read(Run(uri)), f"forgot {count}: the clusters are as the model made them") + _next(
        uri
    )


def _publish(state: Edited, result: Artifact) -> None:
    """Make the record of the run and the copies under `--out` name other assignments."""
    run = state.run
    stages = {name: said for name, said in run.record["stages"].items() if name not in STALE}
    stages["assign"] = recorded(stages["assign"], state.original, result)
    record(run.place, run.asked, run.record["sources"], stages)
    run.place.delete(SCORES)


def recorded(said: dict[str, object], original: Artifact, result: Artifact) -> dict[str, object]:
    """What the record of a run says of stage assign where its result was edited."""
    kept = {key: value for key, value in said.items() if key != ORIGINAL}
    own = {"directory": directory_of(result)}
    return {**kept, **own} if result == original else {**kept, **own, ORIGINAL: directory_of(original)}


def directory_of(artifact: Artifact) -> str:
    """Name of the directory of a result under `--out`."""
    return f"{artifact.stage}-{artifact.manifest['fingerprint'][:12]}"


def _counted(session: Session) -> str:
    names = f" and {len(session.names):,} names of clusters.json" if session.names else ""
    return f"{len(session.operations):,} edits{names}"


def _shape(clusters: EditedClusters) -> str:
    waste = f", {len(clusters.waste):,} in waste" if clusters.waste else ""
    return f"{len(clusters.numbers):,} clusters{waste}, {len(clusters.moved):,} images moved by hand"


def _told(state: Edited, what: str) -> str:
    return (
        f"{what}\nassignments: {state.current.place.uri}\nfingerprint: {state.fingerprint}\n"
        f"edits in all: {state.history.num_operations:,}\n"
    )


def _next(uri: str) -> str:
    return f"page and scores are of before; make them anew with: rayscan report {uri}\n"
