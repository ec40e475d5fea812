"""Folders into shards that webdataset, the standard library and our index read alike."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from rayscan.data.packing import write_shards
from rayscan.data.shard_writer import Sample, unique_keys, write_samples
from rayscan.data.sources.tar import scan_tar
from rayscan.errors import ArtifactError, ConfigError, DataError
from rayscan.storage import Place
from tests.unit.data.conftest import encoded, picture, write_files


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def photos(count=6):
    names = [
        "cats/a.jpg",
        "cats/b.v2.final.jpg",
        "dogs/a.jpg",
        "dogs/old/c.png",
        "dogs/a.png",
        "birds x/ue-\u00fc.jpg",
    ]
    return {
        n: encoded(picture(i, 40, 60), "PNG" if n.endswith("png") else "JPEG")
        for i, n in enumerate(names[:count])
    }


@pytest.fixture
def folder(tmp_path):
    write_files(tmp_path / "photos", photos() | {"cats/.DS_Store": b"x", "notes.txt": b"x"})
    return tmp_path / "photos"


def read_back(uris):
    dataset = webdataset.WebDataset(list(uris), shardshuffle=False, nodesplitter=None)
    return [{k: v for k, v in s.items() if k not in ("__url__", "__local_path__")} for s in dataset]


def test_files_go_in_byte_for_byte_with_their_path(folder, tmp_path):
    summary = write_shards(str(folder), str(tmp_path / "out"))
    assert (summary.images, len(summary.shards), summary.labels) == (6, 1, None)
    assert summary.size == Path(summary.shards[0]).stat().st_size
    samples = read_back(summary.shards)
    assert len(samples) == 6
    for sample in samples:
        source = json.loads(sample["json"])["source"]
        (extension,) = set(sample) - {"__key__", "json"}
        assert sample[extension] == (folder / source).read_bytes() and source.endswith(extension)
    assert names_in(tmp_path / "out") == ["packed.parquet", "shard-000000.tar"]


def test_our_index_reads_key_and_source_back(folder, tmp_path):
    summary = write_shards(str(folder), str(tmp_path / "out"), shard_bytes=4000)
    assert len(summary.shards) > 1
    scans = [scan_tar(uri, max_pixels=10**6) for uri in summary.shards]
    keys = [key for scan in scans for key in scan.table["key"].to_pylist()]
    assert keys == [sample["__key__"] for sample in read_back(summary.shards)]
    assert [s for scan in scans for s in scan.table["source"].to_pylist()] == sorted(photos())
    assert all(scan.members["cls"] == 0 for scan in scans)
    assert str(len(summary.shards)) in str(summary) and "6 images" in str(summary)


def test_equal_input_gives_equal_bytes_and_leaves_shards_alone(folder, tmp_path):
    first = write_shards(str(folder), str(tmp_path / "a"), shard_bytes=4000)
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    folder.rename(tmp_path / "moved")
    second = write_shards(str(tmp_path / "moved"), str(tmp_path / "b"), shard_bytes=4000)
    assert [Path(s).read_bytes() for s in first.shards] == [Path(s).read_bytes() for s in second.shards]
    with tarfile.open(first.shards[0]) as tar:
        assert {(i.mtime, i.uid, i.gid, i.uname, i.gname, i.mode) for i in tar} == {(0, 0, 0, "", "", 0o444)}
    before = [Path(s).stat().st_mtime_ns for s in second.shards]
    assert write_shards(str(tmp_path / "moved"), str(tmp_path / "b"), shard_bytes=4000) == second
    assert [Path(s).stat().st_mtime_ns for s in second.shards] == before


def test_keys_are_unique_and_survive_webdataset():
    names = ["a.jpg", "a.png", "a-2.jpg", "x.y/b.c.jpg", "x.y/b_c.jpg", "__MACOSX__/z.jpg", "n/.jpg"]
    keys = unique_keys(names)
    assert keys[:5] == ["a", "a-2", "a-2-2", "x.y/b_c", "x.y/b_c-2"]
    assert len(set(keys)) == len(names) and not keys[5].startswith("__")


def test_hard_names_all_arrive(tmp_path):
    names = [
        "a.jpg",
        "a.jpeg",
        "a.b.jpg",
        "a_b.jpg",
        "__x__/c.jpg",
        f"{'d' * 120}/{'e' * 120}.jpg",
        "f g;h'.jpg",
        "K.JPG",
    ]
    write_files(tmp_path / "in", {name: encoded(picture(n), "JPEG") for n, name in enumerate(names)})
    summary = write_shards(str(tmp_path / "in"), str(tmp_path / "out"))
    samples = read_back(summary.shards)
    assert sorted(json.loads(s["json"])["source"] for s in samples) == sorted(names)
    assert scan_tar(summary.shards[0], max_pixels=10**6).table.num_rows == len(names)


def test_labels_come_from_folders_only_when_asked(folder, tmp_path):
    with pytest.raises(ConfigError):
        write_shards(str(folder), str(tmp_path / "x"), cls_members=True)
    summary = write_shards(str(folder), str(tmp_path / "out"), labels_from_folders=True)
    assert summary.classes == 3 and summary.labels == str(tmp_path / "out" / "labels.parquet")
    rows = pq.read_table(summary.labels).to_pylist()
    assert {(r["class"], r["label"]) for r in rows} == {("birds x", 0), ("cats", 1), ("dogs", 2)}
    assert all(row["source"].startswith(row["class"] + "/") for row in rows)
    assert [row["key"] for row in rows] == [s["__key__"] for s in read_back(summary.shards)]
    assert not any("cls" in sample for sample in read_back(summary.shards))
    both = write_shards(str(folder), str(tmp_path / "cls"), labels_from_folders=True, cls_members=True)
    assert [int(s["cls"]) for s in read_back(both.shards)] == [row["label"] for row in rows]
    (folder / "loose.jpg").write_bytes(encoded(picture(0), "JPEG"))
    with pytest.raises(DataError, match=r"loose\.jpg"):
        write_shards(str(folder), str(tmp_path / "y"), labels_from_folders=True)


def test_resize_shrinks_the_short_side_and_never_enlarges(tmp_path):
    files = {
        "wide.jpg": encoded(picture(0, 40, 80), "JPEG"),
        "tall.png": encoded(picture(1, 90, 30)),
        "small.jpg": encoded(picture(2, 10, 12), "JPEG"),
        "broken.jpg": b"\xff\xd8\xff junk",
    }
    write_files(tmp_path / "in", files)
    summary = write_shards(str(tmp_path / "in"), str(tmp_path / "out"), resize_px=20)
    rows = {r["source"]: r for r in scan_tar(summary.shards[0], max_pixels=10**6).table.to_pylist()}
    sizes = {name: (row["width"], row["height"], row["status"]) for name, row in rows.items()}
    assert sizes == {
        "wide.jpg": (40, 20, "ok"),
        "tall.png": (20, 60, "ok"),
        "small.jpg": (12, 10, "ok"),
        "broken.jpg": (0, 0, "format"),
    }
    stored = {json.loads(s["json"])["source"]: s for s in read_back(summary.shards)}
    assert (
        stored["small.jpg"]["jpg"] == files["small.jpg"]
        and stored["broken.jpg"]["jpg"] == files["broken.jpg"]
    )
    tall = np.asarray(Image.open(io.BytesIO(stored["tall.png"]["png"])).convert("RGB")).astype(int)
    reference = np.asarray(Image.fromarray(picture(1, 90, 30)).resize((20, 60), Image.Resampling.BOX)).astype(
        int
    )
    assert np.abs(tall - reference).mean() < 4


def digit_samples(count):
    return [(f"digit-{n}", encoded(picture(n)), "png", f"digits #{n}") for n in range(count)]


def test_samples_are_cut_into_shards_by_count_and_size(tmp_path):
    summary = write_samples(iter(digit_samples(7)), str(tmp_path), "digits", max_count=3)
    assert [Path(s).name for s in summary.shards] == [f"digits-{n:06d}.tar" for n in range(3)]
    assert [scan_tar(s, max_pixels=10**6).table.num_rows for s in summary.shards] == [3, 3, 1]
    one_each = write_samples(digit_samples(4), str(tmp_path / "b"), "x", shard_bytes=10)
    assert len(one_each.shards) == 4
    assert write_samples([], str(tmp_path / "c"), "x").shards == ()


def test_shards_of_an_earlier_larger_set_are_not_mixed_in(tmp_path):
    write_samples(digit_samples(6), str(tmp_path), "d", max_count=2)
    write_samples(digit_samples(2), str(tmp_path), "other", max_count=2)
    with pytest.raises(DataError, match="d-000002"):
        write_samples(digit_samples(4), str(tmp_path), "d", max_count=2)


@pytest.mark.parametrize(
    "wrong",
    [
        [("a.b", b"x", "png", "s")],
        [("a", b"x", "exe", "s")],
        [("__m__/a", b"x", "png", "s")],
        [("a", b"x", "png", "s"), ("a", b"y", "png", "t")],
    ],
)
def test_samples_that_would_not_come_back_are_refused(tmp_path, wrong):
    with pytest.raises(DataError):
        write_samples([Sample(*w) for w in wrong], str(tmp_path), "x")
    assert names_in(tmp_path) == []


def test_no_half_written_shard_is_ever_visible(tmp_path, monkeypatch):
    def failing(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(ArtifactError, match="disk full"):
        write_samples(digit_samples(3), str(tmp_path), "x")
    assert names_in(tmp_path) == []


def test_to_an_object_store_and_back(folder, s3_uri, tmp_path):
    out = Place(s3_uri).child(f"shards-{tmp_path.name}").uri
    summary = write_shards(str(folder), out, shard_bytes=4000, labels_from_folders=True)
    local = write_shards(str(folder), str(tmp_path / "out"), shard_bytes=4000)
    assert [Place(out).read(Path(s).name) for s in local.shards] == [
        Path(s).read_bytes() for s in local.shards
    ]
    assert scan_tar(summary.shards[0], max_pixels=10**6).table["status"].to_pylist()[0] == "ok"
