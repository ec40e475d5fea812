"""Exports for other programs, read back as those programs read them."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayscan.errors import ConfigError, DataError
from rayscan.exports import export
from rayscan.run import Run
from rayscan.storage import Place
from tests.unit.exports.pictured import key_of, pictured
from tests.unit.exports.test_csv import rename, run_with, table_of

NAMES = ['caf\u00e9 "noir" <&>', "a/b: c", "A\\b* c"]


def named_run(tmp_path: Path, count: int = 30, sources: list[str] | None = None) -> Run:
    table = table_of(count)
    if sources is not None:
        at = table.column_names.index("source")
        table = table.set_column(at, "source", pa.array(sources))
    run = run_with(Place(str(tmp_path / "run")), table)
    rename(run, NAMES)
    return run


def test_parquet_has_every_column_and_the_names(tmp_path: Path) -> None:
    given = table_of(30).append_column("top5_probs", pa.array([[0.75, 0.25]] * 30))
    run = run_with(Place(str(tmp_path / "run")), given)
    rename(run, NAMES)
    export(run, "parquet", str(tmp_path / "out.parquet"))
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["name"].to_pylist() == [NAMES[c] for c in table["cluster"].to_pylist()]
    for column in given.column_names:
        assert table[column].to_pylist() == given[column].to_pylist()


def test_label_studio_gets_predictions_and_an_interface_that_takes_them(tmp_path: Path) -> None:
    sources = [f"/data/p {i}.jpg" if i % 2 else f"s3://bucket/{i}.jpg" for i in range(30)]
    export(named_run(tmp_path, sources=sources), "label-studio", str(tmp_path / "ls"))
    tasks = json.loads((tmp_path / "ls/tasks-00000.json").read_bytes())
    assert len(tasks) == 30
    view = ElementTree.parse(tmp_path / "ls/config.xml").getroot()
    choices = {node.attrib["value"] for node in view.iter("Choice")}
    controls = {node.attrib["name"]: node.attrib["toName"] for node in view.iter("Choices")}
    objects = {node.attrib["name"] for node in view.iter("Image")}
    for i, task in enumerate(tasks):
        assert "annotations" not in task  # predictions must not pose as human work
        ((result,),) = [p["result"] for p in task["predictions"]]
        assert controls[result["from_name"]] == result["to_name"]
        assert result["to_name"] in objects
        assert result["value"]["choices"] == [NAMES[i % 3]]
        assert set(result["value"]["choices"]) <= choices
        wanted = f"/data/local-files/?d=data/p {i}.jpg" if i % 2 else sources[i]
        assert task["data"]["image"] == wanted


def test_label_studio_tasks_are_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayscan.exports.label_studio.TASKS_PER_FILE", 8)
    export(named_run(tmp_path), "label-studio", str(tmp_path / "ls"))
    files = sorted((tmp_path / "ls").glob("tasks-*.json"))
    assert [len(json.loads(f.read_bytes())) for f in files] == [8, 8, 8, 6]


def test_cvat_gets_tags_in_the_order_of_names(tmp_path: Path) -> None:
    sources = [f"/photos/{97 * i % 30:02d} & co.jpg" for i in range(30)]
    export(named_run(tmp_path, sources=sources), "cvat", str(tmp_path / "cvat.xml"))
    root = ElementTree.parse(tmp_path / "cvat.xml").getroot()
    images = root.findall("image")
    assert [int(image.attrib["id"]) for image in images] == list(range(30))
    assert [image.attrib["name"] for image in images] == sorted(Path(s).name for s in sources)
    cluster_of = {Path(s).name: NAMES[i % 3] for i, s in enumerate(sources)}
    for image in images:
        (tag,) = image.findall("tag")
        assert tag.attrib == {"label": cluster_of[image.attrib["name"]], "source": "auto"}
    labels = root.findall("meta/task/labels/label")
    assert {(label.findtext("name"), label.findtext("type")) for label in labels} == {
        (name, "tag") for name in NAMES
    }


def test_fiftyone_gets_labels_of_the_documented_schema_and_a_loader(tmp_path: Path) -> None:
    export(named_run(tmp_path), "fiftyone", str(tmp_path / "fo"))
    labels = json.loads((tmp_path / "fo/labels.json").read_bytes())
    paths = json.loads((tmp_path / "fo/paths.json").read_bytes())
    assert labels["classes"] == NAMES
    assert labels["labels"].keys() == paths.keys() == {str(i) for i in range(30)}
    for i in range(30):
        said = labels["labels"][str(i)]
        assert labels["classes"][said["label"]] == NAMES[i % 3]
        assert 0 <= said["confidence"] <= 1
        assert paths[str(i)]["path"] == table_of(30)["source"][i].as_py()
    compile((tmp_path / "fo/load_fiftyone.py").read_text(), "load_fiftyone.py", "exec")


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    """Thirty files, two of them of one name."""
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    files = [folder / ("b/p.jpg" if i == 5 else "p.jpg" if i == 6 else f"{i}.jpg") for i in range(30)]
    for i, file in enumerate(files):
        file.write_bytes(b"%d" % i)
    return [str(file) for file in files]


@pytest.mark.parametrize("kind", ["folders", "folders-hardlink", "folders-copy"])
def test_folders_hold_every_picture_once(tmp_path: Path, photos: list[str], kind: str) -> None:
    run = named_run(tmp_path, sources=photos)
    out = tmp_path / "sorted"
    export(run, kind, str(out))
    rows = list(csv.DictReader((out / "manifest.csv").read_text().splitlines()))
    assert sorted(row["source"] for row in rows) == sorted(photos)
    given = {row["source"]: row for row in table_of(30).to_pylist()}
    given = {photos[i]: row for i, row in enumerate(given.values())}
    for row in rows:
        file, source = out / row["file"], Path(row["source"])
        assert file.read_bytes() == source.read_bytes()
        assert file.suffix == ".jpg"
        assert file.is_symlink() == (kind == "folders")
        if kind == "folders":
            assert not Path(file.readlink()).is_absolute()  # the whole may move
        assert (file.stat().st_ino == source.stat().st_ino) == (kind != "folders-copy")
        is_unsure = given[row["source"]]["confidence"] < 0.5
        assert row["file"].startswith("_unsure/") == is_unsure
    # the two names that differ only in what no file system takes are two folders
    folders = {row["file"].partition("/")[0] for row in rows} - {"_unsure"}
    assert len(folders) == 3
    listed = {str(f.relative_to(out)) for f in out.rglob("*") if not f.is_dir() or f.is_symlink()}
    assert listed == {row["file"] for row in rows} | {"manifest.csv"}


def test_copies_come_out_of_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayscan.exports.folders.AT_ONCE", 7)
    made = pictured(tmp_path / "run")
    export(made.opened, "folders-copy", str(tmp_path / "sorted"))
    rows = list(csv.DictReader((tmp_path / "sorted/manifest.csv").read_text("utf-8").splitlines()))
    number_of = {row["source"]: row["gid"] for row in made.opened.assignments.to_pylist()}
    assert sorted(number_of[row["source"]] for row in rows) == list(range(120))
    for row in rows:
        number = number_of[row["source"]]
        file = tmp_path / "sorted" / row["file"]
        assert file.read_bytes() == made.encoded[number]
        name = key_of(number).replace('"', "_")
        assert file.name.endswith(f"_{name}.{'png' if number % 2 else 'jpg'}")
    with pytest.raises(DataError, match="files on this machine"):
        export(made.opened, "folders", str(tmp_path / "links"))


def test_a_rank_begins_each_name_the_surest_first(tmp_path: Path, photos: list[str]) -> None:
    export(named_run(tmp_path, sources=photos), "folders", str(tmp_path / "sorted"))
    for folder in (tmp_path / "sorted").iterdir():
        if folder.is_dir():
            names = sorted(f.name for f in folder.iterdir())
            assert [int(name[:5]) for name in names] == list(range(1, len(names) + 1))
            confidences = [float(name.split("_")[1]) for name in names]
            assert confidences == sorted(confidences, reverse=True)


def test_what_others_put_there_is_not_removed(tmp_path: Path, photos: list[str]) -> None:
    run, out = named_run(tmp_path, sources=photos), tmp_path / "mine"
    out.mkdir()
    (out / "letter.txt").write_text("keep")
    with pytest.raises(ConfigError, match="no such export wrote"):
        export(run, "folders", str(out), force=True)
    assert (out / "letter.txt").read_text() == "keep"
    # one of ours is replaced
    export(run, "folders", str(tmp_path / "ours"))
    export(run, "folders-copy", str(tmp_path / "ours"), force=True)
    assert not any(f.is_symlink() for f in (tmp_path / "ours").rglob("*"))


@pytest.mark.parametrize("source", ["s3://bucket/a.jpg", "/data/x.tar#a.jpg", ""])
def test_pictures_that_are_no_local_files_are_refused(tmp_path: Path, source: str) -> None:
    run = named_run(tmp_path, count=3, sources=[source] * 3)
    with pytest.raises(DataError, match="files on this machine"):
        export(run, "folders", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
