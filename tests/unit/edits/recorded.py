"""A run over real digits as `rayscan run` leaves it before labels, and edits for it."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from rayscan.artifacts import load
from rayscan.edits.applying import directory_of
from rayscan.edits.history import fingerprint_of
from rayscan.run import Run, record
from rayscan.storage import Place
from tests.unit.report.digits_run import DigitsRun


def recorded(folder: Path, **settings: Any) -> DigitsRun:
    """The run, with its record."""
    run = DigitsRun(folder, **settings)
    record(run.out, run.recipe, vars(run.context.sources), stages_of(run))
    return run


@cache
def _first() -> DigitsRun:
    return recorded(Path(mkdtemp(prefix="rayscan-digits-")))


def copied(folder: Path) -> DigitsRun:
    """The run of ordinary settings, copied: it takes a second to make."""
    run = copy.copy(_first())
    shutil.copytree(run.folder, folder, dirs_exist_ok=True)
    run.folder, run.out = folder, Place(str(folder / "run"))
    run.context = replace(run.context, out=run.out)
    run.done = {name: load(run.out.child(directory_of(found))) for name, found in run.done.items()}
    return run


def stages_of(run: DigitsRun) -> dict[str, dict[str, Any]]:
    """What the record says of each stage."""
    return {
        name: {"directory": directory_of(artifact), "seconds": 1.0, "reused": False}
        for name, artifact in run.done.items()
    }


def fingerprint(run: DigitsRun) -> str:
    """Of the assignments that the run has now."""
    return fingerprint_of(Run(run.out.uri).artifact("assign"))


def saved(run: DigitsRun, *operations: dict[str, Any], of: str | None = None) -> str:
    """Address of an edits.json for the assignments as they are, or of a fingerprint."""
    tree = {"schema": 1, "fingerprint": of or fingerprint(run), "operations": list(operations)}
    path = run.folder / "edits.json"
    path.write_text(json.dumps(tree), encoding="utf-8")
    return str(path)


def rename_by_hand(run: DigitsRun, names: dict[int, str]) -> None:
    """What a person does to clusters.json."""
    listed = json.loads(run.out.read("clusters.json"))
    edited = [{**row, "name": names.get(row["cluster"], row["name"])} for row in listed]
    run.out.write("clusters.json", json.dumps(edited).encode())


def clusters_of(run: DigitsRun) -> dict[int, int]:
    """Cluster by gid, as the run has them now."""
    table = Run(run.out.uri).assignments
    return dict(zip(table["gid"].to_pylist(), table["cluster"].to_pylist(), strict=True))
