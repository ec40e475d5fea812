"""Stage duplicates on real files: altered copies are found by pixels among neighbors by features."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rayscan.artifacts import Artifact, Draft, Step
from rayscan.assignments import MINED, SCHEMA, assignment_tables
from rayscan.config import DuplicatesConfig, FleetConfig, MineConfig, Recipe, ScanLossConfig
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.errors import ConfigError
from rayscan.stages import duplicates, index, near_copies, signatures
from rayscan.storage import Place
from testing.matrices import brute_force, embedded, unit
from testing.textures import brightened, cropped, halved, jpeg, texture
from tests.unit.local_fleet import LocalFleet

K = 12
ALTERED = 6
PLAIN = 40
EXACT = 30
"""Copies of the last picture, more than fit into a list."""
LOOK_ALIKES = 8
"""Different pictures with nearly the same features."""


class Album:
    """Pictures as files: each of the first ALTERED ones with four alterations, PLAIN others, EXACT copies."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        files: list[bytes] = []
        self.original: list[int] = []
        rows: list[np.ndarray] = []

        def add(data: bytes, original: int, row: np.ndarray) -> None:
            files.append(data)
            self.original.append(original)
            rows.append(row)

        for number in range(ALTERED + PLAIN):
            picture, row = texture(number), rng.normal(size=24)
            if number >= ALTERED + PLAIN - LOOK_ALIKES:
                row = rows[ALTERED * 5] + 1e-3 * rng.normal(size=24)
            add(jpeg(picture), number, row)
            if number < ALTERED:
                for data in (
                    jpeg(halved(picture)), jpeg(picture, 40), jpeg(cropped(picture, 0.07, 1, 0.5)),
                    jpeg(brightened(picture, 1.15)),
                ):  # fmt: skip
                    add(data, number, row + 0.2 * rng.normal(size=24))
        for _ in range(EXACT):
            add(files[-1], ALTERED + PLAIN - 1, rows[-1])
        photos = folder / "photos"
        photos.mkdir(parents=True)
        for number, data in enumerate(files):
            (photos / f"{number:04d}.jpg").write_bytes(data)
        self.out = Place(str(folder / "run"))
        self.context = Context(
            self.out, Sources(str(photos)), LocalFleet(FleetConfig(), self.out), Progress(io.StringIO())
        )
        self.recipe = Recipe(
            name="test",
            num_clusters=3,
            method="consensus",
            mine=MineConfig(num_neighbors=K),
            scan=ScanLossConfig(num_neighbors=5),
        )
        step = index.plan(self.recipe, {}, self.context.sources)
        self.done: dict[str, Artifact] = {"index": index.run(self.recipe, {}, step, self.context)}
        x = unit(np.stack(rows))
        self.done["embed"] = embedded(self.out, x)
        scores, ids = brute_force(x, K)
        draft = Draft(self.out, Step("mine", 1, {}))
        table = pa.table({"gid": np.arange(len(x)), "ids": list(ids), "scores": list(scores)})
        self.done["mine"] = draft.commit({"neighbors.parquet": draft.write_table("neighbors.parquet", table)})
        self.scores = scores

    def found(self, **settings: object) -> Artifact:
        recipe = replace(self.recipe, duplicates=DuplicatesConfig(**settings))
        step = duplicates.plan(recipe, self.done, self.context.sources)
        return duplicates.run(recipe, self.done, step, self.context)

    def groups(self, **settings: object) -> list[int]:
        """The first image of each image's group."""
        table = self.found(**settings).read_table(duplicates.TABLE)
        medoid = [own if other is None else other for own, other in
                  zip(table["gid"].to_pylist(), table["duplicate_of"].to_pylist(), strict=True)]  # fmt: skip
        first = {m: medoid.index(m) for m in medoid}
        return [first[m] for m in medoid]


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Album:
    return Album(tmp_path_factory.mktemp("album"))


def test_groups_are_the_pictures_and_their_alterations_and_the_exact_copies(album: Album) -> None:
    assert album.groups() == [album.original.index(number) for number in album.original]
    found = album.found()
    assert found.facts["exact"] == EXACT
    assert found.facts["copies"] == ALTERED * 4 + EXACT
    assert found.facts["groups"] == ALTERED + 1
    told = found.read_json(duplicates.FOUND)
    assert sum(told["nearest"]) == len(album.original)
    assert told["threshold"] >= told["floor"] > 0


def test_features_alone_take_look_alikes_for_copies(album: Album) -> None:
    groups = album.groups(compare="features")
    look_alikes = [
        n for n, original in enumerate(album.original) if original >= ALTERED + PLAIN - LOOK_ALIKES
    ]
    assert len({groups[n] for n in look_alikes}) == 1


def test_a_threshold_of_the_user_is_taken(album: Album) -> None:
    assert album.found(threshold=0.999).facts["copies"] < album.found().facts["copies"]
    asked = album.found(threshold=0.999)
    assert (asked.facts["threshold"], asked.facts["asked"]) == (0.999, True)


def test_nothing_is_looked_for_if_that_is_wanted_but_outliers(album: Album) -> None:
    table = album.found(compare="none").read_table(duplicates.TABLE)
    assert table["duplicate_of"].null_count == len(table)
    distance = -album.scores[:, K - 1]
    expected = [np.mean(distance <= value) for value in distance]
    np.testing.assert_allclose(table["outlier"].to_numpy(), expected, atol=1e-6)


def test_outliers_by_a_nearer_neighbor(album: Album) -> None:
    table = album.found(compare="none", outlier_neighbors=1).read_table(duplicates.TABLE)
    distance = -album.scores[:, 0].round(6)
    order = np.argsort(table["outlier"].to_numpy(), kind="stable")
    assert (np.diff(distance[order]) >= -1e-6).all()
    with pytest.raises(ConfigError, match="outlier_neighbors"):
        replace(album.recipe, duplicates=DuplicatesConfig(outlier_neighbors=K + 1))


def test_no_bit_depends_on_the_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = []
    for name, rows in (("whole", 16_384), ("cut", 17)):
        monkeypatch.setattr(near_copies, "ROWS_PER_TASK", rows)
        monkeypatch.setattr(near_copies, "ANCHORS_AT_ONCE", min(rows, 5))
        monkeypatch.setattr(signatures, "ROWS_PER_PART", rows)
        found = Album(tmp_path / name).found()
        tables.append((found.read(duplicates.TABLE), json.dumps(found.read_json(duplicates.FOUND))))
    assert tables[0] == tables[1]


def test_the_columns_reach_the_assignments_and_stay_empty_for_images_that_were_not_mined(
    album: Album,
) -> None:
    found = album.found()
    gids = np.arange(len(album.original))
    tops = np.zeros(len(gids), np.dtype([("ids", np.int32, 5), ("probs", np.float32, 5)]))

    def table(mined: dict[str, pa.Array] | None) -> pa.Table:
        tables = assignment_tables(album.done["index"], gids, lambda a, b: tops[a:b], [], mined)
        return pa.concat_tables(tables)

    stored = found.read_table(duplicates.TABLE)
    with_columns = table(duplicates.columns_of(found, gids))
    assert with_columns.schema == SCHEMA
    assert all(with_columns[name].to_pylist() == stored[name].to_pylist() for name in MINED)
    assert all(table(None)[name].null_count == len(gids) for name in MINED)
    beyond = duplicates.columns_of(found, np.append(gids, 10**6))
    assert all(column.null_count >= 1 and column[-1].as_py() is None for column in beyond.values())
