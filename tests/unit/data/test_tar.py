"""Tars: every image is found where it lies, and nothing that could lose one passes."""

from __future__ import annotations

import hashlib
import io
import json
import random
import subprocess
import tarfile
import zlib

import pytest
import webdataset

from rayscan.data.sequential import SequentialFile
from rayscan.data.sources.tar import scan_tar
from rayscan.data.tar_members import Member
from rayscan.errors import DataError
from rayscan.storage import locate
from tests.unit.data.conftest import LIMIT, encoded, make_tar, picture, refusal, samples, scan, shared


def test_offsets_lengths_and_checksums_point_at_the_images(tar):
    content = samples(0, 4)
    data = make_tar([m for n, m in enumerate(content) for m in (m, (f"img{n:03d}.cls", b"7"))])
    found = scan(tar(data))
    assert found.size == len(data) and found.sha256 == hashlib.sha256(data).hexdigest()
    assert found.members == {"cls": 4, "json": 0, "other": 0, "imageless": 0}
    rows = found.table.to_pylist()
    assert [row["key"] for row in rows] == ["img000", "img001", "img002", "img003"]
    for row, (name, image) in zip(rows, content, strict=True):
        assert data[row["offset"] : row["offset"] + row["length"]] == image
        assert row["crc32"] == zlib.crc32(image)
        assert (row["width"], row["height"], row["status"], row["id"]) == (16, 12, "ok", None)
        assert row["source"].endswith(f"shard.tar#{name}")


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_in_every_tar_format(tar, tar_format):
    folder = "d" * 90
    names = [f"{folder}/{'k' * 60}.png", "a.b/c.png", "umlaut-\u00fc.png", "short.png"]
    if tar_format != tarfile.USTAR_FORMAT:
        names.append(f"{'x' * 150}/{'y' * 140}.png")
    data = make_tar([(name, encoded(picture(n))) for n, name in enumerate(names)], tar_format)
    found = scan(tar(data)).table
    assert found["key"].to_pylist() == [name[: -len(".png")] for name in names]
    with tarfile.open(fileobj=io.BytesIO(data)) as reference:
        assert found["offset"].to_pylist() == [info.offset_data for info in reference]


def test_tars_of_the_system_tar_program(tmp_path):
    for n in range(3):
        (tmp_path / f"s{n}.png").write_bytes(encoded(picture(n)))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "s3.jpg").write_bytes(encoded(picture(3), "JPEG"))
    (tmp_path / "link.png").symlink_to("s0.png")
    for form in ("gnu", "posix", "v7"):
        path = tmp_path / f"{form}.tar"
        command = [
            "tar",
            f"--format={form}",
            "-cf",
            path,
            "-C",
            tmp_path,
            "s0.png",
            "s1.png",
            "folder",
            "link.png",
        ]
        subprocess.run(command, check=True)
        assert scan(str(path)).table["key"].to_pylist() == ["s0", "s1", "folder/s3", "link"]


def test_keys_are_those_of_webdataset(tar):
    names = ["a.png", "b.c/d.jpg", "B.JPG", "e.seg.png", ".hidden.png", "noextension", "__meta__/z.png"]
    names += ["__m__", "f.webp", "g/h.txt", "i.pyd", "j.JPeG"]
    data = make_tar([(name, encoded(picture(n))) for n, name in enumerate(names)])
    path = tar(data)
    theirs = [s["__key__"] for s in webdataset.WebDataset(path, shardshuffle=False, nodesplitter=None)]
    ours = [Member(name, 0, 0).key_and_extension for name in names]
    assert [named[0] for named in ours if named is not None] == theirs
    assert scan(path).table["key"].to_pylist() == ["a", "b.c/d", "B", "e", "f", "j"]
    assert (
        Member("x/._a.jpg", 0, 0).key_and_extension is None
    )  # a Mac's shadow file, for webdataset a sample "x/"


