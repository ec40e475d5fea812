"""A set that grew, shrank, changed or moved: gids stay, and only what changed is read."""

from __future__ import annotations

import os
import shutil
import zipfile
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayscan.artifacts import find
from rayscan.data.reader import Reader
from rayscan.data.sources import files
from rayscan.data.table import ImageTable
from rayscan.recipes import by_name
from rayscan.run import record
from rayscan.stages import index
from tests.unit.data.conftest import encoded, make_tar, picture, write_files

RECIPE = by_name("digits")


@pytest.fixture
def made(context_for):
    """Index what is there now into the same --out, as the pipeline does."""

    def index_now(data, eval_data=None, out="out", recipe=RECIPE):
        context = context_for(str(data), None if eval_data is None else str(eval_data), out=out)
        step = index.plan(recipe, {}, context.sources)
        artifact = find(context.out.child(step.directory), step) or index.run(recipe, {}, step, context)
        record(context.out, recipe, vars(context.sources), {"index": {"directory": step.directory}})
        return artifact

    return index_now


@pytest.fixture
def read_files(monkeypatch):
    """Names of the pictures that were read since."""
    names, original = [], files._read

    def noted(entry):
        names.append(entry.key)
        return original(entry)

    monkeypatch.setattr(files, "_read", noted)
    return names


def rows(artifact):
    return artifact.read_table("images.parquet").to_pylist()


def gids(artifact):
    return {row["key"]: row["gid"] for row in rows(artifact) if row["status"] == "ok"}


def folder_of(path, *names):
    write_files(path, {name: encoded(picture(hash_of(name))) for name in names})
    return path


def hash_of(name):
    return sum(name.encode())


def content(artifact):
    """The bytes of every usable picture, by its key."""
    table = ImageTable.from_artifact(artifact)
    usable = table.gids(None)
    keys = [row["key"] for row in rows(artifact)]
    return {keys[gid]: data for gid, data in zip(usable, Reader(table).read(usable), strict=True)}


def test_pictures_that_came_are_read_and_stand_after_the_others(tmp_path, made, read_files):
    folder = folder_of(tmp_path / "in", "b.png", "d.png")
    first = made(folder)
    assert read_files == ["b.png", "d.png"]
    folder_of(folder, "a.png", "c.png", "sub/e.png")
    second = made(folder)
    assert read_files[2:] == ["a.png", "c.png", "sub/e.png"]
    assert gids(first).items() <= gids(second).items()
    assert gids(second) == {"b.png": 0, "d.png": 1, "a.png": 2, "c.png": 3, "sub/e.png": 4}
    assert second.facts["changes"] == {"kept": 2, "changed": 0, "new": 3, "gone": 0}
    fresh = made(folder, out="fresh")
    assert content(second) == content(fresh)
    assert second.identity != fresh.identity  # other gids
    assert second.read_table("shards.parquet").equals(fresh.read_table("shards.parquet"))


def test_rows_of_what_stayed_equal_those_of_a_new_index(tmp_path, made):
    folder = folder_of(tmp_path / "in", "a.png", "b.png")
    made(folder)
    folder_of(folder, "c.png")
    assert rows(made(folder)) == rows(made(folder, out="fresh"))  # the new one is the last by name as well


def test_pictures_that_went_keep_their_gid_for_themselves(tmp_path, made):
    folder = folder_of(tmp_path / "in", "a.png", "b.png", "c.png")
    made(folder)
    kept = (folder / "b.png").read_bytes()
    (folder / "b.png").unlink()
    folder_of(folder, "d.png")
    second = made(folder)
    assert [(r["gid"], r["key"], r["status"]) for r in rows(second)] == [
        (0, "a.png", "ok"),
        (1, "b.png", "gone"),
        (2, "c.png", "ok"),
        (3, "d.png", "ok"),
    ]
    assert second.facts["quarantined"] == 0 and second.facts["train"] == 3
    assert second.facts["changes"] == {"kept": 2, "changed": 0, "new": 1, "gone": 1}
    assert ImageTable.from_artifact(second).gids("train").tolist() == [0, 2, 3]
    assert len(second.read_table("shards.parquet")) == 3 == len(content(second))
    (folder / "back.png").write_bytes(kept)  # under another name
    assert gids(made(folder)) == {"a.png": 0, "back.png": 1, "c.png": 2, "d.png": 3}


def test_a_picture_that_was_edited_keeps_its_gid_and_is_read(tmp_path, made, read_files):
    folder = folder_of(tmp_path / "in", "a.png", "b.png")
    first = made(folder)
    (folder / "a.png").write_bytes(encoded(picture(99)))
    second = made(folder)
    assert read_files[2:] == ["a.png"]
    assert gids(second) == gids(first)
    assert second.facts["changes"] == {"kept": 1, "changed": 1, "new": 0, "gone": 0}
    assert rows(second)[0]["crc32"] != rows(first)[0]["crc32"]
    assert content(second) == content(made(folder, out="fresh"))


def test_a_folder_that_moved_is_not_read_again(tmp_path, made, read_files):
    first = made(folder_of(tmp_path / "in", "x/a.png", "y/b.png"))
    shutil.move(tmp_path / "in", tmp_path / "there")
    second = made(tmp_path / "there")
    assert len(read_files) == 2
    assert second.identity == first.identity  # stages after it are taken over
    assert [row["source"] for row in rows(second)] == [
        str(tmp_path / "there" / n) for n in ("x/a.png", "y/b.png")
    ]


def test_a_copy_with_other_times_is_read_and_found_to_be_the_same(tmp_path, made, read_files):
    first = made(folder_of(tmp_path / "in", "a.png", "b.png"))
    shutil.copytree(tmp_path / "in", tmp_path / "copy")
    for path in (tmp_path / "copy").iterdir():
        os.utime(path, (1, 1))
    assert made(tmp_path / "copy").identity == first.identity
    assert len(read_files) == 4


