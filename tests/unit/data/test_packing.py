"""Packing in tasks: the plan decides, shards that were made stay, nothing is lost in between."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from rayscan.data.listing import list_sources
from rayscan.data.packing import PLAN, write_shards
from rayscan.data.sources.tar import scan_tar
from rayscan.errors import ConfigError, DataError
from tests.unit.data.conftest import encoded, picture, write_files


def photos(first: int, stop: int, folder: str = "p") -> dict[str, bytes]:
    return {f"{folder}/{n:03d}.jpg": encoded(picture(n, 20, 30), "JPEG") for n in range(first, stop)}


def rows(out: Path) -> dict[str, tuple[str, int]]:
    """Source -> (key, crc32) over all shards."""
    scans = [scan_tar(str(path), max_pixels=10**6) for path in sorted(out.glob("*.tar"))]
    found = [row for scan in scans for row in scan.table.to_pylist()]
    assert len({row["key"] for row in found}) == len(found)
    return {row["source"]: (row["key"], row["crc32"]) for row in found}


def shard_bytes(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.tar"))}


def test_new_images_go_into_new_shards_and_nothing_else_changes(tmp_path):
    write_files(tmp_path / "in", photos(10, 20))
    first = write_shards(str(tmp_path / "in"), str(tmp_path / "out"), shard_bytes=4000)
    before, found = shard_bytes(tmp_path / "out"), rows(tmp_path / "out")
    # They sort before the old ones, and one wants a key that is taken.
    write_files(tmp_path / "in", photos(0, 5) | {"p/010.png": encoded(picture(1))})
    second = write_shards(str(tmp_path / "in"), str(tmp_path / "out"), shard_bytes=4000)
    after = shard_bytes(tmp_path / "out")
    assert (first.images, second.images) == (10, 16) and len(after) > len(before)
    assert {name: after[name] for name in before} == before
    now = rows(tmp_path / "out")
    assert {source: now[source] for source in found} == found and len(now) == 16


def test_any_order_and_place_of_the_tasks_gives_the_same_shards(tmp_path):
    write_files(tmp_path / "in", photos(0, 12))
    write_shards(str(tmp_path / "in"), str(tmp_path / "a"), shard_bytes=3000)

    def elsewhere(fn, items):
        items = pickle.loads(pickle.dumps(items))
        return [fn(item) for item in reversed(items)][::-1]

    write_shards(str(tmp_path / "in"), str(tmp_path / "b"), shard_bytes=3000, apply=elsewhere)
    assert shard_bytes(tmp_path / "a") == shard_bytes(tmp_path / "b") and len(shard_bytes(tmp_path / "a")) > 2


def test_a_stopped_packing_goes_on_by_its_plan(tmp_path):
    write_files(tmp_path / "in", photos(0, 12))
    write_shards(str(tmp_path / "in"), str(tmp_path / "whole"), shard_bytes=3000)

    def stopping(fn, items):
        fn(items[1])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(str(tmp_path / "in"), str(tmp_path / "out"), shard_bytes=3000, apply=stopping)
    assert list(shard_bytes(tmp_path / "out")) == ["shard-000001.tar"]
    made = []

    def noting(fn, items):
        made.extend(task.name for task in items)
        return [fn(item) for item in items]

    write_shards(str(tmp_path / "in"), str(tmp_path / "out"), shard_bytes=10**9, apply=noting)
    assert "shard-000001.tar" not in made
    assert shard_bytes(tmp_path / "out") == shard_bytes(tmp_path / "whole")


def test_lists_of_images_are_packed_and_missing_ones_counted(tmp_path):
    write_files(tmp_path / "in", photos(0, 3))
    names = "\n".join(["path", "in/p/000.jpg", "in/p/002.jpg", "in/p/404.jpg"])
    (tmp_path / "list.csv").write_text(names)
    summary = write_shards(str(tmp_path / "list.csv"), str(tmp_path / "out"))
    assert (summary.images, summary.missing) == (2, 1) and "1 listed files are missing" in str(summary)


def test_classes_of_imagenet_layout(tmp_path):
    write_files(
        tmp_path / "in", {f"{w}/{w}_1.JPEG": encoded(picture(1), "JPEG") for w in ("n01440764", "n02084071")}
    )
    summary = write_shards(str(tmp_path / "in"), str(tmp_path / "out"), wnids=frozenset(["n02084071"]))
    assert summary.images == 1 and list(rows(tmp_path / "out")) == ["n02084071/n02084071_1.JPEG"]
    with pytest.raises(DataError, match="class folder"):
        write_shards(str(tmp_path / "in"), str(tmp_path / "x"), wnids=frozenset(["n00000000"]))


def test_refusals(tmp_path):
    write_files(tmp_path / "in", photos(0, 3))
    write_files(tmp_path / "foreign", {"x.tar": b"?"})
    with pytest.raises(DataError, match="other shards"):
        write_shards(str(tmp_path / "in"), str(tmp_path / "foreign"))
    write_shards(str(tmp_path / "in"), str(tmp_path / "out"), resize_px=10)
    with pytest.raises(ConfigError, match="another size"):
        write_shards(str(tmp_path / "in"), str(tmp_path / "out"))
    write_files(tmp_path / "in", {"p/001.jpg": b"\xff\xd8\xff other"})
    with pytest.raises(DataError, match="changed since"):
        write_shards(str(tmp_path / "in"), str(tmp_path / "out"), resize_px=10)


def test_new_classes_do_not_renumber_labels_inside_old_shards(tmp_path):
    write_files(tmp_path / "in", photos(0, 2, "b"))
    options = {"labels_from_folders": True, "cls_members": True}
    write_shards(str(tmp_path / "in"), str(tmp_path / "out"), **options)
    write_files(tmp_path / "in", photos(5, 6, "a"))
    with pytest.raises(DataError, match="renumber"):
        write_shards(str(tmp_path / "in"), str(tmp_path / "out"), **options)
    assert write_shards(str(tmp_path / "in"), str(tmp_path / "out"), labels_from_folders=True).classes == 2


def test_a_plan_alone_is_no_data(tmp_path):
    write_files(tmp_path / "in", photos(0, 2))
    write_shards(str(tmp_path / "in"), str(tmp_path / "out"))
    assert (tmp_path / "out" / PLAN).exists()
    assert [Path(e.uri).name for e in list_sources(str(tmp_path / "out")).entries] == ["shard-000000.tar"]
