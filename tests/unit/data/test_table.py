"""The index in memory."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from rayscan.data.table import ImageTable
from rayscan.errors import ArtifactError
from rayscan.stages import index
from tests.unit.data.conftest import make_tar, samples, write_files


@pytest.fixture
def made(tmp_path, context_for):
    from rayscan.recipes import by_name

    write_files(
        tmp_path,
        {
            "a-0.tar": make_tar([*samples(0, 3), ("bad.png", b"junk")]),
            "a-1.tar": make_tar(samples(5, 8)),
            "e.tar": make_tar(samples(20, 22)),
        },
    )
    context = context_for(str(tmp_path / "a-*.tar"), str(tmp_path / "e.tar"))
    recipe = by_name("digits")
    step = index.plan(recipe, {}, context.sources)
    return index.run(recipe, {}, step, context)


def test_rows_and_gids_by_split(made, tmp_path):
    table = ImageTable.from_artifact(made)
    assert len(table) == 9
    assert table.gids().tolist() == [0, 1, 2, 4, 5, 6, 7, 8]
    assert table.gids("train").tolist() == [0, 1, 2, 4, 5, 6]
    assert table.gids("eval").tolist() == [7, 8]
    assert table.gids("train").dtype == np.int64
    assert table.shard_uris == tuple(str(tmp_path / name) for name in ("a-0.tar", "a-1.tar", "e.tar"))
    assert table.shard.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2]
    assert (table.width[table.is_ok] == 16).all() and (table.height[table.is_ok] == 12).all()


def test_columns_have_their_types_and_travel(made):
    table = pickle.loads(pickle.dumps(ImageTable.from_artifact(made)))
    types = {
        name: getattr(table, name).dtype
        for name in ("shard", "offset", "length", "crc32", "is_ok", "is_eval")
    }
    assert types == {
        "shard": np.int32,
        "offset": np.int64,
        "length": np.int64,
        "crc32": np.uint32,
        "is_ok": np.bool_,
        "is_eval": np.bool_,
    }


def test_an_altered_index_is_refused(made):
    entry = made.files["images.parquet"]
    data = bytearray(made.place.read(entry.path))
    data[len(data) // 2] ^= 1
    made.place.write(entry.path, bytes(data))
    with pytest.raises(ArtifactError, match=r"images\.parquet"):
        ImageTable.from_artifact(made)
