"""Labels: joined to the right images, or refused, or counted."""

from __future__ import annotations

import json
import tarfile
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayscan.data.labels import from_file
from rayscan.data.packing import write_shards
from rayscan.errors import DataError
from rayscan.recipes import by_name
from rayscan.stages import index, labels
from tests.unit.data.conftest import encoded, make_tar, picture, shared, write_files

RECIPE = by_name("digits")


def indexed(context):
    step = index.plan(RECIPE, {}, context.sources)
    return index.run(RECIPE, {}, step, context)


def labelled(context):
    done = {"index": indexed(context)}
    assert labels.available(done["index"], context.sources)
    return labels.run(RECIPE, done, labels.plan(RECIPE, done, context.sources), context)


def by_key(artifact, context):
    """{(split, key): class} of a labels artifact."""
    images = {row["gid"]: row for row in indexed(context).read_table("images.parquet").to_pylist()}
    classes = artifact.read_json("classes.json")
    rows = artifact.read_table("labels.parquet").to_pylist()
    assert [row["gid"] for row in rows] == sorted(row["gid"] for row in rows)
    return {(images[r["gid"]]["split"], images[r["gid"]]["key"]): classes[r["label"]] for r in rows}


@pytest.fixture
def folder(tmp_path):
    names = ["cats/a.png", "cats/b.png", "dogs/a.png", "dogs/c.png"]
    write_files(tmp_path / "in", {name: encoded(picture(n)) for n, name in enumerate(names)})
    return tmp_path / "in"


def table(*rows):
    """An index by hand: (gid, split, key, source, id, status)."""
    names = ["gid", "split", "key", "source", "id", "status"]
    types = [pa.int64(), *[pa.string()] * 5]
    return pa.table(
        [pa.array(c, t) for c, t in zip(zip(*rows, strict=True), types, strict=True)], names=names
    )


PLAIN = table(
    (0, "train", "k0", "/data/cats/a.jpg", "007", "ok"),
    (1, "train", "k1", "/data/dogs/a.jpg", "8", "ok"),
    (2, "train", "k2", "s3://b/x.tar#dogs/c.jpg", "9", "damaged"),
    (3, "eval", "k0", "/data/dogs/c.jpg", None, "ok"),
)


def joined(tmp_path, text, images=PLAIN):
    (tmp_path / "labels.csv").write_text(text)
    found = from_file(str(tmp_path / "labels.csv"), images)
    return {
        gid: found.classes[label]
        for gid, label in zip(found.gids.tolist(), found.labels.tolist(), strict=True)
    }


def refusal(tmp_path, text, images=PLAIN) -> str:
    with pytest.raises(DataError) as caught:
        joined(tmp_path, text, images)
    return caught.value.text


def test_join_by_id_source_and_key(tmp_path):
    assert joined(tmp_path, "id,label\n8,dog\n007,cat\n") == {0: "cat", 1: "dog"}
    assert joined(tmp_path, "source,label\n/data/cats/a.jpg,cat\ndogs/a.jpg,dog\n") == {0: "cat", 1: "dog"}
    assert joined(tmp_path, "key,label\nk1,5\n") == {1: 5}
    assert joined(tmp_path, "key,id,label\nnonsense,8,dog\n") == {1: "dog"}  # the user's own id comes first


def test_sources_match_by_their_last_parts(tmp_path):
    assert joined(tmp_path, "source,label\n./cats/a.jpg,1\nfile:///data/dogs/a.jpg,2\n") == {0: 1, 1: 2}
    images = table((0, "train", "k", "/a/x.jpg", None, "ok"), (1, "train", "l", "x.jpg", None, "ok"))
    assert joined(tmp_path, "source,label\nx.jpg,7\n", images) == {1: 7}  # whole before tail
    tar = table(
        (0, "train", "k", "s3://b/x.tar#n/c.jpg", None, "ok"),
        (1, "train", "l", "s3://b/y.tar#n/c.jpg", None, "ok"),
    )
    assert joined(tmp_path, "source,label\nx.tar#n/c.jpg,1\ny.tar/n/c.jpg,2\n", tar) == {0: 1, 1: 2}


def test_what_fits_several_images_is_refused(tmp_path):
    text = refusal(tmp_path, "source,label\na.jpg,1\n")
    assert "several images" in text and "a.jpg" in text
    assert "several images" in refusal(tmp_path, "key,label\nk0,1\n")
    assert joined(tmp_path, "key,split,label\nk0,eval,1\nk0,train,2\n") == {0: 2, 3: 1}
    assert "several images" in refusal(tmp_path, "key,split,label\nk0,,1\nk1,train,2\n")


