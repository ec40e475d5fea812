"""Does the score of `rayscan search` follow the true accuracy? A campaign of random trials, labels read last.

    python -m benchmarks.search_evidence --set digits --runs runs/search-evidence --json digits.json
    python -m benchmarks.search_evidence --set cifar10 --data ../setup/data --json cifar10.json
    python -m benchmarks.search_evidence --set features:dtd10_lite0.npz,digits --trials 96 --json f.json

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

Files of features (`benchmarks.search_files`) are searched in this process. There regret is also that of the
vote, and the vote's score and ACC are ranked across the sets.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import search_files
from benchmarks.harness import Goal, Options, Report
from benchmarks.search_criteria import SIGNS, Floats, gates, show
from benchmarks.search_outcome import accuracy, measure
from rayscan import pipeline
from rayscan.artifacts import Artifact, load
from rayscan.config import OptimizerConfig, Recipe, SimCLRConfig
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.data.digits import write_digits
from rayscan.fleet.connect import Fleet
from rayscan.lock import RunLock
from rayscan.recipes import by_name
from rayscan.search import stored_trials
from rayscan.search.driver import SHARED_STAGES, search
from rayscan.search.finalists import Finalist
from rayscan.search.plan import Plan
from rayscan.search.space import Space, make_space
from rayscan.search.trial import CLUSTERS, SearchSetup, prepared
from rayscan.stages import labels
from rayscan.storage import Place

HEADS = 10
TRIALS = 64
AXES = ("scan.entropy_weight=0.1:100:log", "scan.num_neighbors=5,10,20,50", "selflabel.threshold=0.5:0.999")
FILES = "features:"
GOALS: dict[str, Goal] = {"spearman": (">=", 0.85), "regret": ("<=", 0.02)}
FILE_GOALS: dict[str, Goal] = {"spearman": (">=", 0.75), "regret": ("<=", 0.03)}
"""Means over sets; the regret is that of the vote."""


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
    return make_space(replace(recipe, scan=scan), AXES, from_images=False)


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
    return setup, labels.read_classes(known, int(anchors.max()) + 1).of[anchors]


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


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", default="digits", help="digits, cifar10, or features:FILE[,FILE...]")
    parser.add_argument("--runs", type=Path, default=Path("runs/search-evidence"))
    parser.add_argument("--data", type=Path, default=Path("../setup/data"), help="folder that holds cifar10/")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="of files of features: the table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="12 trials after one or two pretext epochs")
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args(given)
    if asked.set not in ("digits", "cifar10") and not asked.set.startswith(FILES):
        parser.error(f"--set {asked.set}: known are digits, cifar10 and {FILES}FILE[,FILE...]")
    return asked


def on_files(asked: argparse.Namespace) -> None:
    """Run or go on with files of features, then judge them all."""
    paths = [Path(text) for text in asked.set.removeprefix(FILES).split(",")]
    count = 12 if asked.quick else asked.trials
    found = search_files.run(paths, asked.runs, AXES, asked.seed, count)
    report = Report(Options(asked.quick, asked.json, 3), "search_evidence_features")
    goals = {"spearman_score": FILE_GOALS["spearman"], "regret_vote": FILE_GOALS["regret"]}
    for name, value in search_files.across(found).items():
        report.value(name, value, goal=goals.get(name))
    report.detail("sets", found)
    report.finish()
    if asked.markdown:
        asked.markdown.write_text(search_files.markdown(found), encoding="ascii")


def main(given: Sequence[str] | None = None) -> None:
    """Run or go on, then judge."""
    asked = arguments(given)
    if asked.set.startswith(FILES):
        on_files(asked)
        return
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
