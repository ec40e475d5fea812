"""Random trials of `rayscan search` on files of features, in this process, and the vote of the best.

A file is cut to a seeded sample of 1,500 rows, unit rows are turned to their 128 leading right singular
vectors, which nearly keeps their inner products: a trial takes a second or two. Values, trials, finalists and
vote are made by the search's own functions; Ray places nothing. Trials are artifacts in the run: the same
command goes on. All values are drawn at the start, so that they do not hang on where it was cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.clustering import load as load_file
from benchmarks.search_criteria import SIGNS, gates, spearman
from benchmarks.search_outcome import accuracy, measure
from benchmarks.stored_features import stored
from rayscan.config import OptimizerConfig, Recipe, ScanLossConfig, SelfLabelConfig
from rayscan.consensus.neighbors import unit_rows
from rayscan.search.finalists import choose, compare
from rayscan.search.space import Space, make_space
from rayscan.search.stored_trials import Trial
from rayscan.search.study import Study
from rayscan.search.trial import SearchSetup, prepare, run_trial, train_heads
from rayscan.search.vote import VOTE, VoteTask, vote_trials, voters
from rayscan.storage import Place

ROWS, WIDTH = 1_500, 128
FINALISTS, SEEDS = 3, 3
AT_ONCE = 32
"""Trials of a set before the next set has its turn."""
ADAM = OptimizerConfig(kind="adam", learning_rate=0.05, weight_decay=0.0)
SCAN = ScanLossConfig(
    inputs="embeddings", num_heads=2, head_epochs=50, head_optimizer=ADAM, heldout_fraction=0.2
)
SELFLABEL = SelfLabelConfig(inputs="embeddings", epochs=20, optimizer=ADAM, ema_decay=0.9)


@dataclass(frozen=True)
class FileSearch:
    """A search on a file of features."""

    name: str
    setup: SearchSetup
    classes: NDArray[np.int64]
    """[N], read when trials have ended."""


def opened(path: Path, runs: Path, axes: Sequence[str], seed: int) -> FileSearch:
    """The search on a file of `features` and `labels`, or on scikit-learn's digits by the path "digits".

    Args:
        path: The file.
        runs: Folder of all runs.
        axes: Of the space, as for `rayscan search --space`.
        seed: Of the search.
    """
    features, classes = load_file(path.parent, path.stem)
    kept = np.sort(np.random.default_rng(0).permutation(len(features))[:ROWS])
    recipe = Recipe(
        name="file", num_clusters=int(classes.max()) + 1, scan=SCAN, selflabel=SELFLABEL, seed=seed
    )
    out = Place(str(runs / f"{path.stem}-{seed}"))
    inputs = stored(out, turned(unit_rows(features[kept])))
    setup = SearchSetup(make_space(recipe, axes, from_images=False), inputs, out)
    prepare(setup)
    return FileSearch(path.stem, setup, classes[kept])


def turned(units: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit rows [N, <= 128] in the leading right singular vectors of unit rows [N, D]."""
    if units.shape[1] <= WIDTH:
        return units
    _, directions = np.linalg.eigh(units.T @ units)
    return unit_rows(units @ directions[:, ::-1][:, :WIDTH])


def drawn(space: Space, count: int, seed: int) -> list[dict[str, Any]]:
    """Values of the trials."""
    study = Study(space.axes, seed=seed, sampler="random")
    return [study.ask(str(number)) for number in range(count)]


def trial(setup: SearchSetup, values: Mapping[str, Any], seed: int) -> Trial:
    """A trial, or what it found if it has been done."""
    facts = run_trial(setup, values, seed, lambda _rung, _value: None, train_heads)
    return Trial(setup.step(values, seed).directory, dict(values), seed, facts)