def test_rows_without_image_are_counted_and_quarantine_drops_out(tmp_path):
    (tmp_path / "labels.csv").write_text("source,label\ncats/a.jpg,x\nnowhere.jpg,x\nx.tar/dogs/c.jpg,y\n")
    found = from_file(str(tmp_path / "labels.csv"), PLAIN)
    assert (found.gids.tolist(), found.classes, found.unmatched) == ([0], ("x",), 1)
    assert "no row" in (text := refusal(tmp_path, "source,label\nnowhere.jpg,x\n"))
    assert "nowhere.jpg" in text and "/data/cats/a.jpg" in text


def test_contradictions_and_missing_columns(tmp_path):
    assert "contradict" in refusal(tmp_path, "id,label\n8,dog\n8,cat\n")
    assert joined(tmp_path, "id,label\n8,dog\n8,dog\n") == {1: "dog"}
    assert "a column label" in refusal(tmp_path, "id,class\n8,dog\n")
    assert "id, source, key" in refusal(tmp_path, "name,label\n8,dog\n")
    no_ids = table((0, "train", "k", "s", None, "ok"))
    assert "column id" in refusal(tmp_path, "id,label\n8,dog\n", no_ids)
    assert "cannot be read" in refusal(tmp_path, "id,label\n8,dog,more\n")


def test_classes_are_in_numerical_or_alphabetical_order(tmp_path):
    keys = table(*((n, "train", f"k{n}", "s", None, "ok") for n in range(5)))
    assert joined(tmp_path, "key,label\nk0,10\nk1,9\nk2,9\nk3,-1\nk4,\n", keys) == {0: 10, 1: 9, 2: 9}
    (tmp_path / "labels.csv").write_text("key,label\nk0,10\nk1,9\nk2,100\n")
    assert from_file(str(tmp_path / "labels.csv"), keys).classes == (9, 10, 100)
    (tmp_path / "labels.csv").write_text("key,label\nk0,b\nk1,10\nk2,9\n")
    assert from_file(str(tmp_path / "labels.csv"), keys).classes == ("10", "9", "b")
    assert joined(tmp_path, "key,label\nk0,3.0\nk1,2.\n", keys) == {0: 3, 1: 2}
    assert joined(tmp_path, "key,label,class\nk0,1,dog\nk1,0,cat\n", keys) == {0: "dog", 1: "cat"}
    (tmp_path / "labels.csv").write_text("key,label,class\nk0,1,ant\nk1,0,zebra\n")
    assert from_file(str(tmp_path / "labels.csv"), keys).classes == ("zebra", "ant")
    assert "two names" in refusal(tmp_path, "key,label,class\nk0,1,dog\nk1,1,cat\n", keys)


def test_parquet_with_gaps_and_categories(tmp_path):
    path = tmp_path / "labels.parquet"
    for column, expected in (
        (pa.array([1.0, float("nan"), None, 0.0]), {0: 1, 3: 0}),
        (pa.array([1, 2, None, -1], pa.int8()), {0: 1, 1: 2}),
        (pa.array(["b", "", None, "a"]).dictionary_encode(), {0: "b", 3: "a"}),
    ):
        pq.write_table(pa.table({"key": ["k0", "k1", "k2", "k3"], "label": column}), path)
        keys = table(*((n, "train", f"k{n}", "s", None, "ok") for n in range(4)))
        found = from_file(str(path), keys)
        assert (
            dict(zip(found.gids.tolist(), [found.classes[i] for i in found.labels], strict=True)) == expected
        )


def test_stage_with_a_file(folder, tmp_path, context_for):
    (tmp_path / "labels.csv").write_text(
        "source,label\ncats/a.png,cat\ndogs/a.png,dog\ndogs/c.png,dog\nx.png,dog\n"
    )
    context = context_for(str(folder), labels=str(tmp_path / "labels.csv"))
    artifact = labelled(context)
    assert by_key(artifact, context) == {
        ("train", "cats/a.png"): "cat",
        ("train", "dogs/a.png"): "dog",
        ("train", "dogs/c.png"): "dog",
    }
    assert artifact.facts == {"labelled": 3, "images": 4, "classes": 2, "unmatched": 1}
    assert "3 of 4 images" in context.progress.stream.getvalue()


