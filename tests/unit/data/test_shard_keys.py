"""Keys over several files: kept where they are unique, else with the name of the file before, and back."""

from __future__ import annotations

import pyarrow as pa
import pytest

from rayscan.data.shard_keys import as_in_files, shard_name, with_unique_keys
from rayscan.errors import DataError

URIS = {0: "/d/0.tar", 1: "/d/0/0.tar", 2: "/d/e.tar"}


def rows(*keys):
    split, shard, key = zip(*keys, strict=True)
    return pa.table({"split": split, "shard": pa.array(shard, pa.int32()), "key": key})


@pytest.mark.parametrize(
    ("uri", "root", "name"),
    [
        ("/d/00000.tar", "/d", "00000"),
        ("s3://b/set/part.v2/00.0.tar?region=x", "s3://b/set", "part.v2/00.0"),
        ("/d/a.b/no", "/d", "a.b/no"),
    ],
)
def test_a_shard_is_called_by_its_path_below_the_root(uri, root, name):
    assert shard_name(uri, root) == name


def test_files_have_the_keys_that_they_had_before():
    table = rows(("train", 0, "x"), ("train", 1, "x"), ("train", 1, "0/x"), ("eval", 2, "e/x"))
    changed, roots = with_unique_keys(table, list(URIS.values()), {"train": "/d"})
    assert roots == {"train": "/d"}
    assert changed["key"].to_pylist() == ["0/x", "0/0/x", "0/0/0/x", "e/x"]
    assert as_in_files(changed, URIS, {"train": "/d"})["key"].to_pylist() == table["key"].to_pylist()


def test_a_key_that_a_file_has_twice_is_refused_with_that_file():
    table = rows(("train", 0, "x"), ("train", 2, "y"), ("train", 2, "y"))
    with pytest.raises(DataError, match=r"'y', 2 times[\s\S]*/d/e\.tar"):
        with_unique_keys(table, list(URIS.values()), {"train": "/d"})


def test_names_of_files_that_do_not_tell_the_keys_apart_are_refused():
    table = rows(("train", 0, "x"), ("train", 0, "0/x"), ("train", 1, "x"))  # 0 + 0/x is 0/0 + x
    with pytest.raises(DataError, match=r"'0/0/x'[\s\S]*/d/0\.tar"):
        with_unique_keys(table, list(URIS.values()), {"train": "/d"})
