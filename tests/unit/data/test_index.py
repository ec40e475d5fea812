"""The index stage: every image once, in a fixed order, and the run stops where images could be lost."""

from __future__ import annotations

import hashlib
import os
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from rayscan.artifacts import find
from rayscan.data import listing
from rayscan.data.reader import Reader
from rayscan.data.sources import files
from rayscan.data.table import ImageTable
from rayscan.errors import DataError
from rayscan.recipes import by_name
from rayscan.stages import index
from tests.unit.data.conftest import encoded, make_tar, picture, samples, shared, write_files

RECIPE = by_name("digits")


def made(context, recipe=RECIPE):
    step = index.plan(recipe, {}, context.sources)
    return index.run(recipe, {}, step, context)


def rows(artifact):
    return artifact.read_table("images.parquet").to_pylist()


def with_limits(**limits):
    return replace(RECIPE, images=replace(RECIPE.images, **limits))


@pytest.fixture
def tars(tmp_path):
    write_files(
        tmp_path / "data",
        {
            "train-0.tar": make_tar(
                [m for n in range(3) for m in ((f"b{n}.png", encoded(picture(n))), (f"b{n}.cls", b"1"))]
            ),
            "train-1.tar": make_tar([("a.png", encoded(picture(7))), ("bad.png", b"junk")]),
            "eval.tar": make_tar([("b0.png", encoded(picture(9))), ("e.png", encoded(picture(10)))]),
        },
    )
    return tmp_path / "data"


