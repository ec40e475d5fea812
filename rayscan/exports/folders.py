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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rayscan.errors import ConfigError
from rayscan.exports.rows import named_images, require_files
from rayscan.run import Run
from rayscan.storage import Place, is_local

COLUMNS = ("gid", "source", "key", "cluster", "confidence")
UNSURE = "_unsure"
MANIFEST = "manifest.csv"
FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
"""Characters that a common file system takes in no name."""
LONGEST_NAME = 120
"""Characters of a name of ours; some file systems end at 143 bytes."""


def symlinked(run: Run, out: str) -> str:
    """Folders of symbolic links, one folder for each cluster; links are relative."""
    return _write(run, out, lambda source, target: target.symlink_to(os.path.relpath(source, target.parent)))


def hardlinked(run: Run, out: str) -> str:
    """Folders of hard links, on the same disk as the pictures: they stay when the originals go."""
    return _write(run, out, lambda source, target: target.hardlink_to(source))


def copied(run: Run, out: str) -> str:
    """Folders of copies of the pictures."""
    return _write(run, out, lambda source, target: shutil.copyfile(source, target))


def _write(run: Run, out: str, put: Callable[[str, Path], object], unsure_below: float = 0.5) -> str:
    """Make all folders under a name of their own, then give them theirs.

    Raises:
        ArtifactError: the run has no assignments, or clusters.json lacks one of the clusters.
        ConfigError: OUT is not on this machine, or the file system takes no such links.
        DataError: an image is no file of its own on this machine.
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
    count = 0
    for folder, file, image in _places(run, unsure_below):
        source = require_files(image, "export to folders")
        (making / folder).mkdir(exist_ok=True)
        try:
            put(source, making / folder / file)
        except OSError as error:
            raise ConfigError(
                "a picture cannot be put into its folder",
                got=error,
                where=source,
                fix="links want the same disk and a file system that has them; --to folders-copy copies",
            ) from error
        confidence = f"{image['confidence']:.4f}"
        table.writerow((f"{folder}/{file}", source, image["cluster"], image["name"], confidence))
        count += 1
    Place(str(making)).write(MANIFEST, text.getvalue().encode())
    if whole.exists():  # --force, or an empty directory
        shutil.rmtree(whole)
    making.rename(whole)
    return f"{count:,} pictures: {whole}"


def _places(run: Run, unsure_below: float) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Folder and file name of every image, the most confident of a cluster first."""
    images = sorted(named_images(run, COLUMNS), key=lambda image: (-image["confidence"], image["gid"]))
    ranks: dict[str, int] = {}
    folders = _folder_names({str(image["name"]) for image in images})
    for image in images:
        folder = UNSURE if image["confidence"] < unsure_below else folders[str(image["name"])]
        ranks[folder] = rank = ranks.get(folder, 0) + 1
        name = Path(str(image["source"] or image["key"]))
        file = f"{rank:05d}_{image['confidence']:.2f}_{_safe(name.stem)[:LONGEST_NAME]}{_safe(name.suffix)}"
        yield folder, file, image


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
