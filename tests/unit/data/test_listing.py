"""What the user may pass as --data, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayscan.data.addresses import common_folder, expand_braces, split_commas
from rayscan.data.listing import list_sources
from rayscan.errors import DataError
from rayscan.storage import Place, locate
from tests.unit.data.conftest import shared, write_files


def keys(data):
    return [entry.key for entry in list_sources(str(data)).entries]


def refusal(data) -> str:
    with pytest.raises(DataError) as caught:
        list_sources(str(data))
    return caught.value.text


def test_braces_expand_as_in_a_shell():
    assert expand_braces("a-{008..011}.tar") == ["a-008.tar", "a-009.tar", "a-010.tar", "a-011.tar"]
    assert expand_braces("{9..11}") == ["10", "11", "9"]
    assert expand_braces("x{a,b{1..2}}y") == ["xay", "xb1y", "xb2y"]
    assert expand_braces("{a,b}-{0..1}") == ["a-0", "a-1", "b-0", "b-1"]
    assert expand_braces("plain") == ["plain"] and expand_braces("open{") == ["open{"]
    assert expand_braces("{5..2}") == ["2", "3", "4", "5"] and expand_braces("{a}") == ["{a}"]
    assert expand_braces("x{,-2}.tar") == ["x-2.tar", "x.tar"]
    for wrong in ("{0..99999999}", "{0..999}{0..999}{0..9}", "{a,{0..99999999}}"):
        with pytest.raises(DataError):
            expand_braces(wrong)


def test_commas_inside_braces_do_not_split():
    assert split_commas("a-{1,2}.tar, b.tar,,c/{x,{y,z}}.tar") == ["a-{1,2}.tar", "b.tar", "c/{x,{y,z}}.tar"]


def test_common_folder_is_made_of_whole_names():
    assert common_folder(["/data/cats", "/data/cars"]) == "/data"
    assert common_folder(["s3://b/x?region=r", "s3://b/x/y?region=r"]) == "s3://b/x"


@pytest.fixture
def shards(tmp_path):
    names = [f"train-{n:06d}.tar" for n in range(4)] + [
        "test-0.tar",
        "deep/x/train-000000.tar",
        "notes.txt.bak",
    ]
    write_files(tmp_path, {name: name.encode() for name in names})
    return tmp_path


def test_patterns_of_shards(shards):
    train = [f"train-{n:06d}.tar" for n in range(4)]
    assert keys(shards / "train-*.tar") == train
    assert keys(shards / "train-{000000..000003}.tar") == train
    assert keys(shards / "train-00000[12].tar") == train[1:3]
    assert keys(shards / "train-00000?.tar") == train
    assert keys(f"{shards}/test-*.tar,{shards}/train-000001.tar") == ["test-0.tar", "train-000001.tar"]
    assert keys(f"{shards}/*.tar,{shards}/train-000001.tar") == [
        "test-0.tar",
        *train,
    ]  # named twice, there once
    assert keys(shards / "**" / "train-000000.tar") == ["deep/x/train-000000.tar", "train-000000.tar"]
    assert keys(shards / "*" / "*" / "*.tar") == [
        "deep/x/train-000000.tar"
    ]  # keys begin at the first wildcard
    listing = list_sources(str(shards / "train-000002.tar"))
    (entry,) = listing.entries
    assert listing.format.name == "shards" and entry.key == "train-000002.tar"
    assert entry.size == len(b"train-000002.tar") == listing.size
    assert entry.mtime_ns == (shards / "train-000002.tar").stat().st_mtime_ns
    assert entry.uri == str(shards / "train-000002.tar")


def test_relative_paths_and_the_current_folder(shards, monkeypatch):
    monkeypatch.chdir(shards)
    assert keys("train-*.tar") == [f"train-{n:06d}.tar" for n in range(4)]
    assert list_sources("./test-0.tar").entries[0].uri == str(shards / "test-0.tar")
    assert keys(f"file://{shards}/test-*.tar") == ["test-0.tar"]


def test_folder_of_images_nested_flat_any_case(tmp_path):
    names = [
        "b.JPG",
        "a.jpeg",
        "cats/c.Png",
        "cats/old/d.webp",
        "dogs/e.tif",
        "f.gif",
        "g.bmp",
        "odd [1], {2}.tiff",
    ]
    ignored = ["readme.md", ".hidden.jpg", ".thumbs/x.jpg", "jpg"]
    write_files(tmp_path, dict.fromkeys(names + ignored, b"x"))
    listing = list_sources(str(tmp_path))
    assert listing.format.name == "files"
    assert [entry.key for entry in listing.entries] == sorted(names)
    assert keys(tmp_path / "cats") == ["c.Png", "old/d.webp"]
    assert keys(f"{tmp_path}/cats,{tmp_path}/dogs") == ["cats/c.Png", "cats/old/d.webp", "dogs/e.tif"]
    assert keys(f"{tmp_path}/{{cats,dogs}}") == ["cats/c.Png", "cats/old/d.webp", "dogs/e.tif"]
    assert keys(tmp_path / "odd [1], {2}.tiff") == [
        "odd [1], {2}.tiff"
    ]  # what exists is a name, not a pattern


def test_keys_stay_when_the_folder_moves_and_the_fingerprint_does_not(tmp_path):
    write_files(tmp_path / "one", {"cats/a.jpg": b"1", "b.jpg": b"22"})
    first = list_sources(str(tmp_path / "one"))
    (tmp_path / "one").rename(tmp_path / "two")
    second = list_sources(str(tmp_path / "two"))
    assert [e.key for e in first.entries] == [e.key for e in second.entries] == ["b.jpg", "cats/a.jpg"]
    assert first.fingerprint != second.fingerprint
    assert second.fingerprint == list_sources(str(tmp_path / "two")).fingerprint
    os.utime(tmp_path / "two" / "b.jpg", ns=(1, 1))
    third = list_sources(str(tmp_path / "two")).fingerprint
    (tmp_path / "two" / "b.jpg").write_bytes(b"333")
    os.utime(tmp_path / "two" / "b.jpg", ns=(1, 1))
    assert len({second.fingerprint, third, list_sources(str(tmp_path / "two")).fingerprint}) == 3


def test_links_are_followed_once_and_loops_end(tmp_path):
    write_files(tmp_path, {"data/real/a.jpg": b"1", "elsewhere/b.jpg": b"2"})
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "real" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    listing = list_sources(str(tmp_path / "data"))
    assert [(e.key, e.size) for e in listing.entries] == [
        ("gone.jpg", -1),
        ("link/b.jpg", 1),
        ("real/a.jpg", 1),
    ]


def test_names_that_are_not_utf8_are_named_and_the_rest_is_read(tmp_path):
    write_files(tmp_path, {"a.jpg": b"x"})
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.jpg")).touch()
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    listing = list_sources(str(tmp_path))
    assert [(e.key, e.size) for e in listing.entries] == [("a.jpg", 1), ("self.jpg", -1)]
    (line,) = listing.left_out.lines()
    assert "bad\\xff.jpg" in line


@pytest.mark.parametrize("kind", ["csv", "parquet", "txt"])
def test_lists_with_relative_paths_and_ids(tmp_path, kind):
    write_files(tmp_path, {"pics/b.jpg": b"bb", "pics/a.jpg": b"a", "other/no_extension": b"ccc"})
    names = ["pics/b.jpg", str(tmp_path / "pics/a.jpg"), "other/no_extension", "pics/gone.jpg"]
    path = tmp_path / f"list.{kind}"
    if kind == "csv":
        rows = [f"{name},00{n},dog" for n, name in enumerate(names)]
        path.write_text("\n".join(["path,id,label", *rows]))
    elif kind == "txt":
        path.write_text("\n\n".join(names) + "\n")
    else:
        pq.write_table(pa.table({"uri": names, "id": ["000", "001", "002", "003"]}), path)
    listing = list_sources(str(path))
    assert listing.format.name == "files"
    assert [(e.key, e.size) for e in listing.entries] == [
        ("other/no_extension", 3),
        ("pics/a.jpg", 1),
        ("pics/b.jpg", 2),
        ("pics/gone.jpg", -1),
    ]
    expected = [None] * 4 if kind == "txt" else ["002", "001", "000", "003"]
    assert [e.id for e in listing.entries] == expected


def test_a_list_may_name_shards(shards):
    (shards / "list.txt").write_text("train-000001.tar\ntrain-000000.tar\n")
    listing = list_sources(str(shards / "list.txt"))
    assert (listing.format.name, [e.key for e in listing.entries]) == (
        "shards",
        ["train-000000.tar", "train-000001.tar"],
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\na.jpg\na.jpg\n", "twice"),
        ("path,id\n,3\n", "empty row"),
        ("file,id\na.jpg,3\n", "uri, path or file_name"),
        ("path\nhttps://example.org/a.jpg\n", "web addresses"),
        ("path\npipe:cat a.jpg\n", "commands"),
        ("path\na.jpg,b,c\n", "cannot be read"),
    ],
)
def test_wrong_lists_say_what_is_wrong(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    assert message in refusal(tmp_path / "list.csv")


@pytest.mark.parametrize(
    "text",
    [
        "pipe:cat x.tar",
        " pipe:cat x.tar",
        "cat x.tar | head",
        "$(ls).tar",
        "`ls`.tar",
        "exec:run",
        "a.tar,pipe:b",
        "|cat",
    ],
)
def test_commands_are_refused_and_never_run(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    assert "command" in refusal(text).partition("\n")[0]


@pytest.mark.parametrize(
    "text", ["http://example.org/a.tar", "HTTPS://example.org/{0..3}.tar", "ftp://example.org/a"]
)
def test_web_addresses_are_refused_without_a_connection(text):
    assert "web addresses" in refusal(text).partition("\n")[0]


def test_refusals_name_what_is_there(shards):
    assert "test-0.tar" in refusal(shards / "tain-*.tar")
    assert "train-000000.tar" in refusal(shards / "no" / "such" / "folder" / "*.tar")
    missing = refusal(shards / "train-{000002..000006}.tar")
    assert "3 not there" in missing and "train-000004.tar" in missing
    assert "no path" in refusal("") and "no path" in refusal("a\0b")


def test_mixed_and_unusable_content_is_refused(shards):
    (shards / "a.jpg").write_bytes(b"x")
    assert "4 shards" not in (text := refusal(shards)) and "6 shards and 1 files" in text
    (shards / "only").mkdir()
    assert "no images" in refusal(shards / "only")
    (shards / "only" / "movie.mp4").write_bytes(b"x")
    assert "movie.mp4" in refusal(shards / "only")
    (shards / "only" / "train.tar.gz").write_bytes(b"x")
    assert "compressed" in refusal(shards / "only")


def put(uri, data):
    filesystem, path = locate(uri)
    with filesystem.open_output_stream(path) as stream:
        stream.write(data)


def test_object_store(s3_uri):
    place = Place(s3_uri).child("listing")
    for name in ("a-0.tar", "a-1.tar", "b.tar", "pics/x y.JPG", "pics/.hidden/z.jpg", "pics/deep/w.png"):
        put(place.uri_of(name), name.encode())
    for name, expected in [
        ("a-*.tar", ["a-0.tar", "a-1.tar"]),
        ("a-{0..1}.tar", ["a-0.tar", "a-1.tar"]),
        ("*/deep/*.png", ["pics/deep/w.png"]),
        ("pics", ["deep/w.png", "x y.JPG"]),
    ]:
        listing = list_sources(place.uri_of(name))
        assert [e.key for e in listing.entries] == expected
        assert all(e.uri.startswith("s3://bucket/") and "?" in e.uri for e in listing.entries)
        assert all(e.size > 0 and e.mtime_ns > 0 for e in listing.entries)
    put(place.uri_of("list.csv"), b"uri,id\npics/x y.JPG,7\n")
    (entry,) = list_sources(place.uri_of("list.csv")).entries
    assert (entry.key, entry.id, entry.size) == ("x y.JPG", "7", len("pics/x y.JPG"))
    assert "a-0.tar" in refusal(place.uri_of("zz-*.tar"))
    assert "1 not there" in refusal(place.uri_of("a-{0..2}.tar"))


def test_other_filesystems_through_fsspec():
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe({"/listing-test/a.jpg": b"1", "/listing-test/b/c.png": b"22"})
    listing = list_sources("memory://listing-test")
    assert [(e.uri, e.key, e.size) for e in listing.entries] == [
        ("memory://listing-test/a.jpg", "a.jpg", 1),
        ("memory://listing-test/b/c.png", "b/c.png", 2),
    ]


def test_real_shards():
    folder = shared("cifar10")
    assert len(list_sources(f"{folder}/cifar10-train-{{000000..000009}}.tar").entries) == 10
    assert len(list_sources(f"{folder}/cifar10-test-*.tar").entries) == 2
