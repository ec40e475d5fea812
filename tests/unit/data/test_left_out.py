"""Whatever is passed over is counted and named: other formats, system folders, hidden files, links."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import pytest
from PIL import Image

from rayscan.data import doctor, verification
from rayscan.data.left_out import is_picture
from rayscan.data.listing import list_sources
from rayscan.errors import DataError
from rayscan.recipes import by_name
from rayscan.run import record
from rayscan.stages import index
from rayscan.storage import Place
from tests.unit.data.conftest import encoded, make_tar, picture, scan, write_files

PNG = encoded(picture(0))
JUNK = {
    "@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg": PNG,
    "#recycle/old.png": PNG,
    "sub/__MACOSX/._a.png": b"\0\5\x16\7",
    "$RECYCLE.BIN/$R1.png": PNG,
    ".ipynb_checkpoints/a-checkpoint.png": PNG,
    "Thumbnails/a.png": PNG,
    "._a.png": b"\0\5\x16\7",
}
OTHERS = {
    "b.dng": PNG,
    "c.ORF": b"II",
    "e0a1b2c3": PNG,
    "LICENSE": b"text",
    "m.mov": b"x",
    "n.mov": b"y",
}


def test_other_kinds_and_system_folders_are_counted(place: Place) -> None:
    for name, data in {"a.png": PNG, **JUNK, **OTHERS}.items():
        if "#" not in name or "://" not in place.uri:
            place.write(name, data)
    listing = list_sources(place.uri)
    assert [entry.key for entry in listing.entries] == ["a.png"]
    looks, others, folders, hidden = listing.left_out.lines()
    assert looks.startswith("left out, though they look like pictures: ")
    assert all(part in looks for part in ("1 .dng", "1 .orf", "1 without extension", "b.dng", "e0a1b2c3"))
    assert "2 .mov, 1 without extension" in others and "LICENSE" in others and "dng" not in others
    for name in ("@eaDir", "__MACOSX", "$RECYCLE.BIN", ".ipynb_checkpoints", "Thumbnails"):
        assert f"1 '{name}'" in folders
    assert hidden == "left out, hidden files: 1"


def test_a_run_among_the_images_is_no_source_of_images(place: Place) -> None:
    """Only where it is named itself; and a run.json of somebody else hides nothing."""
    for name in ("a/1.png", "runs/one/report/2.png", "theirs/3.png"):
        place.write(name, PNG)
    record(place.child("runs/one"), by_name("custom"), {"data": place.uri}, {})
    place.write("theirs/run.json", b'{"stages": {}}')
    listing = list_sources(place.uri)
    assert [entry.key for entry in listing.entries] == ["a/1.png", "theirs/3.png"]
    (told,) = (line for line in listing.left_out.lines() if "results of rayscan" in line)
    assert told.endswith(f"1, such as {place.uri_of('runs/one')!a}")
    (entry,) = list_sources(place.uri_of("runs/one")).entries
    assert entry.key == "report/2.png"


def test_a_system_folder_that_is_named_is_taken(place: Place) -> None:
    place.write("thumbnails/a.png", PNG)
    listing = list_sources(place.child("thumbnails").uri)
    assert len(listing.entries) == 1 and listing.left_out.lines() == []


def test_a_folder_with_nothing_usable_says_what_is_there(place: Place) -> None:
    for name, data in OTHERS.items():
        place.write(name, data)
    with pytest.raises(DataError, match=r"(?s)no images here.*1 \.dng.*b\.dng.*2 \.mov"):
        list_sources(place.uri)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000"])
def test_pictures_are_known_by_their_first_bytes(kind: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture(0)).save(buffer, kind)
    assert is_picture(buffer.getvalue()[:16])
    assert not is_picture(b"key,label\na,1\n..") and not is_picture(b"")


def linked(*links: tuple[str, bytes, str]) -> bytes:
    """A tar of x/a.png and b.png, with links (name, type, target) between them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in ("x/a.png", *links, "b.png"):
            info = tarfile.TarInfo(name if isinstance(name, str) else name[0])
            if isinstance(name, str):
                info.size = len(data := encoded(picture(len(name))))
                tar.addfile(info, io.BytesIO(data))
            else:
                info.type, info.linkname = name[1], name[2]
                tar.addfile(info)
    return buffer.getvalue()


HARD, SOFT = tarfile.LNKTYPE, tarfile.SYMTYPE


