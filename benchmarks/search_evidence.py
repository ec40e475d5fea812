"""Does the score of `rayscan search` follow the true accuracy? A campaign of random trials, labels read last.

    python -m benchmarks.search_evidence --set digits --runs runs/search-evidence --json digits.json
    python -m benchmarks.search_evidence --set cifar10 --data ../setup/data --json cifar10.json

Trials are drawn at random over a space wider than the default one, none is stopped early, so that good and
bad ones are there. They are heads on cached embeddings: of the digits recipe's pretext, or of a short pretext
on 5,000 pictures of CIFAR-10. Cut it at any time: the same command goes on. Only when all trials have ended
are labels opened. For the score, its two parts, the training loss, SCAN's validation loss and the silhouette:

    spearman_*   rank correlation with ACC over the trials
    regret_*     ACC of the best trial less ACC of the trial with the best value
    regret_pick  the same for the settings that the search writes, mean ACC over its seeds

over all trials, over those that are not degenerate, and over those that pass a strict gate (95 % of the
clusters in use, balance 0.8), with 95 % intervals from 2,000 bootstrap samples of the trials. `--quick`: 12
trials after one or two pretext epochs, which shows that it works and no more.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Options, Report
from rayscan import pipeline
from rayscan.artifacts import Artifact, load
from rayscan.config import OptimizerConfig, Recipe, SimCLRConfig
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.data.digits import write_digits
from rayscan.fleet.connect import Fleet
from rayscan.lock import RunLock
from rayscan.metrics.contingency import Contingency
from rayscan.metrics.scores import partition_scores
from rayscan.recipes import by_name
from rayscan.search import stored_trials
from rayscan.search.driver import SHARED_STAGES, search
from rayscan.search.finalists import Finalist
from rayscan.search.plan import Plan
from rayscan.search.space import Space, make_space
from rayscan.search.trial import CLUSTERS, SearchSetup, prepared
from rayscan.stages import evaluate, labels
from rayscan.storage import Place

HEADS = 10
TRIALS = 64
BOOTSTRAPS = 2_000
SIGNS = {"score": 1, "nmi_nn": 1, "cv_mi": 1, "train_loss": -1, "scan_val_loss": -1, "silhouette": 1}
"""Criteria, and whether more is better."""
RIVALS = ("train_loss", "scan_val_loss", "silhouette")
GOALS = {"spearman": (">=", 0.85), "regret": ("<=", 0.02)}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Set:
    """A set of pictures and how it is embedded."""

    recipe: Recipe
    search_sources: Sources
    """Without labels."""
    label_sources: Sources
    """For afterwards."""


def digits(place: Path) -> Set:
    """The demo's digits."""
    written = write_digits(Place(str(place / "data")))
    recipe = by_name("digits")
    sources = Sources(
        written.train, written.eval
    )  # as in the demo, so that its early stages can be taken over
    return Set(recipe, sources, replace(sources, labels=written.labels))


def cifar10(data: Path) -> Set:
    """5,000 train pictures; labels lie inside the shards."""
    shard = str((data / "cifar10" / "cifar10-train-000000.tar").resolve())
    pretext = SimCLRConfig(
        backbone="resnet10_w16",
        stem="cifar",
        projection_dim=64,
        temperature=0.5,
        views="simclr",
        epochs=20,
        batch_size=250,
        optimizer=OptimizerConfig(kind="adam", learning_rate=2e-3, weight_decay=1e-5, warmup_epochs=2),
    )
    recipe = replace(by_name("cifar10"), pretext=pretext)
    recipe = replace(
        recipe,
        embed=replace(recipe.embed, space="backbone"),
        scan=replace(recipe.scan, heldout_fraction=0.2, head_optimizer=by_name("digits").scan.head_optimizer),
        selflabel=by_name("digits").selflabel,
    )
    return Set(recipe, Sources(shard), Sources(shard))


def quick(recipe: Recipe) -> Recipe:
    """Hardly trained: it shows that everything works and no more."""
    return replace(
        recipe,
        pretext=replace(recipe.pretext, epochs=2 if recipe.name == "digits" else 1),
        scan=replace(recipe.scan, head_epochs=30),
        selflabel=replace(recipe.selflabel, epochs=5),
    )


