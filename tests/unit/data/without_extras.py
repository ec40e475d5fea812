"""What needs an extra is left out and named: run by `test_codecs` where the packages cannot be imported."""

from __future__ import annotations

import io
import zipfile

import pytest

from rayscan.data import codecs
from rayscan.data.decode import decode
from rayscan.data.doctor import describe, examine, tasks
from rayscan.data.listing import list_sources
from rayscan.errors import DataError
from tests.unit.data.conftest import LIMIT, encoded, make_tar, picture, write_files
from tests.unit.data.test_codecs import HEIC_FILE


def zipped(members):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    return sink.getvalue()


def test_they_are_not_there():
    assert not any(codec.is_installed or codecs.ready(codec) for codec in codecs.CODECS)


def test_a_folder_of_pictures_that_need_an_extra_is_told_in_its_first_line(tmp_path):
    write_files(tmp_path, {"b.HEIC": HEIC_FILE, "c.heif": HEIC_FILE})
    with pytest.raises(DataError) as caught:
        list_sources(str(tmp_path))
    first = str(caught.value).splitlines()[0]
    assert first == "there are no images here that can be read yet: pip install 'rayscan[heic]'"


def test_pictures_beside_others_are_left_out_and_told_with_what_reads_them(tmp_path):
    write_files(tmp_path, {"a.jpg": encoded(picture(1), "JPEG"), "b.HEIC": HEIC_FILE, "c.jxl": b"x"})
    listing = list_sources(str(tmp_path))
    assert [entry.key for entry in listing.entries] == ["a.jpg"]
    (line,) = listing.left_out.lines()
    assert "1 .heic, 1 .jxl" in line and line.endswith("to read them: pip install 'rayscan[heic,jxl]'")


@pytest.mark.parametrize("pack", [make_tar, zipped])
def test_pictures_in_shards_and_archives_are_left_out_and_told(tmp_path, pack):
    name = "a.tar" if pack is make_tar else "a.zip"
    write_files(tmp_path, {name: pack([("a.png", encoded(picture(1))), ("b.heic", HEIC_FILE)])})
    listing = list_sources(str(tmp_path / name))
    lines, is_whole = describe(listing, [examine(task) for task in tasks(listing, LIMIT)])
    assert is_whole
    told = "left out of the shards, though they look like pictures: 1 .heic; to read them: "
    assert f"{told}pip install 'rayscan[heic]'" in lines


@pytest.mark.parametrize("data", [HEIC_FILE, b"\xff\x0a\0\0", codecs.JXL_BEGINNINGS[1]])
def test_pictures_under_another_name_say_what_they_need(data):
    with pytest.raises(DataError, match=r"^needs rayscan\[(heic|jxl)\]"):
        decode(data, max_pixels=LIMIT)
