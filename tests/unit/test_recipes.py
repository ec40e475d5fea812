"""Recipes against the published settings: SCAN, arXiv 2005.12320, Sec. 3.1, B.1 and Tables S1, S2."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import rayscan.recipes
from rayscan.config import OptimizerConfig, Recipe
from rayscan.errors import ConfigError
from rayscan.recipes import RECIPES, by_name

SMALL = ("cifar10", "cifar20", "stl10")
IMAGENET = ("imagenet", "imagenet50", "imagenet100", "imagenet200", "imagenet_authors_later")

# Table S1: name -> clusters, side of the picture in px
DATASETS = {
    "cifar10": (10, 32),
    "cifar20": (20, 32),
    "stl10": (10, 96),
    "imagenet50": (50, 224),
    "imagenet100": (100, 224),
    "imagenet200": (200, 224),
    "imagenet": (1000, 224),
}

# B.1, clustering step: name -> batch, learning rate, K (50 on the subsets is the published code's)
IMAGENET_SCAN = {
    "imagenet50": (512, 5.0, 50),
    "imagenet100": (1024, 5.0, 50),
    "imagenet200": (1024, 5.0, 50),
    "imagenet": (4096, 30.0, 20),
    "imagenet_authors_later": (4096, 5.0, 50),  # published code, issue 83
}


def triple(optimizer: OptimizerConfig) -> tuple[str, float, float, str]:
    """What a paper says of an optimizer."""
    return optimizer.kind, optimizer.learning_rate, optimizer.weight_decay, optimizer.schedule


@pytest.mark.parametrize("name", DATASETS)
def test_classes_and_sizes(name: str) -> None:
    """Table S1."""
    recipe = by_name(name)
    assert (recipe.num_clusters, recipe.images.size_px) == DATASETS[name]


@pytest.mark.parametrize("name", SMALL)
def test_small_sets_pretext(name: str) -> None:
    """Published code: SimCLR, SGD 0.4, 1e-4, 500 epochs of 512, T 0.1, P 128, cosine to lr * 0.1^3."""
    pretext = by_name(name).pretext
    assert (pretext.method, pretext.backbone) == ("simclr", "resnet18")
    assert (pretext.epochs, pretext.batch_size, pretext.temperature) == (500, 512, 0.1)
    assert pretext.projection_dim == 128
    assert triple(pretext.optimizer) == ("sgd", 0.4, 1e-4, "cosine")
    assert pretext.optimizer.warmup_epochs == 0
    assert pretext.optimizer.final_fraction == pytest.approx(0.1**3)
    assert pretext.stem == ("stl" if name == "stl10" else "cifar")


@pytest.mark.parametrize("name", SMALL)
def test_small_sets_scan(name: str) -> None:
    """Sec. 3.1: all weights, K 20, lambda 5, 100 epochs of 128, Adam 1e-4, RandAugment; one head (code)."""
    scan = by_name(name).scan
    assert (scan.inputs, scan.update, scan.num_heads) == ("images", "all", 1)
    assert (scan.num_neighbors, scan.entropy_weight) == (20, 5.0)
    assert (scan.epochs, scan.batch_size, scan.views) == (100, 128, "randaugment")
    assert triple(scan.optimizer) == ("adam", 1e-4, 1e-4, "constant")


@pytest.mark.parametrize("name", SMALL)
def test_small_sets_selflabel(name: str) -> None:
    """Sec. 3.1: 200 epochs, threshold 0.99, balanced, Adam 1e-4 / 1e-4; batch 1000 (code); no averaging."""
    selflabel = by_name(name).selflabel
    assert (selflabel.epochs, selflabel.batch_size, selflabel.threshold) == (200, 1000, 0.99)
    assert (selflabel.class_balance, selflabel.views, selflabel.ema_decay) == (True, "randaugment", 0.0)
    assert triple(selflabel.optimizer) == ("adam", 1e-4, 1e-4, "constant")


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenet_pretext(name: str) -> None:
    """MoCo v2 (arXiv 2003.04297): ResNet-50, 800 epochs of 256, SGD 0.03 / 1e-4 cosine, T 0.2, Q 65536."""
    pretext = by_name(name).pretext
    assert (pretext.method, pretext.epochs, pretext.batch_size) == ("moco", 800, 256)
    assert (pretext.temperature, pretext.queue_size, pretext.encoder_momentum) == (0.2, 65_536, 0.999)
    assert (pretext.projection_dim, pretext.projection_hidden_dim) == (128, None)
    assert triple(pretext.optimizer) == ("sgd", 0.03, 1e-4, "cosine")


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenet_scan(name: str) -> None:
    """B.1: frozen ResNet-50, ten linear heads, SimCLR augmentations, lambda 5, SGD, 100 epochs."""
    recipe = by_name(name)
    batch_size, learning_rate, num_neighbors = IMAGENET_SCAN[name]
    scan = recipe.scan
    assert (recipe.pretext.backbone, recipe.pretext.stem) == ("resnet50", "imagenet")
    assert (scan.inputs, scan.num_heads, scan.views) == ("embeddings", 10, "simclr")
    assert (scan.entropy_weight, scan.num_neighbors) == (5.0, num_neighbors)
    assert (scan.head_epochs, scan.head_batch_size) == (100, batch_size)
    assert triple(scan.head_optimizer)[:3] == ("sgd", learning_rate, 0.0)
    assert recipe.embed.space == "backbone"


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenet_selflabel(name: str) -> None:
    """B.1: all weights, 25 epochs of 512, SGD 0.03 kept constant, alpha 0.999, no class balancing."""
    selflabel = by_name(name).selflabel
    assert (selflabel.inputs, selflabel.update) == ("images", "all")
    assert (selflabel.epochs, selflabel.batch_size, selflabel.ema_decay) == (25, 512, 0.999)
    assert (selflabel.class_balance, selflabel.views) == (False, "randaugment")
    assert triple(selflabel.optimizer) == ("sgd", 0.03, 0.0, "constant")


def test_cifar10_pixels(shared_data: Path) -> None:
    """Mean and deviation of real CIFAR-10 pixels; 1,000 pictures give them to about 0.02."""
    import io

    import numpy as np
    import webdataset as wds
    from PIL import Image

    shard = str(shared_data / "cifar10" / "cifar10-train-000000.tar")
    samples = wds.WebDataset(shard, shardshuffle=False).slice(1000)
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(s["jpg"])).convert("RGB")) for s in samples]) / 255
    images = by_name("cifar10").images
    np.testing.assert_allclose(pixels.mean((0, 1, 2)), images.mean, atol=0.02)
    np.testing.assert_allclose(pixels.std((0, 1, 2)), images.std, atol=0.02)


def test_number_of_clusters_is_known_found_or_demanded() -> None:
    """By whom: a set with classes knows, consensus finds, SCAN on one's own pictures asks."""
    assert [name for name in RECIPES if by_name(name).num_clusters is None] == ["custom_scratch"]
    assert [name for name in RECIPES if by_name(name).is_auto] == ["custom"]