def test_source_comes_from_the_note_beside_the_image(tar):
    image = encoded(picture(0))
    notes = {
        "a": json.dumps({"source": "cats/a b.jpg", "crc32": zlib.crc32(image)}).encode(),
        "b": b"no json",
        "c": b'{"source": 7}',
        "d": b"[1]",
        "e": b"[" * 100_000,
        "f": json.dumps({"source": "\ud800"}).encode(),
        "g": b'{"source": "cc12m"}',
        "h": b'{"source": "cc12m", "label": 1.0, "crc32": 7}',
        "i": b'{"source": "cc12m", "crc32": null}',
    }
    data = make_tar(
        [m for key, note in notes.items() for m in ((f"{key}.json", note), (f"{key}.png", image))]
    )
    found = scan(tar(data))
    sources = found.table["source"].to_pylist()
    assert sources[0] == "cats/a b.jpg"
    assert [s.rpartition("#")[2] for s in sources[1:]] == [f"{key}.png" for key in "bcdefghi"]
    assert set(found.table["status"].to_pylist()) == {"ok"}
    assert found.members["json"] == 9 and found.table.num_rows == 9


def test_only_images_and_notes_are_opened(tar, monkeypatch):
    content = [
        ("a.png", encoded(picture(0))),
        ("a.pyd", b"\x80\x04payload"),
        ("a.pth", b"x"),
        ("a.txt", b"caption"),
    ]
    read = []
    original = SequentialFile.read
    monkeypatch.setattr(SequentialFile, "read", lambda self, n: read.append(original(self, n)) or read[-1])
    found = scan(tar(make_tar(content)))
    assert found.members == {"cls": 0, "json": 0, "other": 2, "*.pyd": 1, "*.pth": 1, "imageless": 0}
    assert found.metadata.to_pydict() == {"txt": ["caption"]}
    assert content[0][1] in read and not any(data in (b"\x80\x04payload", b"x") for data in read)


def test_bad_images_get_a_reason_and_the_others_stay(tar):
    png = encoded(picture(0))
    found = scan(
        tar(
            make_tar(
                [("a.png", png), ("b.png", png[:50]), ("c.jpg", b""), ("d.gif", b"text"), ("e.png", png)]
            )
        )
    )
    assert found.table["status"].to_pylist() == ["ok", "damaged", "empty", "format", "ok"]
    assert found.table["width"].to_pylist() == [16, 0, 0, 0, 16]