def space_of(recipe: Recipe) -> Space:
    """Wider than the default, so that trials go wrong too."""
    scan = replace(recipe.scan, num_heads=HEADS, head_num_neighbors=None)
    axes = [
        "scan.entropy_weight=0.1:100:log",
        "scan.num_neighbors=5,10,20,50",
        "selflabel.threshold=0.5:0.999",
    ]
    return make_space(replace(recipe, scan=scan), axes, from_images=False)


def truth(pictures: Set, space: Space, out: Place) -> tuple[SearchSetup, NDArray[np.int64]]:
    """The finished search's addresses, and the class of every train image. Labels are opened here alone."""
    progress = Progress()
    with RunLock(out), Fleet(space.base.fleet, out, progress.say) as fleet:
        context = Context(out, pictures.search_sources, fleet, progress)
        done: dict[str, Artifact] = {}
        for stage in SHARED_STAGES:
            done[stage.NAME], _ = pipeline.do(stage, space.base, done, context)
        opened = replace(context, sources=pictures.label_sources)
        known, _ = pipeline.do(labels, space.base, done, opened)
    setup = SearchSetup(space, {name: done[name] for name in done if name != labels.NAME}, out)
    anchors = prepared(setup)[1].anchors
    return setup, evaluate.read_classes(known, int(anchors.max()) + 1).of[anchors]


def measure(
    setup: SearchSetup, trials: Sequence[stored_trials.Trial], classes: NDArray[np.int64]
) -> dict[str, Floats]:
    """ACC and every criterion of each trial; nan where a trial has none."""
    from sklearn.metrics import silhouette_score

    features, _ = prepared(setup)
    x = features.plain(features.gids).numpy()
    columns: dict[str, list[float]] = {name: [] for name in ("acc", *SIGNS)}
    for trial in trials:
        clusters = load(setup.out.child(trial.name)).read_array(CLUSTERS)
        columns["acc"].append(accuracy(clusters, classes, setup))
        several = len(np.unique(clusters)) > 1
        shape = (
            silhouette_score(x, clusters, sample_size=min(len(x), 3000), random_state=0) if several else -1
        )
        facts = {**trial.facts, "silhouette": shape}
        for name in SIGNS:
            columns[name].append(float(facts[name]))
    return {name: np.array(values) for name, values in columns.items()}