def test_links_inside_a_tar_are_the_images_they_stand_for(tar: Callable[[bytes], str]) -> None:
    far = "f" * 120 + ".png"
    data = linked(
        ("hard.png", HARD, "x/a.png"),
        ("x/soft.png", SOFT, "../b.png"),  # which comes later
        ("y/chain.png", SOFT, "../hard.png"),
        (far, SOFT, "./b.png"),
        ("long.png", SOFT, far),
    )
    path = tar(data)
    rows = {row["key"]: row for row in scan(path).table.to_pylist()}
    assert list(rows) == ["x/a", "hard", "x/soft", "y/chain", far[:-4], "long", "b"]
    of = {"hard": "x/a", "y/chain": "x/a", "x/soft": "b", far[:-4]: "b", "long": "b"}
    for key, target in of.items():
        for name in ("offset", "length", "crc32", "width", "height", "status"):
            assert rows[key][name] == rows[target][name], (key, name)
    assert rows["hard"]["source"] == f"{path}#hard.png"
    with tarfile.open(path) as reference:
        for name in ("hard.png", "x/soft.png", "y/chain.png", "long.png"):
            member = reference.extractfile(name)
            assert member is not None
            row = rows[name[:-4]]
            assert member.read() == data[row["offset"] : row["offset"] + row["length"]]


def test_links_to_nothing_are_missing_images(tar: Callable[[bytes], str]) -> None:
    links = [("gone.png", SOFT, "/mnt/a.png"), ("p.png", SOFT, "q.png"), ("q.png", SOFT, "p.png")]
    rows = scan(tar(linked(*links, ("notes.txt", HARD, "x/a.png")))).table.to_pylist()
    status = {row["key"]: row["status"] for row in rows}
    assert status == {"x/a": "ok", "gone": "missing", "p": "missing", "q": "missing", "b": "ok"}


def test_an_index_with_links_is_verified_in_one_pass(tar, context_for) -> None:
    context = context_for(tar(linked(("hard.png", HARD, "x/a.png"))))
    from rayscan.recipes import by_name

    step = index.plan(by_name("custom"), {}, context.sources)
    artifact = index.run(by_name("custom"), {}, step, context)
    assert artifact.facts["train"] == 3
    assert verification.compare(artifact, lambda fn, items: [fn(item) for item in items]) == []


def test_members_that_look_like_pictures_are_counted(tar: Callable[[bytes], str], context_for) -> None:
    path = tar(make_tar([("a.png", PNG), ("b.dng", PNG), ("c.dng", b"x"), ("bare", PNG), ("d.npy", b"x")]))
    listing = list_sources(path)
    lines, is_whole = doctor.describe(listing, [doctor.examine(t) for t in doctor.tasks(listing, 10**6)])
    assert is_whole
    assert "left out of the shards, though they look like pictures: 2 .dng, 1 without extension" in lines


def test_the_index_says_what_was_left_out(tmp_path, context_for) -> None:
    from rayscan.recipes import by_name

    write_files(tmp_path / "in", {"a.png": PNG, "b.dng": PNG, "m.mov": b"x"})
    context = context_for(str(tmp_path / "in"))
    index.run(by_name("custom"), {}, index.plan(by_name("custom"), {}, context.sources), context)
    said = context.progress.stream.getvalue()
    assert "look like pictures: 1 .dng" in said and "of other kinds: 1 .mov" in said


def test_a_link_to_itself_is_one_missing_image(tmp_path) -> None:
    write_files(tmp_path, {"a.png": PNG})
    (tmp_path / "self.png").symlink_to("self.png")
    listing = list_sources(str(tmp_path))
    (seen,) = [doctor.examine(t) for t in doctor.tasks(listing, 10**6)]
    assert dict(zip(seen.keys, seen.statuses, strict=True)) == {"a.png": "ok", "self.png": "missing"}
    assert seen.damaged == []


def test_a_collection_without_one_usable_image_is_not_whole(tmp_path) -> None:
    write_files(tmp_path, {"a.png": b"no picture", "b.png": b""})
    listing = list_sources(str(tmp_path))
    lines, is_whole = doctor.describe(listing, [doctor.examine(t) for t in doctor.tasks(listing, 10**6)])
    assert not is_whole and "not one image can be used" in lines
    assert any("'format', such as 'a.png'" in line for line in lines)
