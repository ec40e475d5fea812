"""A run as the stages before evaluate leave it, over real digits: k-means on pixels stands for training.

Every artifact is written through `Draft`, and the assignments by the assign stage's own functions, so
evaluate and report read what they read in a real run. File names can be made hostile.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from sklearn.datasets import load_digits

from rayscan.artifacts import Artifact, Draft, Step
from rayscan.assignments import assignment_tables
from rayscan.config import (
    EvaluateConfig,
    FleetConfig,
    MineConfig,
    Recipe,
    ReportConfig,
    ScanLossConfig,
)
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.data.table import IMAGE_SCHEMA
from rayscan.stages import baseline
from rayscan.storage import Place
from rayscan.vectors.kmeans import kmeans
from rayscan.vectors.prototypes import ClusterSummary, find_prototypes
from tests.unit.local_fleet import LocalFleet

TOPS = np.dtype([("ids", np.int32, 5), ("probs", np.float32, 5)])
METRICS = pa.schema({"epoch": pa.float64(), "step": pa.int64(), "name": pa.string(), "value": pa.float64()})


@dataclass
class DigitsRun:
    """Artifacts over the first digits of scikit-learn: 5 of 6 train, the rest eval."""

    folder: Path
    num_images: int = 300
    num_clusters: int = 10
    names: Mapping[int, str] = field(default_factory=dict)
    """gid -> source, instead of an ordinary file name."""
    class_name: str = "digit {}"
    cluster_name: str = "cluster {}"
    report: ReportConfig = field(default_factory=ReportConfig)
    bad: int = 2
    """Images in quarantine, the last gids of the train split."""

    def __post_init__(self) -> None:
        """Write everything."""
        digits = load_digits()
        self.pixels = np.tile(digits.images, (1 + self.num_images // 1797, 1, 1))[: self.num_images]
        self.labels = np.tile(digits.target, 1 + self.num_images // 1797)[: self.num_images]
        self.num_train = self.num_images * 5 // 6
        self.recipe = Recipe(
            name="digits",
            num_clusters=self.num_clusters,
            mine=MineConfig(num_neighbors=20),
            scan=ScanLossConfig(num_neighbors=5, num_heads=4),
            evaluate=EvaluateConfig(kmeans_n_init=2, kmeans_max_iter=15),
            report=self.report,
        )
        self.out = Place(str(self.folder / "run"))
        self.context = Context(
            self.out, Sources(str(self.folder)), LocalFleet(FleetConfig(), self.out), Progress(io.StringIO())
        )
        is_bad = np.zeros(self.num_images, bool)
        is_bad[self.num_train - self.bad : self.num_train] = True
        self.gids = np.flatnonzero(~is_bad)
        self.done: dict[str, Artifact] = {"index": self._index(is_bad)}
        self._trainings()
        self._vectors()
        self._assign()

    def commit(self, stage: str, files: Mapping[str, Any], facts: Mapping[str, Any] | None = None) -> None:
        """Write files by their kind and keep the result."""
        draft = Draft(self.out, Step(stage, 1, {}, {k: v.identity for k, v in self.done.items()}))
        write = {pa.Table: draft.write_table, np.ndarray: draft.write_array}
        entries = {
            name: write.get(type(value), draft.write_json)(name, value) for name, value in files.items()
        }
        self.done[stage] = draft.commit(entries, facts=facts)

    def add_labels(self, share: float = 1.0) -> None:
        """Label the first images of a share; baseline is held against them."""
        gids = np.arange(round(self.num_images * share))
        table = pa.table({"gid": gids, "label": self.labels[gids]})
        self.commit(
            "labels",
            {"labels.parquet": table, "classes.json": [self.class_name.format(d) for d in range(10)]},
        )
        step = baseline.plan(self.recipe, self.done, self.context.sources)
        self.done["baseline"] = baseline.run(self.recipe, self.done, step, self.context)

    def _index(self, is_bad: np.ndarray[Any, Any]) -> Artifact:
        rows, uris = [], []
        for gid, image in enumerate(self.pixels):
            path = self.folder / "images" / f"{gid:05d}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.repeat((image * 15.9).astype(np.uint8)[..., None], 3, axis=2)).save(path)
            data = path.read_bytes()
            uris.append(str(path))
            rows.append(
                {
                    "gid": gid, "split": "train" if gid < self.num_train else "eval", "shard": gid,
                    "key": f"{gid:05d}", "offset": 0, "length": len(data), "crc32": zlib.crc32(data),
                    "width": 8, "height": 8, "status": "truncated" if is_bad[gid] else "ok",
                    "source": self.names.get(gid, f"scans/{gid:05d}.png"), "id": None,
                }
            )  # fmt: skip
        images = pa.Table.from_pylist(rows, schema=IMAGE_SCHEMA)
        shards = {
            "shard": range(len(uris)),
            "uri": uris,
            "bytes": [0] * len(uris),
            "sha256": [""] * len(uris),
        }
        quarantine = [
            {"gid": r["gid"], "key": r["key"], "source": r["source"], "reason": r["status"]}
            for r in rows if r["status"] != "ok"
        ]  # fmt: skip
        draft = Draft(self.out, Step("index", 1, {}))
        return draft.commit(
            {
                "images.parquet": draft.write_table("images.parquet", images),
                "shards.parquet": draft.write_table("shards.parquet", pa.table(shards)),
                "quarantine.parquet": draft.write_table(
                    "quarantine.parquet", pa.Table.from_pylist(quarantine)
                ),
            }
        )

    def _trainings(self) -> None:
        epochs = np.arange(40)
        for stage, names in (
            ("pretext", ["loss"]),
            ("scan", ["loss", "entropy"]),
            ("selflabel", ["loss", "confident"]),
        ):
            rows = [(float(e), int(e) * 4, n, float(5 / (1 + e) + len(n))) for n in names for e in epochs]
            table = pa.table(
                [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), METRICS, strict=True)], METRICS
            )
            files: dict[str, Any] = {"metrics.parquet": table}
            if stage == "scan":
                files["heads.json"] = {"losses": [-1.2, -1.31, -1.25, -1.29], "best_head": 1, "best_epoch": 3}
            self.commit(stage, files)

    def _vectors(self) -> None:
        flat = self.pixels[self.gids].reshape(len(self.gids), -1).astype(np.float32)
        self.rows = flat / np.linalg.norm(flat, axis=1, keepdims=True)
        train = int((self.gids < self.num_train).sum())
        parts = pa.table(
            {"part": [0], "name": ["part-00000.npy"], "first_row": [0], "rows": [len(self.rows)]}
        )
        self.commit(
            "embed",
            {"part-00000.npy": self.rows, "gids.npy": self.gids, "parts.parquet": parts},
            {"rows": len(self.rows), "train_rows": train, "dim": self.rows.shape[1], "num_views": 1},
        )
        cosine = self.rows[:train] @ self.rows[:train].T
        np.fill_diagonal(cosine, -2)
        order = np.argsort(-cosine, axis=1, kind="stable")[:, :20]
        scores = np.take_along_axis(cosine, order, axis=1)
        self.neighbors = self.gids[:train][order]
        table = {"gid": self.gids[:train], "ids": list(self.neighbors), "scores": list(scores)}
        self.commit("mine", {"neighbors.parquet": pa.table(table)})

    def _assign(self) -> None:
        centroids, _ = kmeans(self.rows, self.num_clusters, seed=1, restarts=1, iterations=5)
        logits = 40 * self.rows @ centroids.T
        probs = np.exp(logits - logits.max(axis=1, keepdims=True))
        probs /= probs.sum(axis=1, keepdims=True)
        tops = np.zeros(len(probs), TOPS)
        tops["ids"] = order = np.argsort(-probs, axis=1, kind="stable")[:, :5]
        tops["probs"] = np.take_along_axis(probs, order, axis=1)
        summary = ClusterSummary(self.num_clusters, self.recipe.assign.num_prototypes)
        for some in np.array_split(tops, 3):
            summary.add(some["ids"][:, 0], some["probs"][:, 0])
        prototypes = find_prototypes(summary, self.done["embed"])
        table = pa.concat_tables(
            assignment_tables(self.done["index"], self.gids, lambda a, b: tops[a:b], prototypes.values())
        )
        clusters = summary.cluster_list(self.gids, prototypes)
        for number, cluster in enumerate(clusters):
            cluster["name"] = self.cluster_name.format(number)
        self.commit("assign", {"assignments.parquet": table, "clusters.json": clusters})