def judged(search: FileSearch, trials: Sequence[Trial]) -> dict[str, Any]:
    """Criteria against ACC, and what the search hands over: its vote, its best trial, its settings.

    Args:
        search: The set.
        trials: Those of the search's own seed, ended.
    """
    setup = search.setup
    num_clusters = setup.space.base.clusters

    def rerun(asked: list[tuple[Any, int]]) -> list[Trial]:
        return [trial(setup, values, seed) for values, seed in asked]

    finalists = compare(setup, choose(trials, FINALISTS), SEEDS, rerun)
    others = [one for found in finalists for one in found.trials[1:]]
    vote = vote_trials(VoteTask(setup, voters([*trials, *others], setup)))
    labels = pq.read_table(pa.BufferReader(setup.out.read(VOTE)))["cluster"].to_numpy()
    scored = [one for one in trials if "score" in one.facts]
    columns = measure(setup, scored, search.classes)
    reached = measure(setup, finalists[0].trials, search.classes)["acc"]
    best = float(columns["acc"].max())
    return {
        "rows": len(search.classes),
        "clusters": num_clusters,
        "gates": gates(columns, scored, num_clusters),
        "voters": vote.voters,
        "score_vote": vote.score,
        "acc_vote": accuracy(labels, search.classes, setup),
        "acc_pick": float(columns["acc"][columns["score"].argmax()]),
        "acc_settings": float(np.mean(reached)),
        "acc_best": best,
        "trials": {name: values.tolist() for name, values in columns.items()},
    }


def run(paths: Sequence[Path], runs: Path, axes: Sequence[str], seed: int, count: int) -> dict[str, Any]:
    """Trials of every file, `AT_ONCE` of one and then of the next; then what they show, labels read last.

    Args:
        paths: Files of features.
        runs: Folder of all runs.
        axes: Of the space.
        seed: Of the searches.
        count: Trials a file.

    Returns:
        By set what `judged` says.
    """
    for first in range(0, count, AT_ONCE):
        for path in paths:
            search = opened(path, runs, axes, seed)
            chosen = drawn(search.setup.space, count, seed)[first : first + AT_ONCE]
            done = [trial(search.setup, values, seed) for values in chosen]
            print(f"{search.name}: trials {first + 1} to {first + len(done)}", flush=True)
    found = {}
    for path in paths:
        search = opened(path, runs, axes, seed)
        trials = [trial(search.setup, values, seed) for values in drawn(search.setup.space, count, seed)]
        found[search.name] = judged(search, trials)
    return found


def across(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What all sets together show: means over sets, and whether S of the votes ranks with their ACC."""
    sets = list(found.values())
    means = {
        f"{figure}_{name}": float(np.mean([one["gates"]["all"][name][figure] for one in sets]))
        for name in SIGNS
        for figure in ("spearman", "regret")
    }
    lost = [one["acc_best"] - one["acc_vote"] for one in sets]
    means["regret_vote"] = float(np.mean(lost))
    if len(sets) > 2:
        means["spearman_across_sets"] = spearman(
            np.array([one["score_vote"] for one in sets]), np.array([one["acc_vote"] for one in sets])
        )
    return means


def markdown(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a set."""
    heads = ["set", "C", "trials", "ACC of trials", *(f"rho {name}" for name in SIGNS)]
    heads += ["S of the vote", "ACC of the vote", "regret of the vote", "of the best S", "of the settings"]
    text = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, one in found.items():
        every = one["gates"]["all"]
        cells = [name, str(one["clusters"]), str(every["trials"])]
        cells += [f"{every['acc_min']:.3f} to {every['acc_max']:.3f}"]
        cells += [f"{every[criterion]['spearman']:+.2f}" for criterion in SIGNS]
        cells += [f"{one['score_vote']:.3f}", f"{one['acc_vote']:.3f}"]
        lost = (one["acc_best"] - one[key] for key in ("acc_vote", "acc_pick", "acc_settings"))
        text.append("| " + " | ".join([*cells, *(f"{value:.3f}" for value in lost)]) + " |")
    return "\n".join(text) + "\n"
