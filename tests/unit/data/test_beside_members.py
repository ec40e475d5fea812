"""What tars and zips hold beside images is counted by kind, or skipped as on a disk; links lead to images."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from rayscan.cli.data import shard
from rayscan.data import doctor
from rayscan.data.left_out import is_system_member
from rayscan.data.listing import list_sources
from rayscan.data.sources import named_format
from rayscan.data.sources.base import Rows, Scan, SourceFile
from rayscan.data.stored_files import StoredFiles
from rayscan.data.table import ImageTable
from rayscan.types import Ints
from tests.unit.data.conftest import encoded, picture, write_files

PNG = encoded(picture(0))
PHOTOS = [("f/a.png", PNG), ("./f/b.png", encoded(picture(1)))]
SYSTEM = [
    ("f/@eaDir/a.png/SYNOPHOTO_THUMB_M.png", PNG),
    ("__MACOSX/f/c.png", b"x"),
    ("f/._a.png", b"\0\5\x16\7"),
    (".thumbnails/c.png", PNG),
    ("f/.hidden", b"x"),
]
OTHERS = [("f/v.MOV", b"x"), ("f/w.mov", b"x"), ("f/raw.dng", b"x"), ("bare", PNG), ("notes", b"x")]
TOLD = [
    "left out of the shards, though they look like pictures: 1 without extension, 1 .dng",
    "left out of the shards, of other kinds: 2 .mov, 1 without extension",
    "left out of the shards, hidden or in folders of the system: 5",
]


def archived(path: Path, content: Sequence[tuple[str, bytes]], links: Sequence[tuple[str, str]] = ()) -> str:
    """A tar or a zip with files and symbolic links."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in content:
                archive.writestr(name, data)
            for name, target in links:
                info = zipfile.ZipInfo(name)
                info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16  # as zip -y writes
                archive.writestr(info, target)
        return str(path)
    with tarfile.open(path, "w") as tar:
        for name, data in content:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def scanned(uri: str) -> Scan:
    return named_format(uri).scan(SourceFile(uri, "x", -1, 0), max_pixels=10**6)


@pytest.mark.parametrize("name", ["x.tar", "x.zip"])
def test_members_beside_images_are_counted_by_kind(tmp_path: Path, name: str) -> None:
    listing = list_sources(archived(tmp_path / name, [*SYSTEM, *PHOTOS, *OTHERS]))
    lines, is_whole = doctor.describe(listing, [doctor.examine(t) for t in doctor.tasks(listing, 10**6)])
    assert is_whole and "images: 2, 2 of them usable" in lines
    assert [line for line in lines if line.startswith("left out")] == TOLD


def test_shard_tells_what_a_zip_holds_beside_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    shard(archived(tmp_path / "in/x.zip", [*SYSTEM, *PHOTOS, *OTHERS]), str(tmp_path / "out"))
    *lines, summary = capsys.readouterr().out.splitlines()
    assert lines == TOLD and summary.startswith("2 images")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.png", False), ("./a.png", False), ("x/./a.png", False), (".a.png", True), ("#recycle/a.png", True)],
)
def test_names_of_system_members(name: str, expected: bool) -> None:
    assert is_system_member(name) is expected


def test_links_of_a_zip_are_the_images_they_stand_for(tmp_path: Path) -> None:
    links = [("g/l.png", "../f/a.png"), ("m.png", "g/l.png"), ("n.png", "no.png"), ("o.png", "o.png")]
    uri = archived(tmp_path / "x.zip", PHOTOS, links)
    found = scanned(uri)
    status = {row["key"]: row["status"] for row in found.rows}
    assert status == {
        "f/a.png": "ok", "./f/b.png": "ok", "g/l.png": "ok", "m.png": "ok",
        "n.png": "missing", "o.png": "missing",
    }  # fmt: skip
    usable = found.table.filter([row["status"] == "ok" for row in found.rows])
    none = usable["offset"].to_numpy()[:0]
    table = ImageTable(
        none.astype("int32"), none, none, none.astype("uint32"), none.astype("int32"), none.astype("int32"),
        none.astype(bool), none.astype(bool), shard_uris=(uri,),
    )  # fmt: skip
    offsets: Ints = usable["offset"].to_numpy()
    rows = Rows(offsets * 0, offsets, usable["length"].to_numpy())
    data = named_format(uri).read(StoredFiles(table, None), rows).data
    assert data == [PNG, PHOTOS[1][1], PNG, PNG]


def test_captions_in_any_encoding(tmp_path: Path) -> None:
    texts = {"a": "gr\u00fcn".encode("utf-8-sig"), "b": "gr\u00fcn\r\n".encode("utf-16"), "c": b"gr\xfcn"}
    content = [
        (f"{key}.{end}", data) for key, text in texts.items() for end, data in (("png", PNG), ("txt", text))
    ]
    told = scanned(archived(tmp_path / "x.tar", content)).metadata
    assert told is not None and told["txt"].to_pylist() == ["gr\u00fcn", "gr\u00fcn", "gr\\xfcn"]


def test_folders_are_left_as_they_are(tmp_path: Path) -> None:
    write_files(tmp_path, dict(PHOTOS))
    assert len(list_sources(str(tmp_path)).entries) == 2
