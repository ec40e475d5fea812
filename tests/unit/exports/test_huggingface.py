"""Data sets for the Hugging Face hub, read back by `datasets`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rayscan.errors import ConfigError, DataError
from rayscan.exports import export, huggingface
from tests.unit.exports.pictured import NAMES, PicturedRun, key_of, pictured


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> PicturedRun:
    return pictured(tmp_path_factory.mktemp("run"))


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    yield


def test_datasets_reads_pictures_classes_and_every_column(made: PicturedRun, tmp_path: Path) -> None:
    from datasets import ClassLabel, Image, load_dataset

    assert export(made.opened, "huggingface", str(tmp_path / "out")).startswith("120 images")
    loaded = load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 100, "eval": 20}
    assigned = {row["gid"]: row for row in made.opened.assignments.to_pylist()}
    for split, rows in loaded.items():
        assert isinstance(rows.features["cluster"], ClassLabel)
        assert rows.features["cluster"].names == NAMES
        assert rows[0]["image"].size == (200, 150)
        for row in rows.cast_column("image", Image(decode=False)):
            want = assigned[row["gid"]]
            assert want["split"] == split
            assert row["image"]["bytes"] == made.encoded[row["gid"]]
            suffix = "png" if row["gid"] % 2 else "jpg"
            assert row["image"]["path"] == f"{key_of(row['gid'])}.{suffix}"
            assert row["cluster_number"] == row["cluster"] == want["cluster"]
            assert row["name"] == NAMES[want["cluster"]]
            for column in ("id", "source", "key", "confidence", "margin", "top5", "is_prototype"):
                assert row[column] == want[column]


def test_clusters_of_one_name_are_one_class(made: PicturedRun, tmp_path: Path) -> None:
    import json

    from datasets import load_dataset

    run = pictured(tmp_path / "own", num_images=60).opened
    run.place.write(
        "clusters.json", json.dumps([{**c, "name": "ab"[c["cluster"] % 2]} for c in run.clusters]).encode()
    )
    export(run, "huggingface", str(tmp_path / "out"))
    rows = load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))["train"]
    assert rows.features["cluster"].names == ["a", "b"]
    assert [row % 2 for row in rows["cluster_number"]] == list(rows["cluster"])


def test_a_file_ends_when_it_is_large_enough(
    made: PicturedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import load_dataset

    monkeypatch.setattr(huggingface, "SHARD_BYTES", 20_000)
    monkeypatch.setattr("rayscan.exports.pictures.BYTES_AT_ONCE", 10_000)
    export(made.opened, "huggingface", str(tmp_path / "out"))
    names = sorted(file.name for file in (tmp_path / "out/data").iterdir())
    count = sum(name.startswith("train") for name in names)
    assert count > 2
    assert names[-count:] == [f"train-{n:05d}-of-{count:05d}.parquet" for n in range(count)]
    loaded = load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"]["gid"] == list(range(100))


def test_damage_leaves_nothing(tmp_path: Path) -> None:
    run = pictured(tmp_path / "own", num_images=60)
    tar = run.folder / "eval.tar"
    tar.write_bytes(tar.read_bytes()[:2000])
    with pytest.raises(DataError):
        export(run.opened, "huggingface", str(tmp_path / "out/data"))
    assert not list((tmp_path / "out").iterdir())


def test_only_what_an_export_wrote_is_replaced(made: PicturedRun, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("keep")
    with pytest.raises(ConfigError, match="no such export wrote"):
        export(made.opened, "huggingface", str(tmp_path / "mine"), force=True)
    assert (tmp_path / "mine/letter.txt").read_text() == "keep"
    export(made.opened, "huggingface", str(tmp_path / "out"))
    (tmp_path / "out/data/train-99999-of-99999.parquet").write_bytes(b"of a former one")
    export(made.opened, "huggingface", str(tmp_path / "out"), force=True)
    assert len(list((tmp_path / "out/data").iterdir())) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "out"}
