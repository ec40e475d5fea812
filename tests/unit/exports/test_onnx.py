"""ONNX models under onnxruntime against what assign wrote from the same pictures by the same network."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rayscan.artifacts import Draft, Step
from rayscan.config import (
    EmbedConfig,
    ImagesConfig,
    KMeansConfig,
    PcaConfig,
    Recipe,
    SimCLRConfig,
)
from rayscan.consensus.ensemble import Ensemble, Member
from rayscan.consensus.readings import Reading
from rayscan.context import Context, Sources
from rayscan.data.loader import ViewLoader
from rayscan.data.pictures import PictureLoader
from rayscan.data.table import ImageTable
from rayscan.edits.applying import apply
from rayscan.edits.history import fingerprint_of
from rayscan.engine.tensors import pack
from rayscan.errors import ConfigError
from rayscan.exports import export
from rayscan.exports.onnx import write_model
from rayscan.exports.onnx_model import CentroidRule, EnsembleRule, Exported, UnitFeatures
from rayscan.run import Run, record
from rayscan.stages import assign, consensus, embed, kmeans, pca
from rayscan.stages.kmeans import Centroids
from rayscan.training import pretrained_space
from rayscan.training.models import build_cluster_net
from rayscan.training.pictures import images_of, preprocessing_in
from rayscan.vectors.pca import Pca
from tests.unit.exports.pictured import NAMES, PicturedRun, pictured
from tests.unit.local_fleet import LocalFleet

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

LITE0 = Recipe(
    name="test",
    num_clusters=5,
    features=("lite0",),
    embed=EmbedConfig(size_px=64, engine="torch", precision="fp32"),  # as the graph computes
    pca=PcaConfig(num_components=20),
    kmeans=KMeansConfig(num_seeds=1, n_init=1, max_iter=5),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> PicturedRun:
    return pictured(tmp_path_factory.mktemp("run"), num_images=60)


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    """Nets that stages of another test keep in this process."""
    for cached in (embed._frozen, embed._loaded, assign._loaded):
        cached.cache_clear()


def finished(made: PicturedRun, recipe: Recipe, *stages: Any, given: dict[str, Any] | None = None) -> Run:
    """A run of these stages on the pictures, recorded with edited names."""
    out = made.out
    context = Context(out, Sources(str(made.folder)), LocalFleet(recipe.fleet, out), made.context.progress)
    done = {"index": made.done["index"], **(given or {})}
    if "pretext" not in done:
        (space,) = recipe.spaces
        step = Step("pretext", 1, pretrained_space.config(recipe, space))
        done["pretext"] = pretrained_space.take(recipe, space, Draft(out, step), context)
    for stage in (*stages, assign):
        step = stage.plan(recipe, done, context.sources)
        done[stage.NAME] = stage.run(recipe, done, step, context)
    told = {
        name: {"directory": artifact.place.uri.rpartition("/")[2], "seconds": 1.0, "reused": False}
        for name, artifact in done.items()
    }
    record(out, recipe, vars(context.sources), told)
    run = made.opened
    named = [{**cluster, "name": NAMES[cluster["cluster"]]} for cluster in run.clusters]
    run.place.write("clusters.json", json.dumps(named).encode())
    return run


def answers(folder: Path, squares: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"images": squares[i : i + batch]}) for i in range(0, len(squares), batch)]
    probabilities, clusters = (np.concatenate(column) for column in zip(*parts, strict=True))
    return probabilities, clusters


def require_equal(run: Run, squares: np.ndarray, folder: Path) -> None:
    """Hold every probability to the assignments: of 5 clusters these keep all."""
    export(run, "onnx", str(folder))
    assigned = run.assignments
    expected = np.zeros((len(assigned), 5), np.float32)
    np.put_along_axis(
        expected,
        np.array(assigned["top5"].to_pylist()),
        np.array(assigned["top5_probs"].to_pylist(), np.float32),
        axis=1,
    )
    assert len(np.unique(assigned["cluster"].to_numpy())) > 1
    for batch in (1, 7, len(squares)):
        probabilities, clusters = answers(folder, squares, batch)
        assert np.abs(probabilities - expected).max() < 1e-4
        assert np.array_equal(clusters, assigned["cluster"].to_numpy())


def pretrained_squares(run: Run) -> np.ndarray:
    wanted = preprocessing_in(run.artifact("pretext"))
    assert wanted is not None
    table = ImageTable.from_artifact(run.artifact("index"))
    pictures = PictureLoader(table, run.recipe.images, wanted).pictures(table.gids(None))
    return np.ascontiguousarray(pictures.permute(0, 2, 3, 1).numpy())


class Tiny(nn.Module):
    """A network that is exported in a moment: means of colors of four parts -> [N, 12]."""

    dim = 12

    def forward(self, pixels: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(pixels, 8).flatten(1)


def fitted_centroids(rng: np.random.Generator) -> Centroids:
    components = np.linalg.qr(rng.normal(size=(12, 12)))[0][:6]
    rotation = Pca(
        rng.normal(scale=0.1, size=12), components, np.arange(6, 0, -1) / 10, 3.0, is_whitened=True
    )
    return Centroids(rotation, rng.normal(size=(2, 5, 6)).astype(np.float32), 1, 0.05)


def small_ensemble(rng: np.random.Generator) -> Ensemble:
    return Ensemble(tuple(small_member(rng, is_root) for is_root in (False, True)), temperature=0.7)


def small_member(rng: np.random.Generator, is_root: bool) -> Member:
    shapes = (12,), (12, 6), (3, 6, 5), (3, 5)
    drawn = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    shares = rng.dirichlet(np.full(5, 0.3), size=(3, 5)).astype(np.float32)
    return Member(Reading(0, is_root), *drawn, shares)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["kmeans", "consensus"])
def test_rules_in_the_graph_are_those_of_assign(tmp_path: Path, kind: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    if kind == "kmeans":
        fitted = fitted_centroids(rng)
        rule: nn.Module = CentroidRule(fitted)
        expect = lambda rows: fitted.probabilities(fitted.pca.project(rows))  # noqa: E731
    else:
        ensemble = small_ensemble(rng)
        rule = EnsembleRule(ensemble)
        expect = lambda rows: ensemble.probabilities((rows,))  # noqa: E731
    images = ImagesConfig(size_px=16, canvas_px=None)
    write_model(
        Exported(UnitFeatures(Tiny(), dtype), rule, images, range(5)).eval(), 16, tmp_path / "model.onnx", {}
    )
    squares = rng.integers(256, size=(9, 16, 16, 3), dtype=np.uint8)
    means = squares.reshape(9, 2, 8, 2, 8, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2) / 255
    shape = (1, 3, 1, 1)
    rows = ((means - np.reshape(images.mean, shape)) / np.reshape(images.std, shape)).reshape(9, 12)
    units = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(dtype).astype(np.float32)
    probabilities, clusters = answers(tmp_path, squares, 4)
    assert np.abs(probabilities - expect(units)).max() < 1e-4
    assert np.array_equal(clusters, expect(units).argmax(axis=1))


@pytest.mark.soak
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_kmeans(made: PicturedRun, tmp_path: Path, local_pool: None, dtype: Any) -> None:
    recipe = replace(LITE0, method="kmeans", embed=replace(LITE0.embed, dtype=dtype))
    run = finished(made, recipe, embed, pca, kmeans)
    require_equal(run, pretrained_squares(run), tmp_path / "out")


def test_consensus(made: PicturedRun, tmp_path: Path) -> None:
    recipe = replace(LITE0, method="consensus")
    member = Member(Reading(0, False), *_arrays(recipe))
    draft = Draft(made.out, Step("consensus", 1, {"of": "this test"}))
    files = {f"{n}-0.npy": draft.write_array(f"{n}-0.npy", getattr(member, n)) for n in consensus.ARRAYS}
    stored = {"temperature": 1.3, "readings": [asdict(member.reading)]}
    files[consensus.MEMBERS] = draft.write_json(consensus.MEMBERS, stored)
    model = draft.commit(files, facts={"reads": consensus.READS, "score": 1.0})
    run = finished(made, recipe, embed, given={"consensus": model})
    require_equal(run, pretrained_squares(run), tmp_path / "out")
    import onnx

    told = {p.key: json.loads(p.value) for p in onnx.load(str(tmp_path / "out/model.onnx")).metadata_props}
    assert [c["name"] for c in told["clusters"]] == NAMES[:5]
    assert told["licence"] == "apache-2.0"
    assert told["preprocessing"]["shape"] == ["N", 64, 64, 3]
    assert told["preprocessing"] == json.loads((tmp_path / "out/preprocessing.json").read_text("utf-8"))
    assert json.loads((tmp_path / "out/clusters.json").read_text("utf-8")) == told["clusters"]


def _arrays(recipe: Recipe) -> list[np.ndarray]:
    """An ensemble of three heads with numbers drawn at random; shares of a row sum to 1."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(5, 0.3), size=(3, 5))
    shapes = (1280,), (1280, 16), (3, 16, 5), (3, 5)
    scales = 0.01, 1.0, 2.0, 1.0
    drawn = [rng.normal(scale=s, size=shape) for shape, s in zip(shapes, scales, strict=True)]
    return [array.astype(np.float32) for array in (*drawn, shares)]