def test_plan_follows_the_content_of_the_file(folder, tmp_path, context_for):
    path = tmp_path / "labels.csv"
    path.write_text("key,label\ncats/a.png,1\n")
    context = context_for(str(folder), labels=str(path))
    done = {"index": indexed(context)}
    first = labels.plan(RECIPE, done, context.sources).fingerprint
    path.write_text("key,label\ncats/a.png,2\n")
    second = labels.plan(RECIPE, done, context.sources).fingerprint
    path.write_text("key,label\ncats/a.png,1\n")
    assert first == labels.plan(RECIPE, done, context.sources).fingerprint != second


def tar_of(*content):
    return make_tar(
        [m for key, seed, notes in content for m in ((f"{key}.png", encoded(picture(seed))), *notes)]
    )


def test_members_of_the_shards(tmp_path, context_for):
    note = json.dumps({"label": 4, "source": "original/b.png"}).encode()
    write_files(
        tmp_path,
        {
            "t0.tar": tar_of(("a", 0, [("a.cls", b"11\n")]), ("b", 1, [("b.json", note)])),
            "t1.tar": tar_of(("c", 2, [("c.cls", b"4"), ("c.json", b'{"label": 9}')]), ("d", 3, [])),
            "e.tar": tar_of(("a", 4, [("a.cls", b"9")])),
        },
    )
    context = context_for(str(tmp_path / "t*.tar"), str(tmp_path / "e.tar"))
    artifact = labelled(context)
    assert by_key(artifact, context) == {
        ("train", "a"): 11,
        ("train", "b"): 4,
        ("train", "c"): 4,  # .cls before .json
        ("eval", "a"): 9,
    }
    assert artifact.read_json("classes.json") == [4, 9, 11]
    assert artifact.facts["labelled"] == 4 and artifact.facts["images"] == 5


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ([], False),
        ([("a.json", b'{"source": "x"}')], False),
        ([("a.json", b'{"label": true}')], False),
        ([("a.json", b'{"label": "cat"}')], True),
        ([("a.cls", b"1")], True),
    ],
)
def test_available_without_a_file(tmp_path, context_for, notes, expected):
    write_files(tmp_path, {"t.tar": tar_of(("a", 0, notes))})
    context = context_for(str(tmp_path / "t.tar"))
    assert labels.available(indexed(context), context.sources) is expected


def test_folders_have_no_labels_of_their_own(folder, context_for):
    context = context_for(str(folder))
    assert not labels.available(indexed(context), context.sources)


def test_labels_written_by_the_shard_writer_come_back(folder, tmp_path, context_for):
    summary = write_shards(str(folder), str(tmp_path / "shards"), labels_from_folders=True)
    context = context_for(str(tmp_path / "shards"), labels=summary.labels)
    assert set(by_key(labelled(context), context).values()) == {"cats", "dogs"}
    assert by_key(labelled(context), context)["train", "dogs/c"] == "dogs"


def test_shards_whose_labels_are_all_empty_stop(tmp_path, context_for):
    write_files(tmp_path, {"t.tar": tar_of(("a", 0, [("a.cls", b"  ")]))})
    with pytest.raises(DataError, match="hold no labels"):
        labelled(context_for(str(tmp_path / "t.tar")))


def test_real_labels_equal_the_members(context_for):
    path = shared("imagenet-sample") / "imagenet-sample-000004.tar"
    with tarfile.open(path) as tar:
        truth = {i.name[:-4]: int(tar.extractfile(i).read()) for i in tar if i.name.endswith(".cls")}
    context = context_for(str(path))
    found = {key: label for (_, key), label in by_key(labelled(context), context).items()}
    assert found == truth and len(found) == 100 and len(Counter(found.values())) > 50


def test_labels_inside_shards_find_images_whose_keys_repeat_across_shards(tmp_path, context_for):
    for number, (first, second) in enumerate((("3", "5"), ("5", "7"))):
        members = [("0.png", encoded(picture(2 * number))), ("0.cls", first.encode())]
        members += [("1.png", encoded(picture(2 * number + 1))), ("1.cls", second.encode())]
        write_files(tmp_path / "set", {f"{number:05d}.tar": make_tar(members)})
    context = context_for(str(tmp_path / "set"))
    assert by_key(labelled(context), context) == {
        ("train", "00000/0"): 3,
        ("train", "00000/1"): 5,
        ("train", "00001/0"): 5,
        ("train", "00001/1"): 7,
    }
