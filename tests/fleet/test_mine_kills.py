"""Shard actors killed at five points of their life, on a real local Ray: the neighbors stay the same."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from rayscan.artifacts import Draft, Step
from rayscan.fleet import shards as fleet_shards
from rayscan.fleet.search_settings import SearchSettings
from rayscan.fleet.shards import ShardActor, mine_blocks
from rayscan.fleet.stored_array import StoredArray
from rayscan.storage import Place
from rayscan.vectors.merge import blocks, split_rows
from rayscan.vectors.parts import EmbeddingRows
from testing.matrices import brute_force, collapsed, embedded, planted, unit

K = 20
POINTS = ("before loading", "loaded", "asked", "searched, not answered", "scoring")


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def order(rows: EmbeddingRows, first: int, point: str) -> Path:
    """The file that tells the shard that begins at row `first` to die at a point."""
    return Path(rows.artifact.place.uri) / f"die-{first}-{point}"


class Mortal(ShardActor):
    """A shard actor that kills itself, with SIGKILL, once at every point it is told to."""

    def __init__(self, rows: EmbeddingRows, share: StoredArray, *how: Any) -> None:
        self.rows, self.first, self.scored = rows, int(share.read()[0]), 0
        self.reach("before loading")
        super().__init__(rows, share, *how)
        self.reach("loaded")

    def propose(self, *asked: Any) -> Any:
        self.reach("asked")
        found = super().propose(*asked)
        self.reach("searched, not answered")
        return found

    def score(self, *asked: Any) -> Any:
        self.scored += 1
        if self.scored > 2:
            self.reach("scoring")
        return super().score(*asked)

    def reach(self, point: str) -> None:
        try:
            order(self.rows, self.first, point).unlink()
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("num_shards", "doomed", "storage"),
    [
        (3, 1, "float32"),
        pytest.param(3, 3, "float16", marks=pytest.mark.soak),
        pytest.param(8, 8, "float32", marks=pytest.mark.soak),
    ],
)
def test_actors_killed_at_five_points_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_shards: int, doomed: int, storage: str
) -> None:
    """So many of the shards die five times each, one time after the other; ties and copies are planted."""
    monkeypatch.setattr(fleet_shards, "ShardActor", Mortal)
    x = planted()
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), x))
    representatives, indexed = collapsed(rows, K)
    begins = [int(share[0]) for share in split_rows(indexed.uniques, num_shards)]
    orders = [order(rows, first, point) for first in begins[-doomed:] for point in POINTS]
    for one in orders:
        one.touch()
    draft = Draft(Place(str(tmp_path)), Step("mine", 1, {"of": "test"}))
    mining = SearchSettings(K, num_shards, storage=storage)
    ended: list[str] = []
    files = mine_blocks(
        blocks(representatives, 50), indexed, draft, mining, lambda block, _: ended.append(block.name)
    )
    assert not [one for one in orders if one.exists()]
    assert len(ended) == len(files) == 13
    want_scores, want_ids = brute_force(x, K)
    for name, want in (("ids", want_ids), ("scores", want_scores)):
        found = [np.load(BytesIO(draft.place.read(part[name].path))) for part in files]
        np.testing.assert_array_equal(np.concatenate(found), want)


def test_a_share_too_large_for_a_message_is_there_after_a_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Numbers of 16,000 rows take 128 kB; Ray puts an argument from 100 kB on into its object store."""
    monkeypatch.setattr(fleet_shards, "ShardActor", Mortal)
    x = unit(np.random.default_rng(5).normal(size=(16_000, 8)))
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), x))
    representatives, indexed = collapsed(rows, K)
    asked = blocks(representatives, 2_000)[:1]
    death = order(rows, 0, "searched, not answered")
    death.touch()
    draft = Draft(Place(str(tmp_path)), Step("mine", 1, {"of": "test"}))
    (part,) = mine_blocks(asked, indexed, draft, SearchSettings(K, 1), lambda *_: None)
    assert not death.exists()
    found = np.load(BytesIO(draft.place.read(part["ids"].path)))
    want = np.argsort(-(x[:2_000] @ x.T), axis=1)[:, 1 : K + 1]
    assert (found == want).mean() > 0.999  # products of a library may round one tie the other way
    assert "constructor arguments" not in capfd.readouterr().err
