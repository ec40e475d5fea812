"""The vote of a search's better quarter, in this process: no Ray is started, though stages can reach it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from rayscan.artifacts import Draft
from rayscan.metrics.contingency import Contingency
from rayscan.metrics.scores import partition_scores
from rayscan.search import vote
from rayscan.search.stored_trials import Trial, find_trial
from rayscan.search.trial import CLUSTERS, SearchSetup, prepared
from rayscan.search.vote import VOTE, VoteTask, agreed, vote_trials, voters
from tests.fleet.test_search_trials import GOOD, make_setup

TRUTH = np.arange(200) % 4


def stored(setup: SearchSetup, threshold: float, clusters: np.ndarray) -> Trial:
    """A finished run with these clusters and the score they have."""
    values = {**GOOD, "selflabel.threshold": threshold}
    draft = Draft(setup.out, setup.step(values, 0))
    files = {CLUSTERS: draft.write_array(CLUSTERS, clusters.astype(np.int32))}
    facts = {"status": "finished", "reason": "", **prepared(setup)[1].score(clusters)}
    draft.commit(files, facts=facts)
    found = find_trial(setup, values, 0)
    assert found is not None
    return found


def wrong(share: float, seed: int) -> np.ndarray:
    """The groups with other numbers, a share of the images in any cluster."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(200) < share, rng.integers(0, 4, 200), rng.permutation(4)[TRUTH])


def accuracy(clusters: np.ndarray) -> float:
    return partition_scores(Contingency.count(clusters, TRUTH, 4, 4))["acc"]


def test_three_runs_that_err_elsewhere_vote_better_than_each(tmp_path: Path) -> None:
    setup = make_setup(tmp_path)
    runs = [stored(setup, 0.3 + 0.1 * i, wrong(0.15, i)) for i in range(3)]
    runs = [Trial(r.name, r.values, r.seed, {**r.facts, "score": 0.8}) for r in runs]  # equal voices
    found = vote_trials(VoteTask(setup, runs))
    table = pq.read_table(Path(setup.out.uri) / VOTE)
    assert table["gid"].to_pylist() == list(range(200))
    clusters = table["cluster"].to_numpy()
    each = [accuracy(wrong(0.15, i)) for i in range(3)]
    assert accuracy(clusters) > max(each)
    assert found.score == prepared(setup)[1].score(clusters)["score"]
    assert (np.diff(np.bincount(clusters)) <= 0).all(), "the largest cluster is 0"
    unanimous = sum(wrong(0.15, i) == _same(wrong(0.15, i)) for i in range(3)) == 3
    sure = table["agreement"].to_numpy()
    assert sure[unanimous].min() > sure[~unanimous].mean()
    assert "3 runs of the better quarter" in found.in_words()


def _same(clusters: np.ndarray) -> np.ndarray:
    """The cluster that most of an image's group have."""
    most = np.array([np.bincount(clusters[g == TRUTH], minlength=4).argmax() for g in range(4)])
    return most[TRUTH]


def test_the_better_quarter_votes_and_not_what_has_no_weight(tmp_path: Path) -> None:
    setup = make_setup(tmp_path)

    def run(name: str, score: float, status: str = "finished") -> Trial:
        return Trial(name, {}, 0, {"status": status, "score": score})

    runs = [run(f"t{i:02d}", 0.8 - 0.001 * i) for i in range(20)]
    refused = [run("r", 0.99, "rejected"), Trial("s", {}, 0, {"status": "stopped"})]
    assert [r.name for r in voters([*runs[::-1], *refused], setup)] == ["t00", "t01", "t02", "t03", "t04"]
    assert len(voters(runs[:2], setup)) == 2, "few runs vote all"
    far = [run("a", 0.8), run("b", 0.7), run("c", 0.75)]  # exp(-0.05 / 0.01) is 0.7 %
    assert [r.name for r in voters(far, setup)] == ["a", "c"]


def test_images_beyond_the_sample_get_the_cluster_of_their_voters(monkeypatch: pytest.MonkeyPatch) -> None:
    groupings = [wrong(0.1, i) for i in range(5)]
    weights = np.full(5, 0.2)
    whole = agreed(groupings, weights, 4, [0])
    monkeypatch.setattr(vote, "DRAWN", 120)
    part = agreed(groupings, weights, 4, [0])
    assert len(part) == 200
    table = Contingency.count(whole, part, 4, 4)
    assert partition_scores(table)["acc"] > 0.97
    assert accuracy(part) > max(accuracy(g) for g in groupings)
