"""SearchSettings on a real local Ray: equal to brute force, whatever dies on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from rayscan.artifacts import Artifact, Draft, Step
from rayscan.config import FleetConfig, MineConfig, Recipe, ScanLossConfig
from rayscan.consensus.space import make_space
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.errors import ArtifactError, DataError, FleetError
from rayscan.fleet import memory
from rayscan.fleet import shards as fleet_shards
from rayscan.fleet.connect import Fleet
from rayscan.fleet.search_settings import SearchSettings
from rayscan.fleet.shards import mine_blocks
from rayscan.stages import mine
from rayscan.storage import Place
from rayscan.vectors.merge import Block, blocks
from rayscan.vectors.parts import EmbeddingRows
from testing.matrices import brute_force, collapsed, embedded, planted, unit
from tests.unit.vectors.test_duplicates import few_copies
from tests.unit.vectors.test_ivf import bundles
from tests.unit.vectors.test_mutual import naive

K = 20
STEP = Step("mine", 1, {"of": "test"})


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def run_stage(out: Place, embed: Artifact, **settings: Any) -> Artifact:
    config = MineConfig(num_neighbors=K, **settings)
    recipe = Recipe(name="test", mine=config, scan=ScanLossConfig(num_neighbors=K))
    done = {"embed": embed}
    sources = Sources(data=None)
    context = Context(out, sources, Fleet(FleetConfig(num_workers=2), out), Progress(StringIO()))
    return mine.run(recipe, done, mine.plan(recipe, done, sources), context)


def found(draft: Draft, files: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    def whole(name: str) -> np.ndarray:
        return np.concatenate([np.load(BytesIO(draft.place.read(part[name].path))) for part in files])

    return whole("scores"), whole("ids")


def actor_pids() -> list[int]:
    """Processes of shard actors below this one; no other Ray of this machine is looked at."""
    parents, titles = {}, {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid = int(status.parent.name)
            parents[pid] = int(status.read_text().rpartition(")")[2].split()[1])
            titles[pid] = (status.parent / "cmdline").read_bytes().decode(errors="replace")
        except OSError:  # it has just ended
            continue

    def is_ours(pid: int) -> bool:
        while pid > 1 and pid != os.getpid():
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    return sorted(
        pid for pid, title in titles.items() if title.startswith("ray::ShardActor") and is_ours(pid)
    )


def left_after_a_while() -> list[int]:
    """Shard actors that do not end: a killed process may take a moment on a busy machine."""
    deadline = time.monotonic() + 20
    while (pids := actor_pids()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return pids


def test_the_whitened_space_is_mined_as_the_features_are(tmp_path):
    """Rows projected as the space of the method consensus says, on any number of shards; eval rows wait."""
    rng = np.random.default_rng(3)
    x = unit(rng.normal(size=(5, 30))[np.arange(340) % 5] + 0.5 * rng.normal(size=(340, 30)))
    embed = embedded(Place(str(tmp_path / "in")), x, num_eval=40)
    space = make_space(x[:300])
    rows = unit((x[:300] - space.mean) @ (space.components @ space.projection))
    for shards in (1, 3):
        artifact = run_stage(
            Place(str(tmp_path / f"out-{shards}")), embed, num_shards=shards, space="whitened"
        )
        ids = np.array(artifact.read_table("neighbors.parquet")["ids"].to_pylist())
        assert (ids == brute_force(rows, K)[1]).mean() > 0.99  # projected in blocks of other float32 sums
        assert artifact.facts["space"] == "whitened"
        assert (ids != brute_force(x[:300], K)[1]).any(axis=1).mean() > 0.9, "not those of the features"


def test_stage_equals_brute_force_for_any_number_of_shards(tmp_path):
    x, gids = planted(), np.arange(640) * 2 + 1
    x = np.concatenate([x, planted(1)[:23]])
    embed = embedded(Place(str(tmp_path / "in")), x, num_eval=23, gids=gids)
    want_scores, want_ids = brute_force(x[:617], K)
    hashes = set()
    for shards, block, storage in [(1, 1000, "float32"), (3, 64, "float16"), (8, 150, "float32")]:
        out = Place(str(tmp_path / f"out-{shards}"))
        artifact = run_stage(out, embed, num_shards=shards, query_block=block, storage=storage)
        table = artifact.read_table("neighbors.parquet")
        assert table["gid"].to_pylist() == gids[:617].tolist()
        assert table["ids"].to_pylist() == gids[want_ids].tolist()
        np.testing.assert_array_equal(np.array(table["scores"].to_pylist(), np.float32), want_scores)
        unique = len({row.tobytes() for row in x[:617]})
        assert artifact.facts == {"rows": 617, "unique_rows": unique, "num_neighbors": K, "recall": 1.0}
        hashes.add(artifact.files["neighbors.parquet"].sha256)
        left = [path for path in (tmp_path / f"out-{shards}").rglob("*") if path.is_file()]
        assert sorted(path.name for path in left) == ["manifest.json", "neighbors.parquet"]
    assert len(hashes) == 1
    assert not left_after_a_while()


def test_a_choice_mines_nothing_again(tmp_path, monkeypatch):
    """Lists of the run without a choice are taken over, whatever the number of shards."""
    x, gids = planted(), np.arange(617) * 2 + 1
    embed = embedded(Place(str(tmp_path / "in")), x, gids=gids)
    scores, ids = brute_force(x, K)
    want = naive(ids, 15)
    out = Place(str(tmp_path / "out"))
    first = run_stage(out, embed, num_shards=3, query_block=200, mutual=15)
    monkeypatch.setattr(mine, "mine_blocks", None)
    again = run_stage(out, embed, num_shards=8, mutual=20)
    table = first.read_table("neighbors.parquet")
    assert table["ids"].to_pylist() == gids[ids].tolist()
    np.testing.assert_array_equal(np.array(table["scores"].to_pylist(), np.float32), scores)
    assert table["chosen"].to_pylist() == want.tolist()
    assert first.facts["chosen"]["mean"] == pytest.approx(want.sum() / 617)
    mutual = again.read_table("neighbors.parquet")["chosen"].to_pylist()
    assert mutual == naive(ids, 20).tolist()


def test_approximate_search_reaches_its_recall_for_any_number_of_shards(tmp_path):
    x = bundles(3000)
    embed = embedded(Place(str(tmp_path / "in")), x)
    rows, read = [], []
    for number in (1, 3):
        out = Place(str(tmp_path / f"out-{number}"))
        artifact = run_stage(out, embed, num_shards=number, query_block=700, search="approximate")
        assert artifact.facts["search"] == "approximate"
        assert artifact.facts["nlist"] == 75  # 3000 / 40
        read.append(artifact.facts["nprobe"])
        assert 0.99 <= artifact.facts["recall"] <= 1.0
        rows.append(artifact.read_table("neighbors.parquet").to_pydict())
    assert rows[0]["scores"] == rows[1]["scores"]
    assert 1 <= read[0] == read[1] < 75
    want, _ = brute_force(x, K)
    found = np.array(rows[0]["scores"], np.float32)
    assert 0.98 <= (found >= want - 1e-6).mean() <= 1.0


def test_few_copies_among_neighbors(tmp_path):
    x = planted()
    embed = embedded(Place(str(tmp_path / "in")), x)
    artifact = run_stage(Place(str(tmp_path / "out")), embed, num_shards=2, query_block=200, max_copies=2)
    table = artifact.read_table("neighbors.parquet")
    assert table["ids"].to_pylist() == few_copies(x, K, 2)[1].tolist()
    assert artifact.facts["recall"] == 1.0


def test_what_does_not_fit_or_falls_short_is_refused(tmp_path, monkeypatch):
    embed = embedded(Place(str(tmp_path / "in")), bundles(1000))
    with pytest.raises(ArtifactError, match=r"(?s)recall >= 1\.0.*--mine\.search exact"):
        monkeypatch.setattr(fleet_shards, "tune_nprobe", lambda those, *_: those.with_nprobe(1))
        run_stage(Place(str(tmp_path / "a")), embed, num_shards=2, search="approximate", min_recall=1.0)
    monkeypatch.setattr(memory, "PROCESS_BYTES", 10**15)
    with pytest.raises(FleetError, match=r"(?s)not fit in memory.*GB a node.*2 of 2 shards.*storage float16"):
        run_stage(Place(str(tmp_path / "b")), embed, num_shards=2)


def test_killed_actors_change_nothing(tmp_path):
    x = planted()
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), x))
    representatives, indexed = collapsed(rows, K)
    draft = Draft(Place(str(tmp_path)), STEP)
    killed: list[int] = []
    ended: list[str] = []

    def kill_one(block: Block, was_there: bool) -> None:
        ended.append(block.name)
        assert not was_there
        if len(ended) in (2, 9, 16) and (pids := actor_pids()):
            killed.append(pids[len(killed) % len(pids)])
            os.kill(killed[-1], signal.SIGKILL)

    work = blocks(representatives, 25)
    files = mine_blocks(work, indexed, draft, SearchSettings(K, num_shards=3), kill_one)
    assert len(set(killed)) == 3
    assert sorted(ended) == [block.name for block in work]
    scores, ids = found(draft, files)
    want_scores, want_ids = brute_force(x, K)
    np.testing.assert_array_equal(ids, want_ids)
    np.testing.assert_array_equal(scores, want_scores)


DRIVER = """
import os, signal, sys
import ray
from rayscan.artifacts import Draft
from rayscan.fleet.shards import mine_blocks
from rayscan.fleet.search_settings import SearchSettings
from rayscan.storage import Place
from rayscan.vectors.merge import blocks
from rayscan.vectors.parts import EmbeddingRows
from tests.fleet.test_mine_actors import K, STEP
from testing.matrices import collapsed, embedded, planted

