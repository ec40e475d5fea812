"""What features are worth before any clustering: labels near by, and k-means, on labelled sets of pictures.

    python -m benchmarks.features --json F --data DIR [--quick]

DIR holds `blood_pbc`, `grocery` and `cifar10`, WebDataset shards with `.cls`. Each set is indexed and
embedded by `rayscan run custom --until embed` (lite0; CIFAR-10's test split at 160 px), then judged, for
which alone labels are read: `purity_at_K`, the share of the K nearest neighbors by cosine that have the
image's label, and `kmeans_acc`, ACC of scikit-learn's k-means on the unit rows with C given, mean of three
seeds. Beside them the same of feature files, `DIR/features/NAME_lite0.npz`, where they are there: made
elsewhere, from larger originals.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from benchmarks.harness import ROOT, Report, options
from rayscan.data.table import ImageTable
from rayscan.metrics.assignment import accuracy, hungarian
from rayscan.metrics.contingency import Contingency
from rayscan.run import Run
from rayscan.vectors.parts import EmbeddingRows

SETS = {
    "blood_pbc": ("blood_pbc/*.tar", (), "blood_pbc_lite0"),
    "grocery": ("grocery/*.tar", (), "grocery_lite0"),
    "cifar10_160": ("cifar10/cifar10-test-*.tar", ("--embed.size-px", "160"), "cifar_test_160_lite0"),
}
QUICK = ("blood_pbc",)
PURITY_AT = (1, 5, 20)
SEEDS = 3


def main() -> None:
    """Embed and judge."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--data", type=Path, required=True)
    own, rest = parser.parse_known_args()
    asked = options(__doc__, rest)
    report = Report(asked, "features")
    report.ceilings()
    for name in QUICK if asked.quick else SETS:
        pattern, flags, file = SETS[name]
        with tempfile.TemporaryDirectory(prefix="rayscan-") as folder:
            rows, labels, nets = embedded(f"{own.data}/{pattern}", flags, Path(folder))
        report.detail(f"{name}_engine", nets)
        tell(report, name, rows, labels)
        stored = own.data / "features" / f"{file}.npz"
        if stored.is_file():
            held = np.load(stored)
            tell(report, f"{name}_file", unit(held["features"]), held["labels"].astype(np.int64))
    report.finish({})


def embedded(data: str, flags: tuple[str, ...], out: Path) -> tuple[NDArray[np.float32], Any, Any]:
    """Unit rows of a set by the product, their labels, and what computed them."""
    command = [sys.executable, "-m", "rayscan", "run", "custom", "--data", data, "--num-clusters", "2"]
    command += ["--out", str(out), "--until", "embed", *flags]
    subprocess.run(command, check=True, cwd=ROOT)
    run = Run(str(out))
    embed = EmbeddingRows(run.artifact("embed"))
    table = ImageTable.from_artifact(run.artifact("index"))
    labels = labels_in(table, embed.gids)
    return embed.read(0, embed.train_rows), labels, embed.artifact.facts.get("nets")


def labels_in(table: ImageTable, gids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels from the `.cls` members that follow each image in its shard."""
    by_offset: dict[tuple[int, int], int] = {}
    for number, uri in enumerate(table.shard_uris):
        with tarfile.open(uri) as tar:
            members = [(*m.name.rpartition(".")[::2], m) for m in tar.getmembers()]
            label_of = {
                key: int(stream.read())
                for key, extension, m in members
                if extension == "cls" and (stream := tar.extractfile(m)) is not None
            }
            for key, extension, m in members:
                if extension != "cls" and key in label_of:
                    by_offset[number, m.offset_data] = label_of[key]
    return np.array([by_offset[int(table.shard[g]), int(table.offset[g])] for g in gids])


def tell(report: Report, name: str, rows: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    """Purity and k-means of one matrix."""
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    near = index.search(rows, max(PURITY_AT) + 1)[1]
    others = np.array([row[row != i][: max(PURITY_AT)] for i, row in enumerate(near)])
    same = labels[others] == labels[:, None]
    for k in PURITY_AT:
        report.value(f"{name}_purity_at_{k}", float(same[:, :k].mean()))
    classes = int(labels.max()) + 1
    scores = []
    for seed in range(SEEDS):
        found = KMeans(classes, n_init=3, random_state=seed).fit_predict(rows).astype(np.int64)
        table = Contingency.count(found, labels, classes, classes)
        scores.append(accuracy(table, hungarian(table)))
    report.value(f"{name}_kmeans_acc", float(np.mean(scores)))
    report.detail(f"{name}_kmeans_acc_sd", float(np.std(scores, ddof=1)))


def unit(features: NDArray[Any]) -> NDArray[np.float32]:
    """Rows of length one."""
    rows = features.astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
