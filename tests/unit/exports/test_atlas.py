"""The file for Embedding Atlas: neighbors, places and pictures, opened by its own command."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rayscan.exports import export
from rayscan.exports.atlas import OWN, atlas_tables, map_of
from rayscan.exports.pictures import ROWS_AT_ONCE, Pictures
from tests.unit.exports.pictured import NAMES, PicturedRun, pictured


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> PicturedRun:
    return pictured(tmp_path_factory.mktemp("run"), num_images=300)


def test_rows_have_places_neighbors_pictures_and_every_column(made: PicturedRun, tmp_path: Path) -> None:
    said = export(made.opened, "atlas", str(tmp_path / "a.parquet"))
    assert said.startswith("300 rows")
    table = pq.read_table(tmp_path / "a.parquet")
    assigned = made.opened.assignments
    for column in assigned.column_names:
        assert table[column].to_pylist() == assigned[column].to_pylist()
    assert table["name"].to_pylist() == [NAMES[n] for n in assigned["cluster"].to_pylist()]
    assert set(OWN) <= set(table.column_names)
    places = np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1)
    assert np.isfinite(places).all()
    assert (places.std(axis=0) > 0.1).all()
    for row in table.slice(0, 20).to_pylist() + table.slice(280, 20).to_pylist():
        ids, distances = row["neighbors"]["ids"], row["neighbors"]["distances"]
        assert len(ids) == 15 and row["gid"] not in ids
        assert distances == sorted(distances)
        if row["split"] == "train":
            assert ids == made.neighbors[row["gid"], :15].tolist()
        else:  # nothing was mined: all rows are asked
            cosine = made.rows @ made.rows[row["gid"]]
            cosine[row["gid"]] = -2
            assert np.allclose(cosine[ids], np.sort(cosine)[::-1][:15], atol=1e-5)
            assert np.allclose(distances, 1 - cosine[ids], atol=1e-5)
        picture = Image.open(io.BytesIO(row["image"]["bytes"]))
        assert (picture.format, picture.size) == ("WEBP", (128, 96))
        whole = Image.open(io.BytesIO(made.encoded[row["gid"]])).convert("RGB").resize((128, 96))
        off = np.abs(np.asarray(picture, np.float32) - np.asarray(whole, np.float32)).mean()
        assert off < 12, "the picture of another image"


def test_the_same_run_gives_the_same_bytes(made: PicturedRun, tmp_path: Path) -> None:
    for name in ("a.parquet", "b.parquet"):
        export(made.opened, "atlas", str(tmp_path / name))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(480)  # importing the command takes most of it
def test_its_own_command_opens_it_with_the_options_printed(made: PicturedRun, tmp_path: Path) -> None:
    cli = pytest.importorskip("embedding_atlas.cli")
    from click.testing import CliRunner

    said = export(made.opened, "atlas", str(tmp_path / "it's a \u732b.parquet"))
    command, *options = shlex.split(said.splitlines()[-1].removeprefix("open it: "))
    assert command == "embedding-atlas"
    site = tmp_path / "site"
    told = CliRunner().invoke(cli.main, [*options, "--export-application", str(site)], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    props = json.loads((site / "data/metadata.json").read_text("utf-8"))["props"]
    assert props["data"]["projection"] == {"x": "x", "y": "y"}
    assert (props["data"]["neighbors"], props["data"]["image"]) == ("neighbors", "image")
    assert pq.read_table(site / "data/dataset.parquet").num_rows == 300


def test_pictures_are_held_some_at_a_time(made: PicturedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayscan.exports.pictures.BYTES_AT_ONCE", 5000)
    run = made.opened
    longest = max(map(len, made.encoded))
    for rows in Pictures(run).pieces([run.assignments]):
        held = sum(len(made.encoded[gid]) for gid in rows["gid"].to_pylist())
        assert held <= 5000 + longest
    monkeypatch.undo()
    tables = list(atlas_tables(run, map_of(run), Pictures(run)))
    assert max(map(len, tables)) <= ROWS_AT_ONCE
    assert [gid for rows in tables for gid in rows["gid"].to_pylist()] == list(range(300))


def test_many_images_have_small_pictures(made: PicturedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayscan.exports.atlas.MANY", 100)
    run = made.opened
    rows = next(iter(atlas_tables(run, map_of(run), Pictures(run))))
    assert Image.open(io.BytesIO(rows["image"][0].as_py()["bytes"])).size == (64, 48)
