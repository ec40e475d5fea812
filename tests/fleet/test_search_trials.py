"""One trial and the store of many, in this process: no Ray is started, though the stages can reach it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from rayscan.artifacts import Artifact, Draft, Step, load
from rayscan.config import FleetConfig, MineConfig, OptimizerConfig, Recipe, ScanLossConfig, SelfLabelConfig
from rayscan.engine.tensors import pack
from rayscan.objectives.pretexts import build_projected_net
from rayscan.objectives.selection import HeldoutGraph
from rayscan.search import finalists, stored_trials
from rayscan.search.space import make_space
from rayscan.search.trial import CLUSTERS, SearchSetup, run_trial, train_heads
from rayscan.stages import scan, selflabel
from rayscan.storage import Place
from rayscan.training.fit import alone, fit
from rayscan.training.job import TrainJob
from rayscan.training.models import heads_from, load_heads
from rayscan.vectors.neighbor_table import neighbor_ids
from testing.matrices import brute_force, embedded, unit

SPACE = ["scan.entropy_weight=0:10", "scan.num_neighbors=3,6", "selflabel.threshold=0.3:0.9"]
GOOD = {"scan.entropy_weight": 5.0, "scan.num_neighbors": 3, "selflabel.threshold": 0.5}
ADAM = OptimizerConfig(kind="adam", learning_rate=0.05, weight_decay=0.0)
TAUGHT = SelfLabelConfig(epochs=2, batch_size=64, optimizer=ADAM, ema_decay=0.5)
B = "backbone.safetensors"
RECIPE = Recipe(
    name="test",
    num_clusters=4,
    mine=MineConfig(num_neighbors=6),
    scan=ScanLossConfig(
        num_neighbors=3,
        num_heads=3,
        head_epochs=18,
        head_batch_size=32,
        head_optimizer=ADAM,
        heldout_fraction=0.2,
    ),
    selflabel=TAUGHT,
    fleet=FleetConfig(log_every_steps=1),
)


def grouped(seed: int = 0) -> np.ndarray:
    """200 unit rows in 4 noisy groups, 12 dimensions."""
    rng = np.random.default_rng(seed)
    return unit(rng.normal(size=(4, 12))[np.arange(200) % 4] + 0.35 * rng.normal(size=(200, 12)))


def mined(place: Place, x: np.ndarray, k: int) -> Artifact:
    """A mine artifact by brute force."""
    scores, ids = brute_force(x, k)
    table = pa.table({"gid": np.arange(len(x)), "ids": list(ids), "scores": list(scores)})
    draft = Draft(place, Step("mine", 1, {"k": k}))
    return draft.commit({"neighbors.parquet": draft.write_table("neighbors.parquet", table)})


def make_setup(
    tmp_path: Path,
    k: int = 6,
    recipe: Recipe = RECIPE,
    texts: list[str] = SPACE,
    x: np.ndarray = grouped(),  # noqa: B008
) -> SearchSetup:
    place = Place(str(tmp_path / "in"))
    space = make_space(recipe, texts, from_images=False)
    index = Draft(place, Step("index", 1, {})).commit({}, facts={"train": len(x)})
    inputs = {"index": index, "embed": embedded(place, x), "mine": mined(place, x, k)}
    return SearchSetup(space, inputs, Place(str(tmp_path / "run")))


def ran(setup: SearchSetup, values: dict, seed: int = 0, rungs: list | None = None) -> dict:
    return run_trial(
        setup, values, seed, lambda r, v: None if rungs is None else rungs.append((r, v)), train_heads
    )


def test_a_trial_finds_the_groups_reports_at_its_rungs_and_is_done_once(tmp_path: Path) -> None:
    setup, rungs = make_setup(tmp_path), []
    facts = ran(setup, GOOD, rungs=rungs)
    assert facts["status"] == "finished"
    assert [r for r, _ in rungs] == [1, 2]
    assert facts["rungs"] == {str(r): v for r, v in rungs}
    trial = stored_trials.find_trial(setup, GOOD, 0)
    assert trial is not None
    clusters = load(setup.out.child(trial.name)).read_array(CLUSTERS)
    purity = sum(np.bincount(clusters[g::4]).max() for g in range(4)) / 200
    assert purity > 0.9
    assert facts["score"] == pytest.approx((2 * facts["nmi_nn"] + facts["cv_mi"]) / 3)
    before = (Path(setup.out.uri) / trial.name / "manifest.json").stat().st_mtime_ns
    assert ran(setup, GOOD) == facts
    assert (Path(setup.out.uri) / trial.name / "manifest.json").stat().st_mtime_ns == before
    assert not list(Path(setup.run.uri).glob(".work/search/*"))


def test_a_trial_is_what_the_stages_would_do(tmp_path: Path) -> None:
    """The heads that scan and selflabel write for the trial's recipe give the trial's clusters."""
    setup, seed = (
        make_setup(tmp_path, recipe=replace(RECIPE, selflabel=replace(TAUGHT, keep_better=False))),
        3,
    )
    ran(setup, GOOD, seed)
    trial = stored_trials.find_trial(setup, GOOD, seed)
    assert trial is not None
    recipe = setup.recipe(GOOD, seed)
    place = Place(str(tmp_path / "stages"))
    draft = Draft(place, Step("pretext", 1, {}))
    weights = pack(build_projected_net(recipe.pretext).state_dict())
    inputs = {**setup.inputs, "pretext": draft.commit({B: draft.write(B, weights)})}
    scanned = Draft(place, Step("scan", 1, {}))
    job = TrainJob(recipe, inputs, scanned, place.child("work", "scan"), "embeddings")
    scan.train_worker(job, alone())
    files, facts = scanned.finished_part(scan.HEADS)  # type: ignore[misc]
    inputs["scan"] = scanned.commit(files, facts=facts)
    taught = Draft(place, Step("selflabel", 1, {}))
    job = TrainJob(recipe, inputs, taught, place.child("work", "selflabel"), "embeddings")
    made = selflabel.train_worker(job, alone())
    head = load_heads(taught.commit(made.files))
    logits = head(torch.from_numpy(grouped())).detach()
    clusters = logits[0].argmax(1)
    assert load(setup.out.child(trial.name)).read_array(CLUSTERS).tolist() == clusters.tolist()
    graph = HeldoutGraph.build(np.arange(200), *neighbor_ids(setup.inputs["mine"], 5))
    assert trial.facts["scan_val_loss"] == pytest.approx(float(graph.losses(logits)[0]), rel=1e-6)
    assert trial.facts["confident"] == made.facts["confident"][-1]
    assert trial.facts["heldout_loss"] == facts["heads"]["best_loss"]


def test_a_trial_starts_from_groupings_and_keeps_the_vote_as_the_stage_does(tmp_path: Path) -> None:
    learned = replace(RECIPE.scan, inputs="embeddings", start="grouping", keep="consensus")
    untaught = replace(RECIPE, scan=learned, selflabel=replace(TAUGHT, epochs=0))
    setup = make_setup(tmp_path, recipe=untaught, texts=SPACE[:2])
    values = {path: GOOD[path] for path in ("scan.entropy_weight", "scan.num_neighbors")}
    facts = ran(setup, values)
    assert facts["status"] == "finished"
    trial = stored_trials.find_trial(setup, values, 0)
    assert trial is not None
    clusters = load(setup.out.child(trial.name)).read_array(CLUSTERS)
    assert sum(np.bincount(clusters[g::4]).max() for g in range(4)) / 200 > 0.95
    recipe = setup.recipe(values, 0)
    draft = Draft(Place(str(tmp_path / "stages")), Step("scan", 1, {}))
    job = TrainJob(recipe, setup.inputs, draft, Place(str(tmp_path / "work")), "embeddings")
    source = job.source("cpu")
    objective, schedule = scan.build(job, source, "cpu")
    fit(job, alone(), objective, source, schedule)
    head, told = scan.kept_head(job, objective, source)
    assert (heads_from(head)(torch.from_numpy(grouped()))[0].argmax(1).numpy() == clusters).all()
    assert told["voters"] >= 1
    assert any((one != head["weight"][0]).any() for one in objective.module.weight), "no head, their vote"


def test_k_is_a_slice_of_the_largest_k(tmp_path: Path) -> None:
    """The same trial from six mined neighbors, and from three by themselves, as the base recipe has K = 3.

    The graph of the score has five neighbors, so fewer than five are never mined: 5 and 6 here.
    """
    wide, narrow = make_setup(tmp_path / "a", k=6), make_setup(tmp_path / "b", k=5)
    assert wide.key == narrow.key
    assert wide.step(GOOD, 0) == narrow.step(GOOD, 0)
    a, b = ran(wide, GOOD), ran(narrow, GOOD)
    assert {**a, "seconds": 0} == {**b, "seconds": 0}
    assert ran(wide, {**GOOD, "scan.num_neighbors": 6})["train_loss"] != a["train_loss"]


def test_a_collapsed_trial_is_rejected_with_its_reason_and_told_as_worse_than_any(tmp_path: Path) -> None:
    """Images that are all but equal, and nothing that spreads them: all in one cluster."""
    alike = unit(1 + 1e-3 * np.random.default_rng(0).normal(size=(200, 12)))
    setup, flat = make_setup(tmp_path / "a"), make_setup(tmp_path / "b", x=alike)
    ran(flat, {**GOOD, "scan.entropy_weight": 0.0})
    ran(setup, GOOD)
    (bad,), (good,) = stored_trials.read_trials(flat)[0], stored_trials.read_trials(setup)[0]
    assert (bad.status, good.status) == ("rejected", "finished")
    assert bad.facts["reason"] == "100.0% of the images in 1 of 4 clusters"
    assert (bad.outcome().value or 0) < 0 < (good.outcome().value or 0)
    assert finalists.choose([bad, good], 3) == [good]
    table = stored_trials.table([bad, good], setup)
    assert table["status"].to_pylist() == ["finished", "rejected"]
    assert table["scan.entropy_weight"].to_pylist() == [5.0, 0.0]


def test_a_loss_that_is_not_finite_rejects_the_trial(tmp_path: Path) -> None:
    wild = replace(RECIPE.scan, head_optimizer=OptimizerConfig(kind="sgd", learning_rate=1e30))
    setup = make_setup(tmp_path, recipe=replace(RECIPE, scan=wild))
    facts = ran(setup, GOOD)
    assert facts["status"] == "rejected"
    assert "not finite" in facts["reason"]
    assert stored_trials.find_trial(setup, GOOD, 0).outcome().value == -1.0  # type: ignore[union-attr]


def test_the_store_knows_what_ended_what_was_cut_and_what_is_another_search(tmp_path: Path) -> None:
    setup = make_setup(tmp_path)
    ran(setup, GOOD)
    ran(setup, GOOD, seed=1)  # a finalist's other seed
    step = setup.step({**GOOD, "selflabel.threshold": 0.7}, 0)
    begun = {"search": setup.key, "values": {**GOOD, "selflabel.threshold": 0.7}, "seed": 0}
    Draft(setup.out, step).finish_part("started", {}, begun)
    setup.out.write("trial-000000000000/parts/started.json", b"{")  # torn
    stopped = {**GOOD, "selflabel.threshold": 0.8}
    stored_trials.commit_stopped(setup, stopped, 0, {"status": "stopped", "reason": "", "rungs": {"1": 0.25}})
    ended, cut = stored_trials.read_trials(setup)
    assert sorted((t.status, t.seed) for t in ended) == [("finished", 0), ("finished", 1), ("stopped", 0)]
    assert cut == [begun["values"]]
    outcome = next(t for t in ended if t.status == "stopped").outcome()
    assert (outcome.is_stopped, outcome.steps) == (True, {1: 0.25})
    other = make_setup(tmp_path, recipe=replace(RECIPE, num_clusters=5))
    assert stored_trials.read_trials(other) == ([], [])
    mutual = make_setup(tmp_path, recipe=replace(RECIPE, mine=replace(RECIPE.mine, mutual=5)))
    assert stored_trials.read_trials(mutual) == ([], [])
    narrower = make_setup(tmp_path, texts=[SPACE[0], SPACE[1], "selflabel.threshold=0.3:0.6"])
    assert narrower.key == setup.key
    assert [t.values for t in stored_trials.read_trials(narrower)[0]] == [GOOD, GOOD]  # those that lie in it
    assert stored_trials.read_trials(narrower)[1] == []


def test_finalists_are_ranked_by_the_mean_over_seeds_then_by_agreement(tmp_path: Path) -> None:
    setup = make_setup(tmp_path)
    one, two = GOOD, {**GOOD, "scan.num_neighbors": 6}
    for values in (one, two):
        ran(setup, values)
    best = finalists.choose(stored_trials.read_trials(setup)[0], 2)

    def again(asked: list) -> list:
        return [
            t
            for values, seed in asked
            if ran(setup, values, seed) and (t := stored_trials.find_trial(setup, values, seed))
        ]

    ranked = finalists.compare(setup, best, 3, again)
    assert [[t.seed for t in f.trials] for f in ranked] == [[0, 1, 2]] * 2
    for f in ranked:
        assert f.mean == pytest.approx(np.mean([t.score for t in f.trials]))
        grouping = [load(setup.out.child(t.name)).read_array(CLUSTERS) for t in f.trials]
        assert f.stability == pytest.approx(
            np.mean([naive_ari(grouping[i], grouping[j]) for i, j in ((0, 1), (0, 2), (1, 2))])
        )
    assert ranked[0].rank() >= ranked[1].rank()
    rejected = finalists.Finalist(
        [best[0], replace(best[0], facts={"status": "rejected", "score": 0.9})], 1.0
    )
    assert rejected.mean == pytest.approx((best[0].score or 0) / 2)


def naive_ari(a: np.ndarray, b: np.ndarray) -> float:
    """Over all pairs of images: (agreements - expected) / (best - expected)."""
    same_a, same_b = (np.equal.outer(v, v)[np.triu_indices(len(v), 1)] for v in (a, b))
    both, pairs = (same_a & same_b).sum(), len(same_a)
    expected = same_a.sum() * same_b.sum() / pairs
    return (both - expected) / ((same_a.sum() + same_b.sum()) / 2 - expected)