def test_a_net_that_reads_pictures(made: PicturedRun, tmp_path: Path) -> None:
    """SCAN trained on images with a network of its own; here with weights at random."""
    recipe = Recipe(
        name="own",
        num_clusters=5,
        images=ImagesConfig(size_px=32, canvas_px=None),
        pretext=SimCLRConfig(backbone="resnet18", stem="cifar"),
    )
    recipe = replace(recipe, scan=replace(recipe.scan, inputs="images"))
    torch.manual_seed(0)
    from rayscan.objectives.pretexts import build_projected_net

    net = build_projected_net(recipe.pretext)
    draft = Draft(made.out, Step("pretext", 1, {"of": "this test"}))
    trained = draft.commit(
        {"backbone.safetensors": draft.write("backbone.safetensors", pack(net.state_dict()))}
    )
    table, images = ImageTable.from_artifact(made.done["index"]), images_of(recipe, trained)
    loader = ViewLoader(table, images, recipe.seed)
    cluster_net = build_cluster_net(recipe, trained, num_heads=1).eval()
    with torch.no_grad():  # logits about zero, so that pictures differ in their clusters
        cluster_net.heads.weight.normal_(std=0.5)
        cluster_net.heads.bias -= cluster_net(loader.plain(table.gids(None)))[0].mean(dim=0)
    draft = Draft(made.out, Step("selflabel", 1, {"of": "this test"}))
    weights = draft.write("model.safetensors", pack(cluster_net.state_dict()))
    model = draft.commit({"model.safetensors": weights}, facts={"reads": "images"})
    given = {"pretext": trained, "embed": made.done["embed"], "selflabel": model}
    run = finished(made, recipe, given=given)
    cuts = loader.cuts(table.gids(None), "plain", 0, (0,))[0]
    squares = np.ascontiguousarray(cuts.permute(0, 2, 3, 1).numpy())
    require_equal(run, squares, tmp_path / "out")
    require_edits_honoured(run, squares, tmp_path)


