"""Exports of several small files appear whole or not at all: interrupted, killed, replaced, on a store."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from rayscan.errors import ArtifactError
from rayscan.exports import export
from rayscan.exports.rows import named_images
from rayscan.exports.whole_folder import NOTE
from rayscan.run import Run
from rayscan.storage import Place
from tests.unit.exports.test_csv import run_with, table_of
from tests.unit.exports.test_formats import named_run

FORMATS = {"fiftyone": "labels.json", "label-studio": "tasks-00000.json"}
"""Format -> its chief file."""
KILLED = """
import os, signal, sys
from importlib import import_module
from pathlib import Path
from rayscan.exports import export
from rayscan.exports.rows import named_images
from rayscan.run import Run

run, to, out = sys.argv[1:]

def some(*asked):
    for number, image in enumerate(named_images(*asked)):
        if number == 20:
            assert any(path.is_dir() for path in Path(out).parent.glob(".*.partial"))
            os.kill(os.getpid(), signal.SIGKILL)
        yield image

module = import_module("rayscan.exports." + to.replace("-", "_"))
module.named_images = some
export(Run(run), to, out, force=True)
"""


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def interrupt(monkeypatch: pytest.MonkeyPatch, to: str) -> None:
    """Have reading end in the middle."""

    def some(*asked: Any) -> Iterator[dict[str, Any]]:
        for number, image in enumerate(named_images(*asked)):
            if number == 20:
                raise OSError("the disk is gone")
            yield image

    monkeypatch.setattr(import_module("rayscan.exports." + to.replace("-", "_")), "named_images", some)


@pytest.mark.parametrize("to", FORMATS)
def test_one_that_ends_in_the_middle_leaves_nothing_or_what_was_there(
    to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = named_run(tmp_path)
    export(run, to, str(tmp_path / "former"))
    former = files_of(tmp_path / "former")
    assert {FORMATS[to], NOTE} <= former.keys()
    interrupt(monkeypatch, to)
    for name in ("former", "new"):
        with pytest.raises(ArtifactError, match="the disk is gone"):
            export(run, to, str(tmp_path / name), force=True)
    assert {path.name for path in tmp_path.iterdir()} == {"run", "former"}
    assert files_of(tmp_path / "former") == former


@pytest.mark.parametrize("to", FORMATS)
def test_one_that_is_killed_leaves_what_was_there(to: str, tmp_path: Path) -> None:
    run, out = named_run(tmp_path), tmp_path / "out"
    export(run, to, str(out))
    former = files_of(out)
    arguments = [sys.executable, "-c", KILLED, run.place.uri, to, str(out)]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    assert files_of(out) == former
    export(run, to, str(out), force=True)
    assert files_of(out) == former


@pytest.mark.parametrize("to", FORMATS)
def test_a_store_gets_the_note_last(to: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_with(place, table_of(30))
    out = place.child(f"out-{to}")
    export(Run(run.place.uri), to, out.uri)
    names = out.names()
    assert {FORMATS[to], NOTE} <= set(names)
    interrupt(monkeypatch, to)
    with pytest.raises(ArtifactError, match="the disk is gone"):
        export(run, to, out.uri, force=True)
    assert out.names() == names  # nothing of what was there is touched before all is made
