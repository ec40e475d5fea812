"""No command writes into the folders that a run keeps for itself, or over the user's pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayscan.errors import ArtifactError, ConfigError
from rayscan.out_kinds import OWN_FOLDERS, PREDICTION, RUN, kind_at, require_no_own_file, require_out
from rayscan.recipes import by_name
from rayscan.run import record
from rayscan.storage import Place


@pytest.fixture
def run(tmp_path: Path) -> Place:
    place = Place(str(tmp_path / "run"))
    record(place, by_name("digits"), {"data": "x", "eval_data": None, "labels": None}, {})
    return place


@pytest.mark.parametrize("name", sorted(OWN_FOLDERS))
@pytest.mark.parametrize("kind", [RUN, PREDICTION])
def test_an_out_inside_a_run_is_refused(run: Place, name: str, kind: str) -> None:
    require_out(run.child(name), kind)  # there is nothing yet
    run.child(name).write("index.html", b"page")
    with pytest.raises(ConfigError, match=f"(?s)another kind.*{name} of a run"):
        require_out(run.child(name), kind)
    assert kind_at(run.child(name)) is None and run.child(name).names() == ["index.html"]


def test_folders_of_the_users_own_are_free(run: Place) -> None:
    run.child("predictions").write("note.txt", b"")
    require_out(run.child("predictions"), PREDICTION)
    alone = Place(run.uri + "-beside").child("report")
    alone.write("index.html", b"")
    require_out(alone, PREDICTION)


def test_no_file_replaces_one_inside_a_run(run: Place) -> None:
    run.child("report").write("index.html", b"page")
    run.child("assign-1").write("manifest.json", b"{}")
    for place, name in ((run.child("report"), "index.html"), (run.child("assign-1"), "rows.parquet")):
        with pytest.raises(ConfigError, match="nothing was written"):
            require_no_own_file(place, name)
    require_no_own_file(run, "clusters.csv")


def test_no_file_replaces_a_picture_or_an_archive(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    for name in ("a.JPG", "b.heic", "c.zip"):
        require_no_own_file(place, name)  # free
        place.write(name, b"x")
        with pytest.raises(ConfigError, match="a picture or an archive"):
            require_no_own_file(place, name)
    place.write("table.csv", b"x")
    require_no_own_file(place, "table.csv")


@pytest.mark.parametrize(("text", "told"), [(b"null", "NoneType"), (b"[]", "list"), (b"3", "int")])
def test_a_record_of_another_shape_is_told_in_words(tmp_path: Path, text: bytes, told: str) -> None:
    place = Place(str(tmp_path))
    place.write("run.json", text)
    with pytest.raises(ArtifactError, match=f"got: +a {told}\n"):
        kind_at(place)
