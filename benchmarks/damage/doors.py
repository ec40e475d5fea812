"""The three doors through which data comes in: indexing afresh, comparing with an index, reading by it."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.damage.tars import FOREIGN, IMAGES, OURS, Damage, contents, foreign_members, packed, picture
from rayscan.artifacts import Artifact
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.data.reader import Reader
from rayscan.data.shard_writer import Sample, write_samples
from rayscan.data.table import IMAGES as IMAGES_FILE
from rayscan.data.table import ImageTable
from rayscan.data.verification import Finding, expected_shards, verify_shard
from rayscan.errors import DataError
from rayscan.recipes import by_name
from rayscan.stages import index, labels
from rayscan.storage import Place

RECIPE = replace(by_name("digits"), images=replace(by_name("digits").images, max_bad_fraction=1.0))
"""Everything bad goes to quarantine: what is counted here is what nothing speaks of."""


class InProcess:
    """The fleet's map, here."""

    def map(
        self, fn: Callable[[Any], Any], items: Sequence[Any], *, on_done: Any = None, uses_gpu: bool = False
    ) -> list[Any]:
        """One call after the other."""
        results = [fn(item) for item in items]
        for number, result in enumerate(results):
            if on_done is not None:
                on_done(number, result)
        return results


@dataclass(frozen=True)
class Verdict:
    """What became of one corruption."""

    is_detected: bool
    is_silent_loss: bool
    is_refused: bool
    """By indexing afresh."""
    complaint: str = ""
    """What went wrong, if so."""


class Doors:
    """An index, and its data in whatever state."""

    def __init__(self, folder: Path) -> None:
        """Write the pristine set and index it."""
        self.folder = folder
        (folder / "pristine").mkdir(parents=True)
        samples = [
            Sample(
                f"ours{n}", picture(n, "PNG" if n % 2 else "JPEG"), "png" if n % 2 else "jpg", f"photos/{n}"
            )
            for n in range(8)
        ]
        write_samples(samples, str(folder / "packed"), "s")
        ours = (folder / "packed" / "s-000000.tar").read_bytes()
        self.pristine = {OURS: ours, FOREIGN: packed(foreign_members())}
        self.images = {
            n: d for data in self.pristine.values() for n, d in contents(data) if n.endswith(IMAGES)
        }
        self._place("now", self.pristine)
        self.artifact = self._index("out-0")
        self.table = ImageTable.from_artifact(self.artifact)
        stored = self.artifact.read_table(IMAGES_FILE)
        self.keys = stored["key"].to_pylist()
        self.bytes = Reader(self.table).read(np.arange(len(self.table)))
        assert sorted(self.bytes) == sorted(self.images.values()), "the pristine set is not read back"

    def judge(self, files: Mapping[str, bytes], damage: Damage) -> Verdict:
        """Send a damaged set through all doors."""
        self._place("now", files)
        changed = {key for key in self.keys if not self._is_there(key, files)}
        complaints = [*self._compared(damage, changed), *self._read()]
        refused, lost = self._afresh(files, damage)
        is_loss = bool(lost) or any("other bytes" in text for text in complaints)
        complaints += lost
        return Verdict(not complaints, is_loss, refused, "; ".join(complaints))

    def _compared(self, damage: Damage, changed: set[str]) -> list[str]:
        findings: list[Finding] = []
        for expected in expected_shards(self.artifact):
            findings += verify_shard(expected)
        if not any(found.shard.endswith(damage.shard) for found in findings):
            return ["the comparison with the index does not name the shard"]
        named = {found.key for found in findings}
        is_whole_shard_gone = any(found.what == "missing" or not found.key for found in findings)
        unnamed = changed - named
        return [f"changed images not named: {sorted(unnamed)}"] if unnamed and not is_whole_shard_gone else []

    def _read(self) -> list[str]:
        reader = Reader(self.table)
        for gid, stored in enumerate(self.bytes):
            try:
                (data,) = reader.read([gid])
            except DataError:
                continue
            if data != stored:
                return [f"reading gid {gid} gave other bytes"]
        return []

    def _afresh(self, files: Mapping[str, bytes], damage: Damage) -> tuple[bool, list[str]]:
        """Whether indexing again refuses, and what it lost without a word."""
        out = tempfile.mkdtemp(dir=self.folder)
        try:
            artifact = self._index(out)
        except DataError as error:
            names_it = damage.shard in str(error) or "named files are missing" in str(error)
            return True, [] if names_it else [f"the refusal does not name the shard: {error}"]
        finally:
            shutil.rmtree(out, ignore_errors=True)
        if damage.refusal == "must":
            return False, ["a fresh index accepts what could lose images"]
        seen = artifact.facts["train"] + artifact.facts["quarantined"] + artifact.facts["imageless"]
        is_lost = seen < len(self.images) and damage.refusal != "cannot"
        return False, ["a fresh index lost images without a word"] if is_lost else []

    def _is_there(self, key: str, files: Mapping[str, bytes]) -> bool:
        """Whether an image still lies where the index says, unchanged."""
        gid = self.keys.index(key)
        data = files.get((OURS, FOREIGN)[self.table.shard[gid]], b"")
        start, length = int(self.table.offset[gid]), int(self.table.length[gid])
        return data[start : start + length] == self.bytes[gid]

    def _place(self, name: str, files: Mapping[str, bytes]) -> None:
        (self.folder / name).mkdir(exist_ok=True)
        for shard in (OURS, FOREIGN):
            (self.folder / name / shard).unlink(missing_ok=True)
            if shard in files:
                (self.folder / name / shard).write_bytes(files[shard])

    def _index(self, out: str) -> Artifact:
        named = f"{self.folder}/now/{{{OURS},{FOREIGN}}}"
        return indexed(named, Path(self.folder, out))[1]


def context_of(data: str, out: Path, labels_file: str | None = None) -> Context:
    """A river that runs in this process."""
    sources = Sources(data, labels=labels_file)
    return Context(Place(str(out)), sources, InProcess(), Progress(io.StringIO()))  # type: ignore[arg-type]


def indexed(data: str, out: Path) -> tuple[Context, Artifact]:
    """The index stage alone."""
    context = context_of(data, out)
    step = index.plan(RECIPE, {}, context.sources)
    return context, index.run(RECIPE, {}, step, context)


def take_in(data: str, out: Path, labels_file: str | None) -> list[str]:
    """Index, read every image, read the labels: all names that a page could show.

    Raises:
        RayscanError: something was refused.
    """
    _, artifact = indexed(data, out)
    table = ImageTable.from_artifact(artifact)
    Reader(table).images(table.gids())
    rows = artifact.read_table(IMAGES_FILE)
    names = rows["key"].to_pylist() + rows["source"].to_pylist() + rows["status"].to_pylist()
    context = context_of(data, out, labels_file)
    if labels.available(artifact, context.sources):
        done = {"index": artifact}
        found = labels.run(RECIPE, done, labels.plan(RECIPE, done, context.sources), context)
        names += [str(name) for name in found.read_json("classes.json")]
    return names
