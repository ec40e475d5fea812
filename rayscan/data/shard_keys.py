"""Keys of images that are unique over all files of a split: those of the files, or with its name before each.

WebDataset asks for keys that are unique within a shard only; img2dataset and others number each shard from 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from rayscan.data import addresses
from rayscan.errors import DataError


def shard_name(uri: str, root: str) -> str:
    """Name of a file below a folder, without what follows the last dot."""
    folder, slash, base = addresses.plain(uri)[len(root) :].lstrip("/").rpartition("/")
    return folder + slash + (base.rpartition(".")[0] or base)


def with_unique_keys(
    rows: pa.Table, uris: Sequence[str], roots: Mapping[str, str]
) -> tuple[pa.Table, dict[str, str]]:
    """Put the names of the files before the keys of a split, if any key is in two of them.

    Args:
        rows: With columns split, shard and key.
        uris: Addresses of the files by their number.
        roots: Folder that the names are relative to, of each split.

    Returns:
        The rows, and the roots of the splits whose keys were changed.

    Raises:
        DataError: a key comes twice within a file.
    """
    changed = {}
    for split, root in roots.items():
        chosen = pc.equal(rows["split"], split)
        members = rows.filter(chosen)
        if pc.count_distinct(members["key"]).as_py() == len(members):
            continue
        _refuse_repeated(members, ["shard", "key"], split, uris)
        names = pa.array([shard_name(uri, root) for uri in uris]).take(rows["shard"].combine_chunks())
        keys = pc.if_else(chosen, pc.binary_join_element_wise(names, rows["key"], "/"), rows["key"])
        rows = rows.set_column(rows.column_names.index("key"), "key", keys)
        _refuse_repeated(rows.filter(chosen), ["key"], split, uris)
        changed[split] = root
    return rows, changed


def _refuse_repeated(rows: pa.Table, columns: list[str], split: str, uris: Sequence[str]) -> None:
    """Refuse rows that are the same in some columns."""
    counts = rows.group_by(columns).aggregate([([], "count_all"), ("shard", "min")])
    twice = counts.filter(pc.greater(counts["count_all"], 1))
    if len(twice):
        raise DataError(
            f"two images of the {split} split have the same key",
            expected="keys that are unique within a shard",
            got=f"{twice['key'][0].as_py()!r}, {twice['count_all'][0]} times",
            where=uris[twice["shard_min"][0].as_py()],
            fix="write the shard again with unique keys, or leave it out",
        )


def as_in_files(rows: pa.Table, uris: Mapping[int, str], roots: Mapping[str, str]) -> pa.Table:
    """Rows with the keys that the files themselves have.

    Args:
        rows: With columns split, shard and key.
        uris: Addresses of the files by their number.
        roots: Folder that file names are relative to, of each split whose keys begin with them.
    """
    if not roots:
        return rows
    columns = (rows[name].to_pylist() for name in ("split", "shard", "key"))
    keys = [
        key.removeprefix(f"{shard_name(uris[shard], roots[split])}/")
        if split in roots and shard in uris
        else key
        for split, shard, key in zip(*columns, strict=True)
    ]
    return rows.set_column(rows.column_names.index("key"), "key", pa.array(keys, pa.string()))
