"""What the mine stage refuses to publish, and how it lays out what it does; no Ray here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from rayscan import tables
from rayscan.artifacts import Draft, Step
from rayscan.config import MineConfig, Recipe, ScanLossConfig
from rayscan.context import Sources
from rayscan.errors import ArtifactError, ConfigError
from rayscan.stages import mine
from rayscan.storage import Place, resolve
from rayscan.vectors.merge import blocks
from rayscan.vectors.parts import EmbeddingRows
from testing.matrices import brute_force, embedded, planted

SOURCES = Sources(data=None)
RECIPE = Recipe(name="test", mine=MineConfig(num_neighbors=20), scan=ScanLossConfig(num_neighbors=20))


def spoil(what: str, ids, scores):
    if what == "a number below 0":
        ids[2, 3] = -1
    elif what == "own neighbors":
        ids[2, 3] = 102
    elif what == "in the order":
        scores[2, 3] = scores[2, 2] + 0.25
    elif what == "twice":
        ids[2, 3], scores[2, 3] = ids[2, 1], scores[2, 3] - 1e-3
        scores[2, 4:] -= 2e-3
    elif what == "of shape":
        return ids[:, :-1], scores[:, :-1]
    return ids, scores


@pytest.mark.parametrize(
    "what", ["", "a number below 0", "own neighbors", "in the order", "twice", "of shape"]
)
def test_wrong_lists_are_refused(what):
    scores, ids = (part[100:150] for part in brute_force(planted(), 20))
    neighbors = spoil(what, ids.copy(), scores.copy())
    if not what:
        mine.require_neighbors(np.arange(100, 150), neighbors, 20)
        return
    with pytest.raises(ArtifactError, match=rf"(?s){what}.*rows 100\.\.149"):
        mine.require_neighbors(np.arange(100, 150), neighbors, 20)


def test_equal_scores_must_ascend_by_id():
    scores = np.array([[0.5, 0.5]], np.float32)
    mine.require_neighbors(np.array([0]), (np.array([[3, 4]]), scores), 2)
    with pytest.raises(ArtifactError, match="in the order"):
        mine.require_neighbors(np.array([0]), (np.array([[4, 3]]), scores), 2)


@pytest.mark.parametrize("k", [617, 700])
def test_more_neighbors_than_images(k):
    mine.check_size(replace(RECIPE, mine=MineConfig(num_neighbors=616)), 617)
    with pytest.raises(ConfigError, match=rf"(?s)mine\.num_neighbors < 617.*{k}.*--mine\.num-neighbors"):
        mine.check_size(replace(RECIPE, mine=MineConfig(num_neighbors=k)), 617)


def test_what_decides_the_fingerprint(tmp_path):
    artifact = embedded(Place(str(tmp_path)), planted())
    step = mine.plan(RECIPE, {"embed": artifact}, SOURCES)
    other = replace(RECIPE, mine=MineConfig(num_neighbors=20, num_shards=7, query_block=3))
    assert mine.plan(other, {"embed": artifact}, SOURCES).fingerprint == step.fingerprint
    assert step.inputs == {"embed": artifact.identity}
    more = replace(RECIPE, mine=MineConfig(num_neighbors=21))
    assert mine.plan(more, {"embed": artifact}, SOURCES).fingerprint != step.fingerprint


def test_file_is_the_same_for_any_block_size(tmp_path, monkeypatch):
    """Rows, row groups and bytes; gids are those of the images, not the row numbers."""
    monkeypatch.setattr(tables, "ROW_GROUP", 128)
    x, gids = planted(), np.sort(np.random.default_rng(0).choice(5000, 617, replace=False))
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), x, gids=gids))
    scores, ids = brute_force(x, 20)
    sampled = np.array([0, 5, 127, 128, 616])
    hashes = set()
    for size in (50, 128, 1000):
        draft, work = Draft(Place(str(tmp_path)), Step("mine", 1, {})), blocks(np.arange(617), size)
        parts = [
            {
                "ids": draft.write_array(f"{block.name}-ids.npy", ids[block.rows]),
                "scores": draft.write_array(f"{block.name}-scores.npy", scores[block.rows]),
            }
            for block in work
        ]
        entry, found = mine._publish(draft, work, parts, rows, 20, sampled)
        hashes.add(entry.sha256)
        np.testing.assert_array_equal(found[0], ids[sampled])
        np.testing.assert_array_equal(found[1], scores[sampled])
        filesystem, path = resolve(
            Place(str(tmp_path)).child(Step("mine", 1, {}).directory).uri_of(entry.path)
        )
        file = pq.ParquetFile(path, filesystem=filesystem)
        assert [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)] == [
            128,
            128,
            128,
            128,
            105,
        ]
        table = file.read()
        assert table["gid"].to_pylist() == gids.tolist()
        assert table["ids"].to_pylist() == gids[ids].tolist()
        np.testing.assert_array_equal(np.array(table["scores"].to_pylist(), np.float32), scores)
    assert len(hashes) == 1
