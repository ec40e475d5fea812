"""The same pictures as a folder, tars, zip archives and Parquet files: equal order, bytes and pixels."""

from __future__ import annotations

import io
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayscan.data.decode import decode
from rayscan.data.reader import Reader
from rayscan.data.table import IMAGES, ImageTable
from rayscan.recipes import by_name
from rayscan.stages import index
from tests.unit.data.conftest import LIMIT, encoded, picture, write_files

RECIPE = by_name("digits")
KINDS = ("JPEG", "PNG", "WEBP", "BMP", "AVIF", "JPEG2000")
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "AVIF": "avif", "JPEG2000": "jp2"}
PICTURES = [
    (f"{n // 6}/{n:02d}.{EXTENSIONS[kind]}", encoded(picture(n, 20, 24), kind))
    for n, kind in enumerate(KINDS * 2)
]
"""In two folders, by the order of their names."""


def as_folder(folder, files):
    write_files(folder, dict(files))


def as_tars(folder, files):
    folder.mkdir()
    for number, part in enumerate((files[:6], files[6:])):
        with tarfile.open(folder / f"{number}.tar", "w") as tar:
            for name, data in part:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def as_zips(folder, files):
    folder.mkdir()
    for number, method in enumerate((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(folder / f"{number}.zip", "w", method) as archive:
            for name, data in files[6 * number : 6 * number + 6]:
                archive.writestr(name, data)


def as_parquet(folder, files):
    folder.mkdir()
    for number, compression in enumerate(("NONE", "SNAPPY")):
        cells = [{"bytes": data, "path": name} for name, data in files[6 * number : 6 * number + 6]]
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        table = pa.table({"image": pa.array(cells, kind)})
        pq.write_table(table, folder / f"{number}.parquet", compression=compression, row_group_size=4)


SOURCES = {"folder": as_folder, "tars": as_tars, "zips": as_zips, "parquet": as_parquet}


@pytest.fixture
def made(tmp_path, context_for):
    """The index of each source."""
    found = {}
    for name, write in SOURCES.items():
        write(tmp_path / name, PICTURES)
        context = context_for(str(tmp_path / name), out=f"out-{name}")
        found[name] = index.run(RECIPE, {}, index.plan(RECIPE, {}, context.sources), context)
    return found


def test_rows_bytes_and_pixels_are_the_same(made):
    columns = ["gid", "split", "length", "crc32", "width", "height", "status"]
    expected = made["folder"].read_table(IMAGES, columns=columns)
    asked = np.random.default_rng(0).permutation(np.repeat(np.arange(len(PICTURES)), 2))
    pixels = [decode(data, max_pixels=LIMIT) for _, data in PICTURES]
    for name, artifact in made.items():
        assert artifact.read_table(IMAGES, columns=columns).equals(expected), name
        reader = Reader(ImageTable.from_artifact(artifact))
        assert reader.read(asked) == [PICTURES[n][1] for n in asked], name
        for number, image in zip(asked, reader.images(asked, threads=2), strict=True):
            np.testing.assert_array_equal(image, pixels[number])


def test_keys_are_paths_and_in_tars_what_is_before_the_first_dot(made):
    paths = [name for name, _ in PICTURES]
    keys = {name: artifact.read_table(IMAGES)["key"].to_pylist() for name, artifact in made.items()}
    assert keys["folder"] == keys["zips"] == keys["parquet"] == paths
    assert keys["tars"] == [path.partition(".")[0] for path in paths]


def test_stages_take_results_over_from_one_source_to_another(made):
    """What later stages depend on is the content; only keys of tars differ."""
    identities = {name: artifact.identity for name, artifact in made.items()}
    assert identities["folder"] == identities["zips"] == identities["parquet"] != identities["tars"]
