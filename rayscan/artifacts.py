"""Fingerprinted results of stages: find, write, verify, load. The only door to a run's storage.

    <out>/
      <stage>-<hash12>/
        manifest.json          one object, put last: a directory without it is not a result
        <attempt>/<files>      names unique to one attempt, so retries cannot interleave
        parts/<name>.json      finished parts of a stage that is not finished yet

The full hash covers the stage, its schema number, its semantic settings and the identities of its inputs.
"""

from __future__ import annotations

import hashlib
import io
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rayscan import parquet
from rayscan.errors import ArtifactError
from rayscan.storage import Place
from rayscan.version import __version__

MANIFEST = "manifest.json"
MANIFEST_SCHEMA = 1


def digest(value: object) -> str:
    """Sha256 of the canonical JSON of `value`, in hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Step:
    """What a stage would do: enough to know whether it has been done."""

    stage: str
    schema: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Identity of each input, by the name the stage knows it under."""

    @property
    def fingerprint(self) -> str:
        """Sha256 in hex over stage, schema, settings and inputs."""
        return digest([self.stage, self.schema, self.config, dict(self.inputs)])

    @property
    def directory(self) -> str:
        """Name of the result's directory."""
        return f"{self.stage}-{self.fingerprint[:12]}"


@dataclass(frozen=True)
class FileEntry:
    """One file of a result: where it lies below the stage's directory, its size and its hash."""

    path: str
    size: int
    sha256: str

    def read(self, place: Place) -> bytes:
        """All bytes of the file; an ArtifactError if it is missing or differs from what was written."""
        try:
            data = place.read(self.path)
        except FileNotFoundError as error:
            raise self.changed(place, "no file") from error
        if len(data) != self.size or hashlib.sha256(data).hexdigest() != self.sha256:
            raise self.changed(place, f"{len(data)} other bytes")
        return data

    def changed(self, place: Place, got: str) -> ArtifactError:
        """The error that says how the file differs from what was written."""
        return ArtifactError(
            f"the file {self.path} is not what was written",
            expected=f"{self.size} bytes, sha256 {self.sha256[:12]}...",
            got=got,
            where=place.uri,
            fix="remove this directory and run the same command again",
        )


@dataclass(frozen=True)
class Artifact:
    """A finished result, equal to any at its place. Small: it travels to workers, which read the files."""

    stage: str
    place: Place
    manifest: Mapping[str, Any] = field(compare=False)

    @property
    def identity(self) -> str:
        """What stages downstream hash: the content for an index, else the fingerprint."""
        return str(self.manifest["identity"])

    @property
    def files(self) -> dict[str, FileEntry]:
        """Entries by logical name."""
        return {name: FileEntry(**entry) for name, entry in self.manifest["files"].items()}

    @property
    def facts(self) -> Mapping[str, Any]:
        """Small numbers the stage wants known without opening a file."""
        facts: Mapping[str, Any] = self.manifest["facts"]
        return facts

    def uri_of(self, name: str) -> str:
        """Full address of a file."""
        return self.place.uri_of(self.entry(name).path)

    def read(self, name: str) -> bytes:
        """All bytes of a file, checked against the manifest (`FileEntry.read`)."""
        return self.entry(name).read(self.place)

    def read_json(self, name: str) -> Any:
        """A JSON file."""
        return json.loads(self.read(name))

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """A Parquet file as an Arrow table."""
        return pq.ParquetFile(pa.BufferReader(self.read(name))).read(columns=columns, use_threads=False)

    def read_array(self, name: str) -> np.ndarray[Any, Any]:
        """A `.npy` file; object arrays are refused."""
        return _array(self.read(name))

    def verify(self, *, rehash: bool = False) -> None:
        """Check that every file is there with its size, or with `rehash` its sha256.

        Raises:
            ArtifactError: naming the first file that is missing or differs.
        """
        for entry in self.files.values():
            if rehash:
                entry.read(self.place)
            elif (size := self.place.size(entry.path)) != entry.size:
                raise entry.changed(self.place, "no file" if size is None else f"{size} bytes")

    def entry(self, name: str) -> FileEntry:
        """What the manifest says of a file; an ArtifactError if nothing."""
        if name not in self.files:
            known, what = ", ".join(self.files), f"{self.stage}: no such file in this result"
            raise ArtifactError(what, expected=known, got=name, where=self.place.uri)
        return self.files[name]


def _array(data: bytes) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = np.load(io.BytesIO(data), allow_pickle=False)
    return array


