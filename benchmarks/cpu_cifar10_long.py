"""SCAN from scratch on all of CIFAR-10 with two cores: pretext, heads, fine-tuning, self-labelling.

    python -m benchmarks.cpu_cifar10_long --data ../shared/data/cifar10 [--out runs/cpu_cifar10_long]
                                          [--epochs 110] [--finetune-epochs 5]
                                          [--selflabel-epochs 12] [--seeds 0 1 2]
                                          [--steps heads scan ...] [--window SECONDS]
                                          [--write FILE.md] [--tiny]

50,000 train images, the 10,000 of the test split for scores. The pretext is that which `benchmarks.
pretext_trials` found to learn fastest; a seed is the paper's SCAN on its network: heads on cached features
(the best of ten by held-out loss), the whole network on images, self-labelling with one threshold and
with one per class; and the same from heads that start at the consensus. Beside it k-means and the
consensus of frozen features. Labels are read by evaluate
alone. The command resumes: run it again until it prints the tables. Its budget is counted in images seen.

Goals: weighted kNN >= 78, purity of 20 neighbors >= 62, SCAN after self-labelling >= 62 and 12 points over
k-means on the same features, self-labelling gains >= 3.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from benchmarks.campaign import Window, cifar10_options, scores_of
from benchmarks.cpu_cifar10 import by_number
from benchmarks.cpu_cifar10 import recipe as short_recipe
from benchmarks.harness import environment
from benchmarks.pretext_trials import GROWING
from rayscan.config import Recipe, SelfLabelConfig
from rayscan.recipes.cifar10 import ADAM

PRETEXT = replace(GROWING, backbone="resnet10_w48", optimizer=replace(GROWING.optimizer, learning_rate=3e-3))
"""Of equal arithmetic, what is wide and shallow learned faster than what is deep; and 3e-3 than 1e-3."""
PROBED = 50_000
"""Train images of the probes, which ask all 10,000 of the test split then."""
RIVALS = {"kmeans": "k-means", "consensus": "consensus"}
"""Methods that need no training -> what tables call them."""


@dataclass(frozen=True)
class Step:
    """A step of SCAN; it begins where an earlier one of the same start ended."""

    name: str
    """What tables call it."""
    trains: Literal["heads", "scan", "selflabel"]
    start: Literal["random", "consensus"] = "random"
    """Of the heads; those that start from the consensus vote, of others the best by held-out loss is kept."""
    threshold_kind: Literal["fixed", "per_class"] = "fixed"
    """Of self-labelling."""


STEPS = {
    "heads": Step("SCAN, heads on cached features", "heads"),
    "scan": Step("SCAN, fine-tuned on images", "scan"),
    "selflabel": Step("SCAN, self-labelled", "selflabel"),
    "selflabel_per_class": Step(
        "SCAN, self-labelled, a threshold per class", "selflabel", "random", "per_class"
    ),
    "start_heads": Step("from the consensus, heads", "heads", "consensus"),
    "start_scan": Step("from the consensus, fine-tuned", "scan", "consensus"),
    "start_selflabel": Step(
        "from the consensus, self-labelled, a threshold per class", "selflabel", "consensus", "per_class"
    ),
}


def pretext_recipe(epochs: int, *, is_tiny: bool) -> Recipe:
    """Features, their probes and what needs no training on them: k-means, and others by their name."""
    base = short_recipe(0, is_tiny=is_tiny)
    settings = base.pretext if is_tiny else replace(PRETEXT, epochs=epochs)
    return replace(
        base,
        name="cpu_cifar10_pretext",
        method="kmeans",
        pretext=settings,
        evaluate=replace(base.evaluate, probe_images=base.evaluate.probe_images if is_tiny else PROBED),
        fleet=replace(base.fleet, checkpoint_every_seconds=120.0),
    )


def seed_recipe(base: Recipe, seed: int, step: str, asked: argparse.Namespace) -> Recipe:
    """SCAN on the network of the pretext, as far as a step.

    Args:
        base: Of the pretext.
        seed: Of heads, pairs and views.
        step: One of `STEPS`.
        asked: The command line.
    """
    is_tiny, of = asked.tiny, STEPS[step]
    epochs = 0 if of.trains != "selflabel" else 1 if is_tiny else asked.selflabel_epochs
    return replace(
        base,
        name="cpu_cifar10_scan",
        method="scan",
        seed=seed,
        features=(f"checkpoint:{(asked.out / 'pretext').resolve()}",),
        scan=replace(
            base.scan,
            inputs="embeddings" if of.trains == "heads" else "both",
            start=of.start,
            keep="best" if of.start == "random" else "consensus",
            views="randaugment",
            epochs=1 if is_tiny else asked.finetune_epochs,
            batch_size=256,
            optimizer=ADAM,
        ),
        selflabel=SelfLabelConfig(
            threshold=0.3 if is_tiny else 0.99,
            threshold_kind=of.threshold_kind,
            epochs=epochs,
            batch_size=500,
            optimizer=ADAM,
        ),
    )


def main() -> None:
    """Run what is missing, as far as the window allows; then the tables of what is there."""
    asked = arguments()
    if not all_done(asked, Window(asked.window)):
        print("the window is over: run the same command again to go on")
        if not scores_path(asked.out, asked.seeds[0], "heads").exists():
            return
    text = tables(asked)
    print(text)
    if asked.write is not None and not asked.tiny:
        asked.write.write_text(text, encoding="ascii")


def all_done(asked: argparse.Namespace, window: Window) -> bool:
    """Whether the pretext and every step of every seed are there, after running what is missing."""
    train, test = ("000000", "000000") if asked.tiny else ("{000000..000009}", "{000000..000001}")
    data = {
        "data": f"{asked.data}/cifar10-train-{train}.tar",
        "eval_data": f"{asked.data}/cifar10-test-{test}.tar",
    }
    base = pretext_recipe(asked.epochs, is_tiny=asked.tiny)
    for method in RIVALS:
        kept, place = asked.out / f"{method}.json", asked.out / "pretext"
        if not kept.exists():
            if not window.run(replace(base, method=method), place, **data):
                return False
            kept.write_text(json.dumps(scores_of(place)))
    for seed, step in in_order(asked.seeds, asked.steps):
        kept, place = scores_path(asked.out, seed, step), asked.out / f"seed{seed}"
        if not kept.exists():
            if not window.run(seed_recipe(base, seed, step, asked), place, **data):
                return False
            kept.write_text(json.dumps(scores_of(place)))
    return True


def in_order(seeds: Sequence[int], steps: Sequence[str]) -> list[tuple[int, str]]:
    """Seeds and steps: heads of all seeds, which are cheap, then one seed after the other."""
    cheap = [step for step in steps if STEPS[step].trains == "heads"]
    dear = [step for step in steps if step not in cheap]
    return list(product(seeds, cheap)) + list(product(seeds, dear))


def scores_path(out: Path, seed: int, step: str) -> Path:
    """Where the scores of a step are kept: the next one writes over those of the run."""
    return out / f"seed{seed}-{step}.json"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = cifar10_options(__doc__, "runs/cpu_cifar10_long")
    parser.add_argument("--epochs", type=int, default=110, help="of the pretext")
    parser.add_argument("--finetune-epochs", type=int, default=5, help="of the network with SCAN's loss")
    parser.add_argument("--selflabel-epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), help="run these alone")
    parser.add_argument("--window", type=float, metavar="SECONDS", help="stop in time and resume later")
    parser.add_argument("--tiny", action="store_true", help="rehearse in minutes")
    return parser.parse_args()


def tables(asked: argparse.Namespace) -> str:
    """Markdown: the features, then each step of SCAN on them."""
    out, base = asked.out, pretext_recipe(asked.epochs, is_tiny=asked.tiny).pretext
    rivals = {method: json.loads((out / f"{method}.json").read_text()) for method in RIVALS}
    scores, where = rivals["kmeans"], environment()
    mined = json.loads(scores_path(out, asked.seeds[0], "heads").read_text())["neighbor_purity"]
    lines = [
        f"Pretext: {base.method}, {base.backbone}, {base.epochs} epochs, views of {base.first_px} to 32 px,",
        f"batch {base.batch_size}. {where['cores']} cores, {where['processor']}; commit {where['commit']};",
        f"torch {where['versions']['torch']}; {where['time'][:10]}. Percent; mean +- deviation over seeds of",
        f"what stands on the one pretext: heads, {asked.finetune_epochs} epochs of fine-tuning, "
        f"{asked.selflabel_epochs} of self-labelling.",
        "",
        "| features | measured | goal |",
        "|---|---|---|",
        *(
            f"| kNN, k = {k} | {100 * v:.2f} | {'>= 78' if k == '50' else ''} |"
            for k, v in by_number(scores["probes"]["knn"])
        ),
        f"| linear probe | {100 * scores['probes']['linear']:.2f} | |",
        f"| purity@20 | {100 * mined['20']:.2f} | >= 62 |",
        "",
        "| on the test split | seeds | ACC | NMI | ARI |",
        "|---|---|---|---|---|",
        *(
            row(name, [rivals[method]["splits"]["eval"]["methods"][method]])
            for method, name in RIVALS.items()
        ),
    ]
    for step, of in STEPS.items():
        paths = [scores_path(out, seed, step) for seed in asked.seeds]
        there = [json.loads(path.read_text()) for path in paths if path.exists()]
        if there:
            lines.append(row(of.name, [scored["splits"]["eval"]["methods"]["scan"] for scored in there]))
    return "\n".join(lines) + "\n"


def row(name: str, found: Sequence[Mapping[str, Any]]) -> str:
    """One line of Markdown: number of seeds, then mean and sample deviation over them."""
    cells = [str(len(found))]
    for metric in ("acc", "nmi", "ari"):
        values = [100 * scored[metric] for scored in found]
        deviation = f" +- {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.1f}{deviation}")
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