def require_edits_honoured(run: Run, squares: np.ndarray, folder: Path) -> None:
    """Join two clusters and put one into waste, as a person does, and export again."""
    edits = {
        "schema": 1,
        "fingerprint": fingerprint_of(run.artifact("assign")),
        "operations": [
            {"op": "join", "clusters": [3], "into": 1},
            {"op": "waste", "clusters": [2]},
            {"op": "rename", "cluster": 0, "name": "zero"},
        ],
    }
    (folder / "edits.json").write_text(json.dumps(edits))
    apply(run.place.uri, str(folder / "edits.json"))
    edited = Run(run.place.uri)
    export(edited, "onnx", str(folder / "edited"))
    listed = json.loads((folder / "edited/clusters.json").read_text("utf-8"))
    assert [row["cluster"] for row in listed] == [0, 1, 4, -1]
    assert [row["name"] for row in listed] == ["zero", NAMES[1], NAMES[4], "waste"]
    probabilities, clusters = answers(folder / "edited", squares, 20)
    assigned = edited.assignments
    assert np.array_equal(clusters, assigned["cluster"].to_numpy())
    own = probabilities[np.arange(len(clusters)), [[0, 1, 4, -1].index(c) for c in clusters]]
    assert np.abs(own - assigned["confidence"].to_numpy()).max() < 1e-4


@pytest.mark.parametrize("features", [("lite0", "own"), ("file:/x/vectors.npy",)])
def test_other_features_are_refused_by_name(
    made: PicturedRun, tmp_path: Path, features: tuple[str, ...]
) -> None:
    run = made.opened
    recipe = {**json.loads(run.place.read("recipe.json")), "features": features, "method": "consensus"}
    run.place.write("recipe.json", json.dumps(recipe).encode())
    with pytest.raises(ConfigError, match="not those of one network") as refused:
        export(run, "onnx", str(tmp_path / "out"))
    assert all(words in str(refused.value) for words in features)
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named_with_its_command(
    made: PicturedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"pip install 'rayscan\[onnx\]'"):
        export(made.opened, "onnx", str(tmp_path / "out"))
