"""Edits that were applied to a run, kept under `edits/` in it by the assignments that they were made for.

<out>/edits/<fingerprint12>.json
    {"schema": 1,
     "fingerprint": of the assignments as the model made them,
     "follows": of those before images came or went, whose edits these go on with, or "",
     "sessions": [{"fingerprint": of the assignments that were edited,
                   "names": {number: name that stood in clusters.json, edited by hand},
                   "operations": [...]}]}

A run whose stages are done again with other settings has other assignments; the edits of the former stay.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

from rayscan.artifacts import Artifact, digest
from rayscan.assignments import CLUSTERS, FILE
from rayscan.edits.clusters import EditedClusters
from rayscan.edits.operations import SCHEMA, Operation, as_json, parse, read_operations
from rayscan.errors import ArtifactError, DataError
from rayscan.storage import Place

FOLDER = "edits"


def fingerprint_of(assign: Artifact) -> str:
    """Sha256 over what the assignments say: those of another run, or edited ones, have another."""
    return digest([assign.entry(name).sha256 for name in (FILE, CLUSTERS)])


@dataclass(frozen=True)
class Session:
    """What was applied at once."""

    fingerprint: str
    """Of the assignments it was made for."""
    operations: tuple[Operation, ...]
    """Images are gids."""
    names: Mapping[int, str] = field(default_factory=dict)
    """Names that clusters had by hand in `clusters.json` before; the operations come after them."""


@dataclass(frozen=True)
class History:
    """All that was applied to the assignments that a model made, in order."""

    fingerprint: str
    """Of the assignments as the model made them."""
    sessions: tuple[Session, ...] = ()
    follows: str = ""
    """Fingerprint of the assignments by the same model whose edits these begin with, see `carried`."""

    @property
    def num_operations(self) -> int:
        """Operations of all sessions, a changed name in `clusters.json` being one."""
        return sum(len(session.operations) + len(session.names) for session in self.sessions)

    def plus(self, session: Session) -> History:
        """The history with one more session at its end."""
        return replace(self, sessions=(*self.sessions, session))

    def since(self, fingerprint: str) -> tuple[Operation, ...] | None:
        """What was done since the assignments had a fingerprint; None if they never had."""
        for at, session in enumerate(self.sessions):
            if session.fingerprint == fingerprint:
                return tuple(chain.from_iterable(s.operations for s in self.sessions[at:]))
        return None

    def applied(self, edited: EditedClusters, where: str) -> EditedClusters:
        """The clusters after all of it.

        Args:
            edited: As the model made them; they are changed.
            where: Address of the edits, for messages.

        Raises:
            DataError: an operation does not go with the clusters.
        """
        for session in self.sessions:
            edited.call(session.names, where)
            edited.apply(session.operations, where)
        return edited


def name_of(fingerprint: str) -> str:
    """The file of the edits for the assignments of a fingerprint, under `--out`."""
    return f"{FOLDER}/{fingerprint[:12]}.json"


def read_history(out: Place, fingerprint: str) -> History:
    """The edits of a run for some assignments; none if there are none.

    Raises:
        ArtifactError: the file is there but cannot be read.
    """
    name = name_of(fingerprint)
    try:
        data = out.read(name)
    except FileNotFoundError:
        return History(fingerprint)
    where = out.uri_of(name)
    try:
        tree = parse(data, where, most=None)
        if tree["schema"] != SCHEMA or tree["fingerprint"] != fingerprint:
            raise _unreadable(where, f"schema {tree['schema']}, fingerprint {tree['fingerprint']}")
        sessions = tuple(
            Session(
                one["fingerprint"],
                read_operations(one["operations"], where),
                {int(number): str(called) for number, called in one["names"].items()},
            )
            for one in tree["sessions"]
        )
    except (DataError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(where, error) from error
    return History(fingerprint, sessions, str(tree.get("follows", "")))


def write_history(out: Place, history: History) -> None:
    """Keep the edits of a run; the file is whole or not there."""
    sessions = [
        {
            "fingerprint": session.fingerprint,
            "names": {str(number): called for number, called in session.names.items()},
            "operations": [as_json(operation) for operation in session.operations],
        }
        for session in history.sessions
    ]
    told = {"fingerprint": history.fingerprint, "follows": history.follows}
    tree = {"schema": SCHEMA, **told, "sessions": sessions}
    out.write(name_of(history.fingerprint), json.dumps(tree, indent=1).encode())


def others(out: Place, history: History) -> list[str]:
    """Files with edits of the run that are not in a history."""
    own = {name_of(one).rpartition("/")[2] for one in (history.fingerprint, history.follows)}
    return [f"{FOLDER}/{name}" for name in sorted(out.child(FOLDER).names()) if name not in (*own, "")]


def _unreadable(where: str, got: object) -> ArtifactError:
    return ArtifactError(
        "the edits that were applied to this run cannot be read",
        expected=f"a file as `rayscan apply` writes it, of schema {SCHEMA}",
        got=got,
        where=where,
        fix="remove it: the clusters are then as the model made them, and edits can be applied again",
    )