def test_what_moved_and_is_said_to_be_the_same_is_not_read(tmp_path, made, read_files, context_for):
    first = made(folder_of(tmp_path / "in", "x/a.png", "x/b.png", "c.png"))
    shutil.copytree(tmp_path / "in", tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*.png"):
        os.utime(path, (1, 1))
    (tmp_path / "copy" / "c.png").write_bytes(encoded(picture(77, 13, 16)))
    plain = context_for(str(tmp_path / "copy"))
    told = replace(plain.sources, rebase=f"{tmp_path}/in={tmp_path}/copy")
    context = replace(plain, sources=told)
    second = index.run(RECIPE, {}, index.plan(RECIPE, {}, told), context)
    assert read_files[3:] == ["c.png"] and gids(second) == gids(first)


def test_names_that_changed_places_are_told_by_their_content(tmp_path, made):
    folder = folder_of(tmp_path / "in", "a.png", "b.png")
    first = made(folder)
    (folder / "b.png").rename(folder / "z.png")
    folder_of(folder, "c.png")
    second = made(folder)
    assert gids(second) == {"a.png": 0, "z.png": 1, "c.png": 2}
    assert gids(first) == {"a.png": 0, "b.png": 1}


def test_what_did_not_decode_is_tried_again(tmp_path, made, read_files):
    folder = folder_of(tmp_path / "in", "a.png", "b.png")
    (folder / "bad.png").write_bytes(b"junk")
    made(folder)
    folder_of(folder, "c.png")
    made(folder)
    assert read_files[3:] == ["bad.png", "c.png"]


def test_several_at_the_end_that_did_not_decode_are_tried_again(tmp_path, made, read_files):
    """Their numbers are beyond those of all files that are taken over."""
    loose = replace(RECIPE, images=replace(RECIPE.images, max_bad_fraction=1.0))
    folder = folder_of(tmp_path / "in", *(f"{name}.png" for name in "abcdef"))
    for name in ("x", "y", "z"):
        (folder / f"{name}.png").write_bytes(b"junk")
    made(folder, recipe=loose)
    folder_of(folder, "g.png")
    assert set(gids(made(folder, recipe=loose))) == {f"{name}.png" for name in "abcdefg"}
    assert sorted(read_files[9:]) == ["g.png", "x.png", "y.png", "z.png"]


def test_train_rows_come_before_eval_rows_whichever_grew(tmp_path, made):
    train, other = folder_of(tmp_path / "train", "b.png", "c.png"), folder_of(tmp_path / "eval", "d.png")
    made(train, other)
    folder_of(train, "a.png")
    folder_of(other, "a.png")
    second = made(train, other)
    assert [(r["gid"], r["split"], r["key"]) for r in rows(second)] == [
        (0, "train", "b.png"),
        (1, "train", "c.png"),
        (2, "train", "a.png"),
        (3, "eval", "d.png"),
        (4, "eval", "a.png"),
    ]


def test_another_folder_or_another_setting_begins_anew(tmp_path, made, read_files):
    folder = folder_of(tmp_path / "in", "b.png", "c.png")
    made(folder)
    folder_of(folder, "a.png")
    smaller = replace(RECIPE, images=replace(RECIPE.images, max_pixels=1_000_000))
    assert gids(made(folder, recipe=smaller)) == {"a.png": 0, "b.png": 1, "c.png": 2}
    assert len(read_files) == 2 + 3
    assert gids(made(folder_of(tmp_path / "other", "p.png"))) == {"p.png": 0}


def zipped(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, encoded(picture(hash_of(name))))


def tarred(path, names):
    path.write_bytes(make_tar([(name, encoded(picture(hash_of(name)))) for name in names]))


def in_parquet(path, names):
    cells = [{"bytes": encoded(picture(hash_of(name))), "path": name} for name in names]
    told = [name.upper() for name in names]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pq.write_table(pa.table({"image": pa.array(cells, kind), "caption": told}), path)


@pytest.mark.parametrize("write, suffix", [(zipped, "zip"), (tarred, "tar"), (in_parquet, "parquet")])
def test_files_of_many_images_are_taken_over_whole(tmp_path, made, write, suffix, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / f"1.{suffix}", ["a.png", "b.png"])
    write(folder / f"3.{suffix}", ["c.png"])
    made(folder)
    write(folder / f"2.{suffix}", ["d.png", "e.png"])
    original, scanned = index.scan_chunk, []
    monkeypatch.setattr(
        index, "scan_chunk", lambda chunk: scanned.append(chunk.entries[0].key) or original(chunk)
    )
    second = made(folder)
    assert scanned == [f"2.{suffix}"]
    assert [gid for _, gid in sorted(gids(second).items())] == [0, 1, 2, 3, 4]
    fresh = made(folder, out="fresh")
    assert content(second) == content(fresh)
    assert second.read_table("shards.parquet").equals(fresh.read_table("shards.parquet"))
    assert {k: second.facts[k] for k in ("train", "cls", "json")} == {
        k: fresh.facts[k] for k in ("train", "cls", "json")
    }
    if suffix == "parquet":
        told = second.read_table("metadata.parquet").to_pylist()
        keys = {row["gid"]: row["key"] for row in rows(second)}
        assert [(row["caption"].lower(), row["gid"]) for row in told] == [(keys[n], n) for n in range(5)]
    before = content(second)
    shutil.move(folder, tmp_path / "there")
    scanned.clear()
    third = made(tmp_path / "there")
    assert not scanned and third.identity == second.identity and content(third) == before