def test_a_cut_at_any_block_is_found(tar):
    data = make_tar([m for n in range(3) for m in ((f"s{n}.png", encoded(picture(n))), (f"s{n}.cls", b"1"))])
    end = max(i for i in range(len(data)) if data[i]) + 1
    blocks = -(-end // 512)
    cuts = [*range(0, (blocks + 2) * 512, 512), *range(100, (blocks + 2) * 512, 512)]
    for cut in cuts:
        assert "damaged" in refusal(tar(data[:cut])), cut
    whole = scan(tar(data[: (blocks + 2) * 512]))  # two zero blocks are enough, the padding is not needed
    assert whole.table.num_rows == 3


def test_the_reference_reader_loses_what_we_refuse(tar):
    data = make_tar([(f"s{n}.png", encoded(picture(0))) for n in range(10)])
    size = 512 + -(-len(encoded(picture(0))) // 512) * 512
    path = tar(data[: 3 * size])  # between two members
    seen = list(webdataset.WebDataset(path, shardshuffle=False, nodesplitter=None))
    assert len(seen) == 3  # and no error
    assert "without its two zero blocks" in refusal(path)


def test_every_damaged_header_bit_is_found(tar):
    data = make_tar(samples(0, 2))
    second = 512 + -(-len(samples(0, 1)[0][1]) // 512) * 512
    for header in (0, second):
        for bit in random.Random(0).sample(range(512 * 8), 60):
            flipped = bytearray(data)
            flipped[header + bit // 8] ^= 1 << bit % 8
            assert "damaged" in refusal(tar(bytes(flipped))), (header, bit)


def test_joined_tars_and_one_zero_block_are_refused(tar):
    data = make_tar(samples(0, 1))
    assert "after its end mark" in refusal(tar(data + make_tar(samples(1, 2))))
    body = data[: 512 + -(-len(samples(0, 1)[0][1]) // 512) * 512]
    assert "one zero block" in refusal(tar(body + bytes(512) + b"x" * 512))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.png", "a.png"], "this extension already"),
        (["a.png", "b.png", "a.png"], "was there before"),
        (["a.png", "b.png", "a.cls", "b.cls"], "was there before"),
        (["a.png", "a.jpg"], "an image already, a.png"),
        (["photo.1.jpg", "photo.2.jpg"], "first dot"),
        (["a.PNG", "a.png"], "this extension already"),
    ],
)
def test_samples_that_cannot_be_told_apart(tar, names, message):
    content = [
        (name, encoded(picture(n)) if not name.endswith("cls") else b"1") for n, name in enumerate(names)
    ]
    assert message in refusal(tar(make_tar(content)))


def test_things_that_are_no_tar(tar, tmp_path):
    for data in (b"", b"not a tar at all" * 100, encoded(picture(0))):
        assert "damaged" in refusal(tar(data))
    with pytest.raises(DataError, match="cannot be opened"):
        scan(str(tmp_path / "missing.tar"))


def test_object_store(s3_uri):
    from rayscan.storage import Place

    data = make_tar([m for n in range(3) for m in ((f"s{n}.png", encoded(picture(n))), (f"s{n}.cls", b"1"))])
    uri = Place(s3_uri).child("tars").uri_of("a b.tar")
    for content in (data, data[:-10_000]):
        filesystem, path = locate(uri)
        with filesystem.open_output_stream(path) as stream:
            stream.write(content)
        if content is data:
            found = scan_tar(uri, max_pixels=LIMIT)
            assert found.sha256 == hashlib.sha256(data).hexdigest() and found.table.num_rows == 3
    with pytest.raises(DataError, match="damaged"):
        scan_tar(uri, max_pixels=LIMIT)


def test_real_shard_equals_the_standard_library():
    path = shared("cifar10") / "cifar10-test-000000.tar"
    found = scan(str(path))
    with tarfile.open(path) as reference:
        infos = [info for info in reference if info.name.endswith(".jpg")]
    assert found.table["offset"].to_pylist() == [info.offset_data for info in infos]
    assert found.table["length"].to_pylist() == [info.size for info in infos]
    assert set(found.table["status"].to_pylist()) == {"ok"} and set(found.table["width"].to_pylist()) == {32}


def test_of_two_images_in_a_sample_the_one_with_the_named_extension_is_taken(tmp_path):
    from rayscan.data.listing import list_sources
    from rayscan.errors import ConfigError
    from tests.unit.data.conftest import write_files

    photo, mask = encoded(picture(1), "JPEG"), encoded(picture(2))
    members = [("a.jpg", photo), ("a.seg.png", mask), ("b.seg.png", mask), ("b.jpg", photo)]
    write_files(tmp_path, {"x.tar": make_tar(members), "y.png": photo})
    path = str(tmp_path / "x.tar")
    assert "--image-member" in refusal(path)
    for extension, data in (("jpg", photo), ("seg.png", mask)):
        listing = list_sources(path, image_member=extension)
        found = listing.format.scan(listing.entries[0], max_pixels=LIMIT)
        assert [(row["key"], row["length"]) for row in found.rows] == [("a", len(data)), ("b", len(data))]
        assert [row["source"] for row in found.rows] == [f"{path}#a.{extension}", f"{path}#b.{extension}"]
        assert found.members["other"] == 2
    with pytest.raises(ConfigError, match="no members"):
        list_sources(str(tmp_path / "y.png"), image_member="jpg")