ended = []
def die_after_five(block, was_there):
    ended.append(block)
    if len(ended) == 5:
        os.kill(os.getpid(), signal.SIGKILL)

ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
root = Place(sys.argv[1])
representatives, indexed = collapsed(EmbeddingRows(embedded(root, planted())), K)
settings = SearchSettings(K, num_shards=3)
mine_blocks(blocks(representatives, 25), indexed, Draft(root, STEP), settings, die_after_five)
"""


def test_a_killed_driver_resumes_from_its_finished_blocks(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    x = planted()
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), x))
    representatives, indexed = collapsed(rows, K)
    work = blocks(representatives, 25)
    draft = Draft(Place(str(tmp_path)), STEP)
    time.sleep(1.0)  # an owner of the killed driver may be writing its last part still
    before = {block.name: part for block in work if (part := draft.finished_part(block.name))}
    assert 5 <= len(before) < len(work) == 25
    damaged = min(before)
    (tmp_path / STEP.directory / before[damaged][0]["ids"].path).unlink()

    redone: list[str] = []
    taken: list[str] = []
    files = mine_blocks(
        work,
        indexed,
        draft,
        SearchSettings(K, num_shards=2),
        lambda b, was_there: (taken if was_there else redone).append(b.name),
    )
    assert set(taken) >= set(before) - {damaged}
    assert damaged in redone and len(redone) + len(taken) == 25
    after = {block.name: part for block, part in zip(work, files, strict=True)}
    for name in set(before) - {damaged}:
        assert after[name] == before[name][0]  # the very files of the first driver
    scores, ids = found(draft, files)
    want_scores, want_ids = brute_force(x, K)
    np.testing.assert_array_equal(ids, want_ids)
    np.testing.assert_array_equal(scores, want_scores)


def test_a_run_that_fails_publishes_nothing_and_leaves_no_actor(tmp_path):
    x = planted()
    x[300] = np.nan
    with pytest.raises(DataError, match="not finite rows of unit length"):
        run_stage(Place(str(tmp_path)), embedded(Place(str(tmp_path / "in")), x), num_shards=3)
    assert not list(tmp_path.glob("mine-*/manifest.json"))

    rows = EmbeddingRows(embedded(Place(str(tmp_path)), planted()))
    representatives, indexed = collapsed(rows, K)
    broken = replace(indexed, uniques=indexed.uniques + 1000)  # rows that do not exist: a shard cannot load
    with pytest.raises((DataError, FleetError), match="rows are outside the embeddings"):
        mine_blocks(
            blocks(representatives, 100),
            broken,
            Draft(Place(str(tmp_path)), STEP),
            SearchSettings(K, 3),
            lambda *_: None,
        )
    assert not left_after_a_while()