def accuracy(clusters: NDArray[Any], classes: NDArray[np.int64], setup: SearchSetup) -> float:
    """ACC of the labelled train images, one to one."""
    known, count = classes >= 0, setup.space.base.num_clusters
    assert count is not None
    table = Contingency.count(clusters[known], classes[known], count, int(classes.max()) + 1)
    return partition_scores(table)["acc"]


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation, ties at their mean rank."""
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


def regret(acc: Floats, criterion: Floats) -> float:
    """ACC that is lost by trusting a criterion."""
    return float(acc.max() - acc[criterion.argmax()])


def judged(columns: Mapping[str, Floats], keep: NDArray[np.bool_]) -> dict[str, Any]:
    """Both figures for every criterion over some of the trials, with bootstrap intervals."""
    acc = columns["acc"][keep]
    values = {name: sign * columns[name][keep] for name, sign in SIGNS.items()}
    found: dict[str, Any] = {"trials": int(keep.sum()), "acc_min": acc.min(), "acc_max": acc.max()}
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, len(acc), len(acc)) for _ in range(BOOTSTRAPS)]
    ranks = {n: np.array([spearman(v[d], acc[d]) for d in drawn]) for n, v in values.items()}
    for name, value in values.items():
        lost = [regret(acc[d], value[d]) for d in drawn]
        found[name] = {
            "spearman": spearman(value, acc),
            "spearman_95": interval(ranks[name]),
            "regret": regret(acc, value),
            "regret_95": interval(np.array(lost)),
        }
        if name in RIVALS:
            found[name]["score_leads_by_95"] = interval(ranks["score"] - ranks[name])
    return found


def interval(values: Floats) -> list[float]:
    """The middle 95 %; resamples without any spread are left out."""
    return [float(q) for q in np.nanquantile(values, [0.025, 0.975])]


def gates(
    columns: Mapping[str, Floats], trials: Sequence[stored_trials.Trial], num_clusters: int
) -> dict[str, Any]:
    """Which trials are looked at."""
    whole = np.ones(len(trials), bool)
    accepted = np.array([t.status == "finished" for t in trials])
    strict = np.array(
        [t.facts["used_clusters"] >= 0.95 * num_clusters and t.facts["balance"] >= 0.8 for t in trials]
    )
    return {
        name: judged(columns, keep)
        for name, keep in (("all", whole), ("gated", accepted), ("strict", strict))
        if keep.sum() >= 5
    }


def pick_regret(
    best: Finalist, setup: SearchSetup, classes: NDArray[np.int64], columns: Mapping[str, Floats]
) -> Any:
    """What the written settings reach, over their seeds, beside the best trial of all."""
    reached = [
        accuracy(load(setup.out.child(t.name)).read_array(CLUSTERS), classes, setup) for t in best.trials
    ]
    return {
        "settings": dict(best.values),
        "acc_of_seeds": reached,
        "mean_acc": float(np.mean(reached)),
        "stability": best.stability,
        "regret_pick": float(columns["acc"].max() - np.mean(reached)),
    }


def show(found: Mapping[str, Any]) -> None:
    """Tables for docs/results/search.md."""
    for gate, result in found.items():
        print(
            f"\n{gate}: {result['trials']} trials, ACC {result['acc_min']:.3f} to {result['acc_max']:.3f}\n"
        )
        print("| criterion | Spearman with ACC | regret |\n|---|---|---|")
        for name in SIGNS:
            r = result[name]
            cells = [
                f"{r[k]:+.3f} ({r[f'{k}_95'][0]:+.3f} to {r[f'{k}_95'][1]:+.3f})"
                for k in ("spearman", "regret")
            ]
            print(f"| {name} | {cells[0]} | {cells[1].replace('+', '')} |")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", choices=("digits", "cifar10"), default="digits")
    parser.add_argument("--runs", type=Path, default=Path("runs/search-evidence"))
    parser.add_argument("--data", type=Path, default=Path("../setup/data"), help="folder that holds cifar10/")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="12 trials after one or two pretext epochs")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def main() -> None:
    """Run or go on, then judge."""
    asked = arguments()
    name = f"{asked.set}-quick" if asked.quick else asked.set
    pictures = cifar10(asked.data) if asked.set == "cifar10" else digits(asked.runs)
    out = Place(str(asked.runs / f"{name}-{asked.seed}"))
    recipe = replace(pictures.recipe, seed=asked.seed)
    space = space_of(quick(recipe) if asked.quick else recipe)
    plan = Plan(trials=12 if asked.quick else asked.trials, sampler="random", early_stopping=False)
    report = Report(Options(asked.quick, asked.json, 3), f"search_evidence_{name}")
    best = search(space, pictures.search_sources, out, plan)

    setup, classes = truth(pictures, space, out)
    trials = [t for t in stored_trials.read_trials(setup)[0] if t.seed == asked.seed and "score" in t.facts]
    print(f"{out.uri}: {len(trials)} trials with clusters")
    columns = measure(setup, trials, classes)
    assert space.base.num_clusters is not None
    found = gates(columns, trials, space.base.num_clusters)
    show(found)
    for gate, result in found.items():
        for criterion in SIGNS:
            for figure, goal in GOALS.items():
                is_ours = criterion == "score" and gate in ("all", "gated")
                report.value(
                    f"{figure}_{criterion}_{gate}", result[criterion][figure], goal=goal if is_ours else None
                )
    pick = pick_regret(best, setup, classes, columns)
    report.value("regret_pick", pick["regret_pick"], goal=GOALS["regret"])
    report.detail("pick", pick)
    report.detail("gates", found)
    report.detail(
        "trials", {n: v.tolist() for n, v in columns.items()} | {"values": [dict(t.values) for t in trials]}
    )
    report.finish()


if __name__ == "__main__":
    main()