def test_rows_are_train_then_eval_in_the_order_of_the_listing(tars, context_for):
    artifact = made(context_for(str(tars / "train-*.tar"), str(tars / "eval.tar")))
    table = rows(artifact)
    assert [row["gid"] for row in table] == list(range(7))
    assert [(row["split"], row["shard"], row["key"]) for row in table] == [
        ("train", 0, "b0"),
        ("train", 0, "b1"),
        ("train", 0, "b2"),
        ("train", 1, "a"),
        ("train", 1, "bad"),
        ("eval", 2, "b0"),
        ("eval", 2, "e"),
    ]
    assert artifact.facts == {"train": 4, "eval": 2, "quarantined": 1, "cls": 3, "json": 0, "imageless": 0}
    for row in table:
        uri = [tars / "train-0.tar", tars / "train-1.tar", tars / "eval.tar"][row["shard"]]
        data = uri.read_bytes()[row["offset"] : row["offset"] + row["length"]]
        assert zlib.crc32(data) == row["crc32"]
        assert row["source"] == f"{uri}#{row['key']}.png"
    assert artifact.read_table("quarantine.parquet").to_pylist() == [
        {"gid": 4, "key": "bad", "source": f"{tars / 'train-1.tar'}#bad.png", "reason": "format"}
    ]
    shards = artifact.read_table("shards.parquet").to_pylist()
    assert [(s["shard"], s["count"]) for s in shards] == [(0, 3), (1, 2), (2, 2)]
    for shard in shards:
        data = Path(shard["uri"]).read_bytes()
        assert (shard["bytes"], shard["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_single_files_in_chunks(tmp_path, context_for, monkeypatch):
    monkeypatch.setattr(listing, "FILES_PER_TASK", 4)
    names = [f"class {n % 3}/p{n:02d}.jpg" for n in range(10)]
    write_files(tmp_path / "in", {name: encoded(picture(n), "JPEG") for n, name in enumerate(names)})
    context = context_for(str(tmp_path / "in"))
    artifact = made(context)
    assert context.fleet.calls == 3
    table = rows(artifact)
    assert [row["key"] for row in table] == sorted(names)
    assert [row["shard"] for row in table] == list(range(10)) and {row["offset"] for row in table} == {0}
    assert [row["source"] for row in table] == [str(tmp_path / "in" / name) for name in sorted(names)]
    shards = artifact.read_table("shards.parquet").to_pylist()
    assert [s["uri"] for s in shards] == [row["source"] for row in table]
    assert {(s["count"], s["sha256"]) for s in shards} == {(1, "")}
    pictures = Reader(ImageTable.from_artifact(artifact)).images([9, 0], threads=2)
    assert [p.shape for p in pictures] == [(12, 16, 3)] * 2


def test_lists_carry_ids_and_missing_files_are_quarantined(tmp_path, context_for):
    write_files(tmp_path, {"a.png": encoded(picture(0)), "b.png": encoded(picture(1))})
    (tmp_path / "list.csv").write_text("path,id\nb.png,0042\ngone.png,7\na.png,x\n")
    table = rows(made(context_for(str(tmp_path / "list.csv"))))
    assert [(row["key"], row["id"], row["status"]) for row in table] == [
        ("a.png", "x", "ok"),
        ("b.png", "0042", "ok"),
        ("gone.png", "7", "missing"),
    ]
    assert table[2]["length"] == 0 and table[2]["crc32"] == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_files_are_quarantined(tmp_path, context_for):
    write_files(tmp_path / "in", {"a.png": encoded(picture(0)), "b.png": encoded(picture(1))})
    (tmp_path / "in" / "b.png").chmod(0)
    assert [row["status"] for row in rows(made(context_for(str(tmp_path / "in"))))] == ["ok", "unreadable"]


def test_identity_is_the_content_not_the_place(tmp_path, context_for):
    write_files(tmp_path / "one", {f"{n}.bmp": encoded(picture(n), "BMP") for n in range(3)})
    first = made(context_for(str(tmp_path / "one")))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    second = made(context_for(str(tmp_path / "two")))
    assert first.identity == second.identity
    assert first.manifest["fingerprint"] != second.manifest["fingerprint"]
    (tmp_path / "two" / "2.bmp").write_bytes(encoded(picture(50), "BMP"))  # of the same length
    third = made(context_for(str(tmp_path / "two")))
    (tmp_path / "two" / "2.bmp").rename(tmp_path / "two" / "3.bmp")
    fourth = made(context_for(str(tmp_path / "two")))
    as_eval = made(context_for(None, str(tmp_path / "one")))
    assert len({a.identity for a in (first, third, fourth, as_eval)}) == 4


def test_labels_inside_shards_change_nothing_downstream(tmp_path, context_for):
    plain, labelled = (
        samples(0, 3),
        [m for n, s in enumerate(samples(0, 3)) for m in (s, (f"img{n:03d}.cls", b"5"))],
    )
    write_files(tmp_path, {"a/x.tar": make_tar(plain), "b/x.tar": make_tar(labelled)})
    first, second = (made(context_for(str(tmp_path / name / "x.tar"))) for name in "ab")
    assert first.identity == second.identity and second.facts["cls"] == 3


def test_no_two_columns_hash_alike():
    import pyarrow as pa

    def identity(keys, lengths=(1, 2), chunks=False):
        count = len(keys)
        table = pa.table(
            {
                "split": ["train"] * count,
                "key": keys,
                "length": pa.array(lengths[:count], pa.int64()),
                "crc32": pa.array([1] * count, pa.uint32()),
                "status": ["ok"] * count,
            }
        )
        return index.content_identity(
            pa.concat_tables([table.slice(0, 1), table.slice(1)]) if chunks else table
        )

    assert identity(["a", "bc"]) == identity(["a", "bc"], chunks=True)
    variants = [["a", "bc"], ["ab", "c"], ["bc", "a"], ["", "abc"], ["abc", ""], ["a", "b\u00fc"]]
    assert len({identity(keys) for keys in variants} | {identity(["a", "bc"], (2, 1))}) == 7


def test_keys_that_repeat_across_shards_begin_with_the_name_of_their_shard(tars, context_for):
    (tars / "more").mkdir()
    shutil.copy(tars / "eval.tar", tars / "more" / "train-2.tar")
    artifact = made(context_for(f"{tars}/train-*.tar,{tars}/more/*.tar", str(tars / "eval.tar")))
    keys = [
        "more/train-2/b0",
        "more/train-2/e",
        *(f"train-0/b{n}" for n in range(3)),
        "train-1/a",
        "train-1/bad",
    ]
    assert [(row["split"], row["key"]) for row in rows(artifact)] == [
        *(("train", key) for key in keys),
        ("eval", "b0"),  # no key of this split is in two shards
        ("eval", "e"),
    ]
    assert artifact.facts["keys_by_shard"] == {"train": str(tars)}


def test_keys_that_do_not_repeat_stay_as_they_are(tars, context_for):
    artifact = made(context_for(str(tars / "train-[01].tar"), str(tars / "eval.tar")))  # b0 is in both splits
    assert [row["key"] for row in rows(artifact)] == ["b0", "b1", "b2", "a", "bad", "b0", "e"]
    assert "keys_by_shard" not in artifact.facts


def test_damaged_shards_stop_the_run(tars, context_for):
    data = (tars / "train-0.tar").read_bytes()
    (tars / "train-0.tar").write_bytes(data[: len(data) - 10240 + 512])
    with pytest.raises(DataError, match="damaged"):
        made(context_for(str(tars / "train-*.tar")))


def pictures_and_junk(folder, good, bad):
    write_files(folder, {f"{n:03d}.png": encoded(picture(n)) for n in range(good)})
    write_files(folder, {f"x{n}.png": b"junk" if n % 2 else b"" for n in range(bad)})


def test_too_many_bad_images_stop_with_reasons_and_one_never_does(tmp_path, context_for):
    pictures_and_junk(tmp_path / "in", 9, 1)
    assert made(context_for(str(tmp_path / "in"))).facts["quarantined"] == 1
    pictures_and_junk(tmp_path / "in", 9, 3)
    with pytest.raises(DataError, match="too many") as caught:
        made(context_for(str(tmp_path / "in")))
    assert "2 empty, 1 format" in caught.value.text and str(tmp_path / "in" / "x1.png") in caught.value.text
    assert (
        made(context_for(str(tmp_path / "in")), with_limits(max_bad_fraction=0.25)).facts["quarantined"] == 3
    )
    with pytest.raises(DataError, match="too many"):
        made(context_for(str(tmp_path / "in"), out="again"), with_limits(max_bad_fraction=0.24))


def test_a_split_without_usable_images_stops(tmp_path, context_for):
    pictures_and_junk(tmp_path / "good", 2, 0)
    pictures_and_junk(tmp_path / "bad", 0, 1)
    with pytest.raises(DataError, match="eval split has no usable image"):
        made(context_for(str(tmp_path / "good"), str(tmp_path / "bad")))
    with pytest.raises(DataError, match="no data"):
        made(context_for(None))


def test_work_of_a_stopped_attempt_is_taken_over(tmp_path, context_for, monkeypatch):
    monkeypatch.setattr(listing, "FILES_PER_TASK", 2)
    pictures_and_junk(tmp_path / "in", 10, 0)
    context = context_for(str(tmp_path / "in"))
    original, seen = files.inspected, []

    def stops(data, **limits):
        seen.append(data)
        if len(seen) == 6:
            raise KeyboardInterrupt
        return original(data, **limits)

    monkeypatch.setattr(files, "inspected", stops)
    with pytest.raises(KeyboardInterrupt):
        made(context)
    artifact = made(context)
    assert len(seen) == 6 + 6  # two of five chunks were finished, the third was half done
    monkeypatch.setattr(files, "inspected", original)
    untouched = made(context_for(str(tmp_path / "in"), out="other"))
    assert artifact.identity == untouched.identity
    assert artifact.read("images.parquet") == untouched.read("images.parquet")
    left = [path.name for path in Path(artifact.place.uri).glob("*/*")]
    assert sorted(left) == ["images.parquet", "quarantine.parquet", "shards.parquet"]


def test_a_second_plan_finds_the_result_and_a_change_does_not(tars, context_for):
    context = context_for(str(tars / "train-*.tar"))
    artifact = made(context)
    step = index.plan(RECIPE, {}, context.sources)
    assert find(context.out.child(step.directory), step).identity == artifact.identity
    assert index.plan(with_limits(max_bad_fraction=0.5), {}, context.sources).fingerprint == step.fingerprint
    assert index.plan(with_limits(max_pixels=99), {}, context.sources).fingerprint != step.fingerprint
    os.utime(tars / "train-0.tar", (1, 1))
    assert index.plan(RECIPE, {}, context.sources).fingerprint != step.fingerprint


def test_data_that_changes_between_plan_and_run_stops(tars, context_for):
    context = context_for(str(tars / "train-*.tar"))
    step = index.plan(RECIPE, {}, context.sources)
    shutil.copy(tars / "eval.tar", tars / "train-9.tar")
    with pytest.raises(DataError, match="changes while"):
        index.run(RECIPE, {}, step, context)


def test_large_pictures_are_quarantined_by_the_limit_of_the_recipe(tmp_path, context_for):
    write_files(tmp_path / "in", {"a.png": encoded(picture(0)), "b.png": encoded(picture(0, 20, 20))})
    table = rows(made(context_for(str(tmp_path / "in")), with_limits(max_pixels=200)))
    assert [row["status"] for row in table] == ["ok", "too-many-pixels"]


def test_real_photographs(context_for):
    folder = shared("imagenet-sample")
    artifact = made(
        context_for(f"{folder}/imagenet-sample-00000{{0..2}}.tar", f"{folder}/imagenet-sample-000003.tar")
    )
    assert artifact.facts == {
        "train": 300,
        "eval": 100,
        "quarantined": 0,
        "cls": 400,
        "json": 0,
        "imageless": 0,
    }
    table = ImageTable.from_artifact(artifact)
    pixels = Reader(table).images([0, 399])
    assert [p.shape[:2] for p in pixels] == [(table.height[g], table.width[g]) for g in (0, 399)]


def test_stop_ends_at_the_first_bad_image_and_skip_keeps_every_number(tmp_path, context_for):
    files = {f"{n}.png": encoded(picture(n)) for n in range(5)}
    write_files(tmp_path / "data", files)
    whole = rows(made(context_for(str(tmp_path / "data"), out="whole")))
    write_files(tmp_path / "data", {"2.png": b"junk"})
    with pytest.raises(DataError, match="expected: none"):
        made(context_for(str(tmp_path / "data"), out="stop"), with_limits(on_bad="stop"))
    artifact = made(context_for(str(tmp_path / "data"), out="skip"), with_limits(on_bad="skip"))
    skipped = rows(artifact)
    assert [(r["gid"], r["key"]) for r in skipped] == [(r["gid"], r["key"]) for r in whole]
    assert [r["status"] for r in skipped] == ["ok", "ok", "format", "ok", "ok"]
    assert ImageTable.from_artifact(artifact).gids("train").tolist() == [0, 1, 3, 4]
