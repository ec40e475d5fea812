"""The rival on the features of a finished run: five seeds, with and without over-clustering.

    python -m benchmarks.campaigns.kmeans_cifar10 --run runs/cpu_cifar10/RUN [--out runs/kmeans_cifar10]
                                                  [--write docs/results/kmeans.md] [--tiny]

Takes index, pretext and embeddings of any finished run with labels over (they are linked, not copied; the
run itself is left as it is), then does pca, kmeans, assign and evaluate for every row of the table. Minutes
on two cores for 10,000 images. The command resumes. `--tiny` rehearses with two seeds and few moves; its
scores mean nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness import environment
from rayscan import pipeline
from rayscan.config import KMeansConfig, PcaConfig, Recipe
from rayscan.context import Sources
from rayscan.report.compare import compare
from rayscan.run import Run
from rayscan.storage import Place

TAKEN_OVER = ("index", "pretext", "embed", "labels")
ROWS: dict[str, tuple[PcaConfig, KMeansConfig]] = {
    "k-means": (PcaConfig(), KMeansConfig()),
    "64 components, whitened": (PcaConfig(num_components=64, whiten=True), KMeansConfig()),
    "spherical": (PcaConfig(), KMeansConfig(is_spherical=True)),
    "mini-batches, 60 passes": (PcaConfig(), KMeansConfig(variant="minibatch", max_iter=60)),
    "1.5 x over-clustering": (PcaConfig(), KMeansConfig(over_clustering=1.5)),
    "3 x over-clustering": (PcaConfig(), KMeansConfig(over_clustering=3.0)),
    "10 x over-clustering": (PcaConfig(), KMeansConfig(over_clustering=10.0)),
}


def main() -> None:
    """Run every row and print, or write, the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, help="--out of a finished run with labels")
    parser.add_argument("--out", type=Path, default=Path("runs/kmeans_cifar10"))
    parser.add_argument("--write", type=Path, metavar="FILE.md")
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args()
    source, runs = Run(asked.run), {}
    for number, (name, settings) in enumerate(ROWS.items()):
        out = asked.out / f"row-{number}"
        _link(source, out)
        recipe = _recipe(source.recipe, *settings, is_tiny=asked.tiny)
        pipeline.run(recipe, Sources(**source.record["sources"]), Place(str(out)))
        runs[name] = Run(str(out))
    text = _page(source, runs, is_tiny=asked.tiny)
    print(text)
    if asked.write is not None:
        asked.write.write_text(text, encoding="ascii")


def _recipe(base: Recipe, pca: PcaConfig, kmeans: KMeansConfig, *, is_tiny: bool) -> Recipe:
    if is_tiny:
        kmeans = replace(kmeans, num_seeds=2, max_iter=3)
        kept = None if pca.num_components is None else 8
        pca = replace(pca, num_components=kept)
    return replace(base, method="kmeans", pca=pca, kmeans=kmeans)


def _link(source: Run, out: Path) -> None:
    """Give a new `--out` the finished results that do not depend on the method."""
    for stage in TAKEN_OVER:
        if stage not in source.record["stages"]:
            continue
        directory = source.record["stages"][stage]["directory"]
        if not (out / directory).exists():
            here = Path(source.place.uri.removeprefix("file://")) / directory
            shutil.copytree(here, out / directory, copy_function=os.link)


def _page(source: Run, runs: dict[str, Run], *, is_tiny: bool) -> str:
    lines = ["Method | clusters | ACC | ACC, many to one | ARI | AMI | NMI", "---|---|---|---|---|---|---"]
    for name, run in runs.items():
        splits: dict[str, Any] = run.scores["splits"]
        seeds = splits["eval" if "eval" in splits else "train"]["methods"]["kmeans"]["seeds"]
        cells = [_cell(seeds, metric) for metric in ("acc_tr", "many_to_one", "ari", "ami", "nmi")]
        lines.append(" | ".join([name, str(run.recipe.clusters_formed), *cells]))
    scores, facts = source.scores, environment()
    linear = scores.get("probes", {}).get("linear")
    head = "REHEARSAL: these scores mean nothing.\n\n" if is_tiny else ""
    images = ", ".join(f"{s['images']:,} {name}" for name, s in scores["splits"].items())
    seeds = runs["k-means"].recipe.kmeans.num_seeds
    shown = f"{100 * linear:.2f}" if isinstance(linear, float) else str(linear)
    return f"""# k-means on features of {source.recipe.name}

{head}The rival of arXiv 2008.10312 on the features of one pretext run: {images}.
Mean +- sample deviation over {seeds} seeds of k-means, in percent. ACC: one cluster per class by the best
match on train labels, clusters left over by majority, scored on eval; the other columns need no such mapping.
Linear classifier on the same features: {shown}.

{chr(10).join(lines)}

Commit {facts["commit"]}, {facts["processor"]}, {facts["cores"]} cores, {facts["time"]}. Made by
`python -m benchmarks.campaigns.kmeans_cifar10`.

As Table 1 of the paper has it:

```
{compare(list(runs.values()), as_table1=True)}
```
"""


def _cell(seeds: list[dict[str, float]], metric: str) -> str:
    values = [100 * s.get(metric, s.get("hungarian_then_majority", s["acc"])) for s in seeds]
    return f"{statistics.fmean(values):.2f} +- {statistics.stdev(values):.2f}"


if __name__ == "__main__":
    main()