@pytest.mark.parametrize("name", RECIPES)
def test_docstring_is_a_lab_note(name: str) -> None:
    """Source, command and what is measured stand in every recipe; its own name in the command."""
    note = inspect.getdoc(RECIPES[name]) or ""
    assert "arXiv 2005.12320" in note
    assert "Command: `" in note
    assert "Measured:" in note
    assert "Deviation:" in note
    ways = {"digits": "rayscan demo", "imagenet": "python -m rayscan.full_imagenet"}
    assert ways.get(name, f"rayscan run {name} ") in note


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_carries_its_name_and_is_made_anew(name: str) -> None:
    """The saved recipe says where it started."""
    assert by_name(name).name == name
    assert isinstance(by_name(name), Recipe)


@pytest.mark.parametrize(
    ("typed", "meant"), [("cifar1O", "cifar10"), ("imagenet5", "imagenet50"), ("digit", "digits")]
)
def test_unknown_name_suggests_near_ones(typed: str, meant: str) -> None:
    """A typing error costs a second."""
    with pytest.raises(ConfigError) as caught:
        by_name(typed)
    assert typed in caught.value.text
    assert meant in caught.value.text.split("perhaps you meant")[1]


def test_recipes_import_settings_and_errors_only() -> None:
    """A recipe is data: it knows nothing that needs more than the standard library."""
    for path in Path(rayscan.recipes.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="ascii"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rayscan"):
                allowed = ("rayscan.config", "rayscan.errors", "rayscan.recipes")
                assert (node.module or "").startswith(allowed), path
