"""An earlier index of the same place: which files need not be read again, and which gid each image had."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayscan.artifacts import Artifact
from rayscan.data.addresses import plain
from rayscan.data.index_chunks import FORMER, SHARD_SCHEMA, ScannedChunk
from rayscan.data.inspection import OK
from rayscan.data.metadata import metadata_of
from rayscan.data.shard_keys import as_in_files
from rayscan.data.sources.base import SourceFile
from rayscan.data.table import DECODING, IMAGE_SCHEMA, IMAGES, SHARDS


@dataclass(frozen=True, eq=False)
class FormerIndex:
    """What an earlier index says of files and images."""

    rows: pa.Table
    """By `IMAGE_SCHEMA`."""
    in_files: pa.Table
    """The same with the keys that the files themselves have."""
    shards: Mapping[int, Mapping[str, Any]]
    """Its files that can be taken over, by their number, with their split: all of their images decode."""
    metadata: pa.Table | None
    decoding: Mapping[str, Any] | None
    """Ranges of pictures of more than 8 bits: they stay when others come."""

    @classmethod
    def read(cls, artifact: Artifact, keys_by_shard: Mapping[str, str]) -> FormerIndex:
        """Read a finished index.

        Args:
            artifact: Result of stage index.
            keys_by_shard: The root of each split whose keys begin with the name of their shard.

        Raises:
            ArtifactError: its files are missing or altered.
        """
        rows = artifact.read_table(IMAGES)
        shards = artifact.read_table(SHARDS)
        uris = dict(zip(shards["shard"].to_pylist(), shards["uri"].to_pylist(), strict=True))
        bad = set(rows.filter(pc.not_equal(rows["status"], OK))["shard"].to_pylist())
        split_of = dict(zip(rows["shard"].to_pylist(), rows["split"].to_pylist(), strict=True))
        has_times = {*SHARD_SCHEMA.names} <= {*shards.column_names}  # one of an older version has none
        known = {
            shard["shard"]: {**shard, "split": split_of[shard["shard"]]}
            for shard in (shards.to_pylist() if has_times else ())
            if shard["shard"] in split_of and shard["shard"] not in bad and shard["mtime_ns"]
        }
        return cls(
            rows,
            as_in_files(rows, uris, keys_by_shard),
            known,
            metadata_of(artifact),
            artifact.facts.get(DECODING),
        )

    def unchanged(
        self, files: Mapping[int, SourceFile], split: str, rebase: str | None = None
    ) -> dict[int, int]:
        """Files that are as they were, by size and time of the last change: number -> former number.

        One at another address is the same file if name, size and time are, and no other file has them.

        Args:
            files: Those of a split, by number.
            split: They are of.
            rebase: OLD=NEW: files below OLD are below NEW now, and the same if their size is.
        """
        old, _, new = (rebase or "").partition("=")
        own = {number: shard for number, shard in self.shards.items() if shard["split"] == split}
        by_uri = {_moved(shard["uri"], old, new): number for number, shard in own.items()}
        found: dict[int, int] = {}
        moved: dict[tuple[str, int, int], list[int]] = {}
        for number, entry in files.items():
            former = by_uri.pop(entry.uri, None)
            if former is None:
                moved.setdefault(_name(entry.uri, entry.size, entry.mtime_ns), []).append(number)
            elif own[former]["bytes"] == entry.size:
                is_told = own[former]["uri"] != entry.uri
                if is_told or own[former]["mtime_ns"] == entry.mtime_ns:
                    found[number] = former
        gone: dict[tuple[str, int, int], list[int]] = {}
        for number in by_uri.values():
            gone.setdefault(_name(*(own[number][k] for k in ("uri", "bytes", "mtime_ns"))), []).append(number)
        for name, numbers in moved.items():
            if len(numbers) == len(before := gone.get(name, [])) == 1:
                found[numbers[0]] = before[0]
        return found

    def part(self, taken: Mapping[int, int], entries: Mapping[int, SourceFile], split: str) -> ScannedChunk:
        """Files that are taken over, as if they had been scanned, in the order of their numbers.

        Args:
            taken: Number -> former number.
            entries: The files as they are now, by number.
            split: They are of.
        """
        before = self.in_files["shard"].to_numpy()
        now = np.full(int(before.max(initial=-1)) + 2, -1)  # the last one is for -1, images that are gone
        now[list(taken.values())] = list(taken)
        numbers = now[before]
        order = np.argsort(numbers, kind="stable")
        order = order[numbers[order] >= 0]
        table, in_order = self.in_files.take(order), numbers[order].tolist()
        changed: dict[str, list[Any]] = {
            "shard": in_order,
            "split": [split] * len(order),
            "source": [
                entries[n].uri + source[len(self.shards[taken[n]]["uri"]) :]
                for n, source in zip(in_order, table["source"].to_pylist(), strict=True)
            ],
        }
        is_many = any(self.shards[former]["sha256"] for former in taken.values())
        if not is_many:
            changed["key"] = [entries[n].key for n in in_order]
            changed["id"] = [entries[n].id for n in in_order]
        for name, values in changed.items():
            wanted = IMAGE_SCHEMA.field(name)
            table = table.set_column(table.column_names.index(name), wanted, pa.array(values, wanted.type))
        shards = [{**self.shards[former], "shard": n, "uri": entries[n].uri} for n, former in taken.items()]
        members: Counter[str] = Counter()
        for shard in shards:
            members.update(json.loads(shard["members"]))
        told = self._metadata_of(table["gid"]) if is_many else None
        names = [FORMER if name == "gid" else name for name in table.column_names]
        stored = pa.Table.from_pylist(shards, SHARD_SCHEMA)
        return ScannedChunk(table.rename_columns(names), stored, told, members, ())

    def _metadata_of(self, gids: pa.ChunkedArray) -> pa.Table | None:
        """A row for each image, nulls where nothing is known."""
        if self.metadata is None:
            return None
        return self.metadata.take(pc.index_in(gids, self.metadata["gid"])).drop_columns(["gid"])


def _moved(uri: str, old: str, new: str) -> str:
    """An address below one folder, below another."""
    head = old.rstrip("/")
    return new.rstrip("/") + uri[len(head) :] if head and uri.startswith(f"{head}/") else uri


def _name(uri: str, size: int, mtime_ns: int) -> tuple[str, int, int]:
    return plain(uri).rpartition("/")[2], size, mtime_ns