class Draft:
    """A result being written by one attempt. Parts may be written by many workers: it travels to them."""

    def __init__(self, root: Place, step: Step) -> None:
        """Start an attempt; nothing is visible to readers before `commit`."""
        self.step = step
        self.place = root.child(step.directory)
        self.attempt = secrets.token_hex(4)

    def write(self, name: str, data: bytes | memoryview) -> FileEntry:
        """Write a file of this attempt."""
        path = f"{self.attempt}/{name}"
        self.place.write(path, data)
        return FileEntry(path, len(data), hashlib.sha256(data).hexdigest())

    def write_json(self, name: str, value: object) -> FileEntry:
        """Write JSON with sorted keys."""
        return self.write(name, json.dumps(value, indent=2, sort_keys=True, allow_nan=False).encode())

    def write_table(self, name: str, table: pa.Table) -> FileEntry:
        """Write Parquet; equal tables give equal bytes."""
        return self.write(name, parquet.encoded(table))

    def write_array(self, name: str, array: np.ndarray[Any, Any]) -> FileEntry:
        """Write `.npy`, without pickle."""
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        return self.write(name, buffer.getvalue())

    def finish_part(
        self, name: str, entries: Mapping[str, FileEntry], facts: Mapping[str, Any] | None = None
    ) -> None:
        """Note that a part is whole; a later attempt of the same step takes it over."""
        record = {"files": {k: vars(v) for k, v in entries.items()}, "facts": dict(facts or {})}
        self.place.write(f"parts/{name}.json", json.dumps(record, sort_keys=True).encode())

    def finished_part(self, name: str) -> tuple[dict[str, FileEntry], dict[str, Any]] | None:
        """Files and facts of a part that this or an earlier attempt finished; None if there is none."""
        try:
            record = json.loads(self.place.read(f"parts/{name}.json"))
            entries = {k: FileEntry(**v) for k, v in record["files"].items()}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        if any(self.place.size(e.path) != e.size for e in entries.values()):
            return None
        return entries, record["facts"]

    def read_part_array(self, entry: FileEntry) -> np.ndarray[Any, Any]:
        """A `.npy` file of a finished part, checked."""
        return _array(entry.read(self.place))

    def commit(
        self,
        files: Mapping[str, FileEntry],
        *,
        facts: Mapping[str, Any] | None = None,
        identity: str | None = None,
    ) -> Artifact:
        """Make the result visible by writing the manifest, last. The first valid manifest wins.

        Args:
            files: Logical name -> entry.
            facts: Small numbers to keep in the manifest.
            identity: What stages downstream shall hash; the fingerprint if not given.
        """
        if (winner := find(self.place, self.step)) is not None:
            return winner
        manifest = {
            "schema": MANIFEST_SCHEMA,
            "rayscan": __version__,
            "stage": self.step.stage,
            "stage_schema": self.step.schema,
            "fingerprint": self.step.fingerprint,
            "identity": identity or self.step.fingerprint,
            "config": self.step.config,
            "inputs": dict(self.step.inputs),
            "files": {name: vars(entry) for name, entry in sorted(files.items())},
            "facts": dict(facts or {}),
        }
        self.place.write(MANIFEST, json.dumps(manifest, indent=2, sort_keys=True, allow_nan=False).encode())
        self.place.delete("parts")
        return Artifact(self.step.stage, self.place, manifest)


def find(place: Place, step: Step, *, rehash: bool = False) -> Artifact | None:
    """The finished result of `step` in its directory, sizes checked; None if it was not finished.

    Raises:
        ArtifactError: a manifest is there but torn, of another schema, or its files are damaged.
    """
    try:
        manifest = json.loads(place.read(MANIFEST))
        fingerprint, schema = manifest["fingerprint"], manifest["schema"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{step.stage}: the manifest cannot be read",
            got=error,
            where=place.uri_of(MANIFEST),
            fix="remove this directory and run the same command again",
        ) from error
    if schema != MANIFEST_SCHEMA or fingerprint != step.fingerprint:
        raise ArtifactError(
            f"{step.stage}: the result in this directory is another one",
            expected=f"schema {MANIFEST_SCHEMA}, fingerprint {step.fingerprint}",
            got=f"schema {schema}, fingerprint {fingerprint}",
            where=place.uri,
            fix="use another --out, or remove this directory",
        )
    artifact = Artifact(step.stage, place, manifest)
    artifact.verify(rehash=rehash)
    return artifact


def load(place: Place) -> Artifact:
    """A finished result by its directory, whatever its settings were.

    Raises:
        ArtifactError: there is no readable manifest.
    """
    try:
        manifest = json.loads(place.read(MANIFEST))
        return Artifact(manifest["stage"], place, manifest)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            "no finished result here", expected=MANIFEST, got=error, where=place.uri
        ) from error
