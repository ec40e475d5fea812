"""A finished run with pictures in tar files: digits, odd keys, eval images, neighbors, heads as its model."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from safetensors.numpy import save
from sklearn.datasets import load_digits

from rayscan.artifacts import Artifact, Draft, Step
from rayscan.consensus.neighbors import nearest_rows, unit_rows
from rayscan.context import Context, Sources
from rayscan.run import Run, record
from rayscan.stages import index
from rayscan.tables import as_lists
from rayscan.vectors.kmeans import kmeans
from tests.unit.local_fleet import LocalFleet
from tests.unit.report.digits_run import DigitsRun

NAMES = ['caf\u00e9 "noir", <&>', "\u732b: a/b", "it's", *(f"cluster {n}" for n in range(3, 10))]
ODD = ("\u00e9t\u00e9 {}", '{} "quoted"', "it's {}", "\u732b{}", "a b {}")


def key_of(number: int) -> str:
    """The key of an image: letters of other alphabets, quotes, spaces."""
    return ODD[number % len(ODD)].format(number)


class PicturedRun(DigitsRun):
    """`DigitsRun` whose pictures are members of two tar files, PNG and JPEG by turns; with a record."""

    side_px = (200, 150)
    """Width and height of the pictures."""

    def __post_init__(self) -> None:
        """Write everything, and the record."""
        self.encoded: list[bytes] = []
        super().__post_init__()
        stages = {
            name: {"directory": artifact.place.uri.rpartition("/")[2], "seconds": 1.0, "reused": False}
            for name, artifact in self.done.items()
        }
        record(self.out, self.recipe, {"data": str(self.folder), "eval_data": None, "labels": None}, stages)
        clusters = Run(self.out.uri).clusters
        named = [{**c, "name": NAMES[c["cluster"]]} for c in clusters]
        self.out.write("clusters.json", json.dumps(named).encode())

    def _vectors(self) -> None:
        """Embeddings and exact neighbors, in memory that grows with the number of rows."""
        flat = self.pixels[self.gids].reshape(len(self.gids), -1).astype(np.float32)
        if self.num_images > len(load_digits().target):  # digits come again: no two of them shall be equal
            flat += np.random.default_rng(0).normal(scale=2, size=flat.shape).astype(np.float32)
        self.rows = unit_rows(flat)
        train = self.num_train
        parts = {"part": [0], "name": ["part-00000.npy"], "first_row": [0], "rows": [len(self.rows)]}
        files = {"part-00000.npy": self.rows, "gids.npy": self.gids, "parts.parquet": pa.table(parts)}
        facts = {"rows": len(self.rows), "train_rows": train, "dim": self.rows.shape[1], "num_views": 1}
        self.commit("embed", files, facts)
        self.neighbors = nearest_rows(self.rows[:train], 20)
        scores = np.stack([self.rows[ids] @ row for row, ids in zip(self.rows, self.neighbors, strict=False)])
        table = {"gid": self.gids[:train], "ids": as_lists(self.neighbors), "scores": as_lists(scores)}
        self.commit("mine", {"neighbors.parquet": pa.table(table)})

    def _assign(self) -> None:
        """Assign, and keep the rule as the model that did it: logits 40 x c, as heads on embeddings."""
        super()._assign()
        centroids, _ = kmeans(self.rows, self.num_clusters, seed=1, restarts=1, iterations=5)
        tensors = {"heads.weight": 40 * centroids[None], "heads.bias": np.zeros((1, len(centroids)))}
        draft = Draft(self.out, Step("selflabel", 1, {}, {"embed": self.done["embed"].identity}))
        model = draft.write("model.safetensors", save({k: v.astype(np.float32) for k, v in tensors.items()}))
        self.done["selflabel"] = draft.commit({"model.safetensors": model}, facts={"reads": "embeddings"})

    @property
    def opened(self) -> Run:
        """The run as commands open it."""
        return Run(self.out.uri)

    def _index(self, is_bad: np.ndarray[Any, Any]) -> Artifact:
        assert not is_bad.any()
        for name, numbers in self._tars().items():
            with tarfile.open(self.folder / name, "w") as tar:
                for number in numbers:
                    self._add(tar, number)
        sources = Sources(str(self.folder / "train.tar"), str(self.folder / "eval.tar"))
        context = Context(self.out, sources, LocalFleet(self.recipe.fleet, self.out), self.context.progress)
        return index.run(self.recipe, {}, index.plan(self.recipe, {}, sources), context)

    def _tars(self) -> dict[str, range]:
        return {"train.tar": range(self.num_train), "eval.tar": range(self.num_train, self.num_images)}

    def _add(self, tar: tarfile.TarFile, number: int) -> None:
        picture = np.repeat((self.pixels[number] * 15.9).astype(np.uint8)[..., None], 3, axis=2)
        suffix, kind = ("png", "PNG") if number % 2 else ("jpg", "JPEG")
        data = io.BytesIO()
        Image.fromarray(picture).resize(self.side_px, Image.Resampling.NEAREST).save(data, kind)
        self.encoded.append(data.getvalue())
        member = tarfile.TarInfo(f"{key_of(number)}.{suffix}")
        member.size = len(data.getvalue())
        tar.addfile(member, io.BytesIO(data.getvalue()))


def pictured(folder: Path, num_images: int = 120, **settings: Any) -> PicturedRun:
    """A run below a folder."""
    folder.mkdir(exist_ok=True)
    return PicturedRun(folder, num_images=num_images, bad=0, **settings)
