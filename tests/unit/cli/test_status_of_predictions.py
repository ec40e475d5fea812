"""`rayscan status` of a prediction, which has other stages than the recipe it was made by."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayscan.artifacts import Draft, Step
from rayscan.cli.results import status_lines
from rayscan.errors import ArtifactError
from rayscan.recipes import by_name
from rayscan.run import PUBLISHED, Run, record
from rayscan.storage import Place

SOURCES = {"data": None, "eval_data": "new", "labels": None}


def predicted(out: Path, *stages: str) -> Run:
    place, done = Place(str(out)), {}
    for name in stages:
        draft = Draft(place, Step(name, 1, {}))
        files = [file for stage, file in PUBLISHED.values() if stage == name] or ["a.json"]
        made = draft.commit({file: draft.write_json(file, [1]) for file in files}, facts={})
        done[name] = {"directory": made.place.uri.rpartition("/")[2], "seconds": 2.0, "reused": False}
    record(place, by_name("custom"), SOURCES, done)
    return Run(str(out))


def test_only_the_stages_of_predict_are_told(tmp_path: Path) -> None:
    first, *stages, last = status_lines(predicted(tmp_path, "index", "embed", "assign", "report"))
    assert first.endswith("not running")
    assert [line.split()[:4] for line in stages] == [
        [name, "done", "in", "2.0"] for name in ("index", "embed", "assign", "report")
    ]
    assert last.startswith("everything is done; report: ")


def test_one_that_was_cut_goes_on(tmp_path: Path) -> None:
    *_, last = status_lines(predicted(tmp_path, "index"))
    assert last == "the same command goes on from here"


def test_who_asks_a_prediction_for_its_model_is_told_where_that_is(tmp_path: Path) -> None:
    run = predicted(tmp_path, "index")
    with pytest.raises(ArtifactError, match="the run whose model made it"):
        run.artifact("pretext")
    with pytest.raises(ArtifactError, match="with --labels"):
        run.artifact("evaluate")
