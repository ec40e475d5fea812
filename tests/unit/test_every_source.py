"""The same pictures from every kind of source, end to end: the clusters are those of the folder."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rayscan import pipeline
from rayscan.context import Sources
from rayscan.data import codecs
from rayscan.exports.described import described
from rayscan.exports.folders import copied
from rayscan.recipes import by_name
from rayscan.run import Run
from rayscan.storage import Place
from rayscan.vectors.parts import EmbeddingRows
from tests.unit.data.conftest import encoded, make_tar, write_files
from tests.unit.data.test_codecs import HEIC_FILE, HEIC_TURNED, JXL
from tests.unit.local_fleet import LocalFleet, LocalPool

RECIPE = by_name("custom")
RECIPE = replace(
    RECIPE,
    method="kmeans",
    num_clusters=3,
    embed=replace(RECIPE.embed, size_px=64),
    fleet=replace(RECIPE.fleet, num_workers=1),
)
COLORS = ((200, 30, 30), (30, 160, 40), (40, 60, 210))
COUNT = 24


def photo(number: int) -> np.ndarray:
    """A noisy picture of one of three colors."""
    noise = np.random.default_rng(number).normal(COLORS[number % 3], 25, (40, 52, 3))
    return noise.clip(0, 255).astype(np.uint8)


PHOTOS = [(f"{n // 12}/{n:03d}.png", encoded(photo(n))) for n in range(COUNT)]


def as_folder(folder: Path) -> dict[str, str]:
    write_files(folder, dict(PHOTOS))
    return {"data": str(folder)}


def as_zip(folder: Path) -> dict[str, str]:
    folder.mkdir()
    for number, method in enumerate((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(folder / f"{number}.zip", "w", method) as archive:
            for name, data in PHOTOS[12 * number : 12 * number + 12]:
                archive.writestr(name, data)
    return {"data": str(folder)}


def as_tars(folder: Path) -> dict[str, str]:
    write_files(folder, {f"{n}.tar": make_tar(PHOTOS[12 * n : 12 * n + 12]) for n in (0, 1)})
    return {"data": str(folder / "{0,1}.tar")}


def as_img2dataset(folder: Path) -> dict[str, str]:
    """Keys begin anew in every shard, with a caption and a note beside each image."""
    for shard in (0, 1):
        members: list[tuple[str, bytes]] = []
        for n, (name, data) in enumerate(PHOTOS[12 * shard : 12 * shard + 12]):
            key, note = f"{n:09d}", {"url": f"http://x/{name}", "width": 52}
            members += [(f"{key}.png", data), (f"{key}.txt", name.encode())]
            members += [(f"{key}.json", json.dumps(note).encode())]
        write_files(folder, {f"{shard:05d}.tar": make_tar(members)})
    return {"data": str(folder)}


def as_parquet(folder: Path) -> dict[str, str]:
    folder.mkdir()
    cells = [{"bytes": data, "path": name} for name, data in PHOTOS]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pq.write_table(pa.table({"image": pa.array(cells, kind)}), folder / "train.parquet", row_group_size=5)
    return {"data": str(folder)}


def as_list(folder: Path) -> dict[str, str]:
    as_folder(folder)
    (folder / "list.csv").write_text("path;note\n" + "".join(f"{name};n\n" for name, _ in PHOTOS))
    return {"data": str(folder / "list.csv")}


def as_jxl(folder: Path) -> dict[str, str]:
    if not codecs.ready(JXL):
        pytest.skip("needs rayscan[jxl]")
    for number, (name, _) in enumerate(PHOTOS):
        write_files(folder, {name.replace("png", "jxl"): encoded(photo(number), "JXL", lossless=True)})
    return {"data": str(folder)}


def as_boxes(folder: Path) -> dict[str, str]:
    """Four pictures on each sheet, and COCO's boxes around them."""
    images, notes = [], []
    for sheet in range(COUNT // 4):
        canvas = np.full((110, 140, 3), 128, np.uint8)
        for n in range(4):
            top, left = 5 + 52 * (n // 2), 7 + 66 * (n % 2)
            canvas[top : top + 40, left : left + 52] = photo(4 * sheet + n)
            notes.append({"image_id": sheet, "bbox": [left, top, 52, 40], "category_id": 1})
        write_files(folder, {f"sheet{sheet}.png": encoded(canvas)})
        images.append({"id": sheet, "file_name": f"sheet{sheet}.png"})
    coco = {"images": images, "annotations": notes, "categories": [{"id": 1, "name": "thing"}]}
    (folder.parent / "coco.json").write_text(json.dumps(coco))
    return {"data": str(folder), "boxes": str(folder.parent / "coco.json")}


OTHERS = (as_zip, as_tars, as_img2dataset, as_parquet, as_list, as_jxl, as_boxes)


@pytest.fixture(scope="module", autouse=True)
def in_this_process() -> Iterator[None]:
    """Tasks and shards are called here: what is compared does not hang on where they run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "Fleet", LocalFleet)
        patch.setattr("rayscan.fleet.kmeans.ActorPool", LocalPool)
        yield


def clustered(out: Path, sources: dict[str, str]) -> Run:
    stages = pipeline.stages_until(RECIPE, "assign")
    pipeline.run(RECIPE, Sources(**sources), Place(str(out)), stages=stages)
    return Run(str(out))


@pytest.fixture(scope="module")
def from_folder(in_this_process: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("folder")
    run = clustered(place / "out", as_folder(place / "in"))
    clusters = np.asarray(run.assignments["cluster"].to_pylist())
    # Three kinds, three clusters: else equality below would say little.
    assert len({*zip(clusters.tolist(), (np.arange(COUNT) % 3).tolist(), strict=True)}) == 3
    return run


def same(run: Run, other: Run) -> None:
    one, two = (EmbeddingRows(r.artifact("embed")).read(0, COUNT) for r in (run, other))
    np.testing.assert_array_equal(one, two)
    for column in ("gid", "cluster", "confidence", "top5_probs"):
        assert run.assignments[column].equals(other.assignments[column]), column


@pytest.mark.parametrize("write", OTHERS, ids=[write.__name__ for write in OTHERS])
def test_clusters_are_those_of_the_folder(write, tmp_path: Path, from_folder: Run) -> None:
    run = clustered(tmp_path / "out", write(tmp_path / "in"))
    same(run, from_folder)
    told = described(run, [run.assignments])
    columns = next(iter(told)).column_names
    wanted: Sequence[str] = {
        as_img2dataset: ("txt", "url"),
        as_list: ("note",),
        as_boxes: ("box_class",),
    }.get(write, ())
    assert {*wanted} <= {*columns}
    if write is as_boxes:
        copied(run, str(tmp_path / "copies"))
        files = sorted((tmp_path / "copies").rglob("*sheet2-1.png"))
        assert len(files) == 1
        np.testing.assert_array_equal(np.asarray(Image.open(files[0])), photo(9))


@pytest.mark.skipif(not codecs.CODECS[0].is_installed, reason="needs rayscan[heic]")
def test_photos_of_phones_beside_others(tmp_path: Path) -> None:
    """No encoder is at hand: two files, and the pictures they hold as PNG in their place."""
    from rayscan.data.decode import decode

    as_folder(tmp_path / "heic")
    as_folder(tmp_path / "png")
    for name, data in (("x.heic", HEIC_FILE), ("y.HEIC", HEIC_TURNED)):
        pixels = Image.fromarray(decode(data, max_pixels=10**6))
        buffer = io.BytesIO()
        pixels.save(buffer, "PNG")
        write_files(tmp_path, {f"heic/{name}": data, f"png/{name.partition('.')[0]}.png": buffer.getvalue()})
    one, two = (
        clustered(tmp_path / f"out-{kind}", {"data": str(tmp_path / kind)}) for kind in ("heic", "png")
    )
    assert one.assignments["cluster"].equals(two.assignments["cluster"]) and len(one.assignments) == COUNT + 2
