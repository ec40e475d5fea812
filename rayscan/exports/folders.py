"""Export as folders: one for each cluster, with links to the pictures or copies of them.

OUT/
  <cluster>/<rank>_<confidence>_<name>     rank 1 is the most confident of its cluster
  _unsure/                                 pictures below a confidence
  manifest.csv                             file, source, cluster, name, confidence
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from rayscan.errors import ConfigError
from rayscan.exports.pictures import Pictures, file_name
from rayscan.exports.rows import named_images, require_files
from rayscan.exports.whole_folder import put_in_place
from rayscan.run import Run
from rayscan.storage import Place, is_local

COLUMNS = ("gid", "source", "key", "cluster", "confidence")
UNSURE = "_unsure"
MANIFEST = "manifest.csv"
FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
"""Characters that a common file system takes in no name."""
AT_ONCE = 1024
"""Images put at a time."""
LONGEST_NAME = 120
"""Characters of a name of ours; some file systems end at 143 bytes."""


def symlinked(run: Run, out: str) -> str:
    """Folders of symbolic links, one folder for each cluster; links are relative."""
    return _write(
        run, out, _linking(lambda source, target: target.symlink_to(os.path.relpath(source, target.parent)))
    )


def hardlinked(run: Run, out: str) -> str:
    """Folders of hard links, on the same disk as the pictures: they stay when the originals go."""
    return _write(run, out, _linking(lambda source, target: target.hardlink_to(source)))


def copied(run: Run, out: str) -> str:
    """Folders of copies of the pictures, out of shards and archives too."""
    is_indexed = "index" in run.record["stages"] and run.artifact("index").facts.get("pictures") != 0
    return _write(run, out, _copying(Pictures(run)) if is_indexed else _linking(shutil.copyfile))


@dataclass(frozen=True)
class Placed:
    """An image and where it goes."""

    image: dict[str, Any]
    folder: str
    rank: int

    def file(self, data: bytes = b"") -> str:
        """Path below OUT; a picture that has no suffix gets that of its content."""
        name = Path(file_name(self.image["key"], self.image["source"], data))
        number = f"{self.rank:05d}_{self.image['confidence']:.2f}"
        suffix = FORBIDDEN.sub("_", name.suffix)
        return f"{self.folder}/{number}_{_safe(name.stem)[:LONGEST_NAME]}{suffix}"


Put = Callable[[Sequence[Placed], Path], list[str]]
"""Puts some images below a directory; returns their files."""


def _linking(put: Callable[[str, Path], object]) -> Put:
    """Put images that are files of their own, one after the other.

    Raises:
        ConfigError: the file system takes no such links.
        DataError: an image is no file of its own on this machine.
    """

    def put_all(some: Sequence[Placed], making: Path) -> list[str]:
        for placed in some:
            source = require_files(placed.image, "export to folders")
            try:
                put(source, making / placed.file())
            except OSError as error:
                raise ConfigError(
                    "a picture cannot be put into its folder",
                    got=error,
                    where=source,
                    fix="links want the same disk and a file system that has them; --to folders-copy copies",
                ) from error
        return [placed.file() for placed in some]

    return put_all


def _copying(pictures: Pictures) -> Put:
    """Write the stored files of images, as many at a time as memory should hold.

    Raises:
        DataError: a picture cannot be read, or is not what was indexed.
    """

    def put_all(some: Sequence[Placed], making: Path) -> list[str]:
        table = pa.table({name: [placed.image[name] for placed in some] for name in ("gid", "source")})
        files: list[str] = []
        for piece in pictures.pieces([table]):
            for data in pictures.encoded(piece):
                assert data is not None  # an index has the bytes of every usable image
                files.append(some[len(files)].file(data))
                (making / files[-1]).write_bytes(data)
        return files

    return put_all


def _write(run: Run, out: str, put: Put, unsure_below: float = 0.5) -> str:
    """Make all folders under a name of their own, then give them theirs.

    Raises:
        ArtifactError: the run has no assignments, or clusters.json lacks one of the clusters.
        ConfigError: OUT is not on this machine, or see `put`.
        DataError: see `put`.
    """
    if not is_local(out):
        raise ConfigError(
            "folders are made on a local disk", expected="a local directory", got=out, where="OUT"
        )
    whole, making = Path(out), Path(f"{out}.incomplete")
    if whole.exists() and any(whole.iterdir()) and not (whole / MANIFEST).is_file():
        raise ConfigError(
            "OUT holds something that no such export wrote",
            expected=f"a free name, or a directory with {MANIFEST}",
            got=whole,
            where="OUT",
            fix="choose another one: what is there would be removed",
        )
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(("file", "source", "cluster", "name", "confidence"))
    count, places = 0, _places(run, unsure_below)
    while some := list(islice(places, AT_ONCE)):
        for folder in {placed.folder for placed in some}:
            (making / folder).mkdir(exist_ok=True)
        for placed, file in zip(some, put(some, making), strict=True):
            image = placed.image
            source, confidence = image["source"] or image["key"], f"{image['confidence']:.4f}"
            table.writerow((file, source, image["cluster"], image["name"], confidence))
        count += len(some)
    Place(str(making)).write(MANIFEST, text.getvalue().encode())
    put_in_place(making, whole)  # what is there is an empty directory, or meant by --force
    return f"{count:,} pictures: {whole}"


def _places(run: Run, unsure_below: float) -> Iterator[Placed]:
    """Every image with its folder and rank, the most confident of a cluster first."""
    images = sorted(named_images(run, COLUMNS), key=lambda image: (-image["confidence"], image["gid"]))
    ranks: dict[str, int] = {}
    folders = _folder_names({str(image["name"]) for image in images})
    for image in images:
        folder = UNSURE if image["confidence"] < unsure_below else folders[str(image["name"])]
        ranks[folder] = rank = ranks.get(folder, 0) + 1
        yield Placed(image, folder, rank)


def _folder_names(names: set[str]) -> dict[str, str]:
    """A folder for each cluster name; names that differ only in what no file system takes get a number."""
    taken: dict[str, str] = {}
    for name in sorted(names):
        wanted = _safe(name)[:LONGEST_NAME] or "unnamed"
        number = 2
        folder = wanted
        while folder.casefold() in {other.casefold() for other in taken.values()} or folder == UNSURE:
            folder = f"{wanted}-{number}"
            number += 1
        taken[name] = folder
    return taken


def _safe(name: str) -> str:
    return FORBIDDEN.sub("_", name).strip(" .")
