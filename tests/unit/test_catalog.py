"""The table of pretrained networks against timm: what it says of each is what timm has and computes."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from rayscan.catalog import CATALOG, Pretrained, pretrained
from rayscan.errors import ConfigError
from rayscan.nets.catalog import build_backbone
from rayscan.pretrained.describe import described


@pytest.mark.parametrize("entry", CATALOG.values(), ids=lambda e: e.name)
def test_an_entry_is_what_timm_knows(entry: Pretrained) -> None:
    """Weights, licence and repository; only lite0's weights are not timm's."""
    assert entry.model in timm.list_pretrained(entry.model)
    config = timm.get_pretrained_cfg(entry.model)
    assert entry.licence == config.license
    assert entry.repo == (None if entry.name == "lite0" else config.hf_hub_id)
    assert config.hf_hub_filename is None  # timm's own names of files


HEAVY_GMACS = 50.0


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, id=entry.name, marks=[pytest.mark.soak] if entry.gmacs > HEAVY_GMACS else [])
        for entry in CATALOG.values()
    ],
)
def test_figures_are_those_of_the_model(entry: Pretrained) -> None:
    """Width, parameters, and multiply-adds as torch counts them: two operations each."""
    with torch.device("meta"):
        net = build_backbone(
            f"timm/{entry.model}", "imagenet", is_sync=False, size_px=entry.size_px, pooling=entry.pooling
        )
        net = net.eval().requires_grad_(requires_grad=False)
        with FlopCounterMode(display=False) as counter:
            features = net(torch.empty(1, 3, entry.size_px, entry.size_px))
    assert features.shape == (1, entry.dim) == (1, net.dim)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(entry.params, abs=0.051)
    assert counter.get_total_flops() / 2e9 == pytest.approx(entry.gmacs, abs=0.051)


def test_dinov3_is_pooled_by_its_class_token() -> None:
    """timm averages; the authors take the class token."""
    pooled = {name: entry.pooling for name, entry in CATALOG.items() if entry.pooling}
    assert pooled == {f"dinov3-{size}": "token" for size in ("small", "base", "large", "huge-plus")}
    assert timm.create_model("test_vit", num_classes=0).global_pool == "token"
    with torch.device("meta"):
        assert timm.create_model(CATALOG["dinov3-small"].model).global_pool == "avg"


def test_only_the_small_bundled_one_has_seen_labels() -> None:
    """A user who wants none of ImageNet's labels has every other choice."""
    seen = [e.name for e in CATALOG.values() if e.trained_with == "labels of ImageNet"]
    assert seen == [e.name for e in CATALOG.values() if e.repo is None] == ["lite0"]


def test_an_unknown_name_lists_near_ones() -> None:
    with pytest.raises(ConfigError, match=r"(?s)expected: dinov2-small.*got: +dinov2-smal\b.*rayscan fetch"):
        pretrained("dinov2-smal")


def test_a_name_of_timm_is_taken_as_timm_has_it() -> None:
    """The catalog's own size and pooling belong to its short name; what the weights are does not change."""
    listed = CATALOG["dinov3-small"]
    found = pretrained(f"timm/{listed.model}")
    assert (found.size_px, found.pooling, found.gmacs) == (None, "", None)
    assert (found.licence, found.trained_with, found.repo) == (listed.licence, "no labels", listed.repo)
    other = pretrained("timm/test_vit.r160_in1k")
    assert dataclasses.replace(other, name="", model="") == Pretrained(name="", model="", repo=None)


def test_timm_fills_in_what_the_catalog_lacks() -> None:
    found = described(pretrained("timm/test_vit.r160_in1k"))
    assert (found.repo, found.licence) == ("timm/test_vit.r160_in1k", "apache-2.0")
    assert found.trained_with == "labels of ImageNet"
    assert described(pretrained("timm/vit_base_patch16_224.mae")).trained_with is None
    assert described(CATALOG["lite0"]) is CATALOG["lite0"]
    with pytest.raises(ConfigError, match="no such weights"):
        described(pretrained("timm/test_vit.never"))
    with pytest.raises(ConfigError, match="no weights of this model on the hub"):
        described(pretrained("timm/vit_huge_patch14_gap_224.in1k_ijepa"))


def test_the_table_needs_the_standard_library_alone() -> None:
    """A command line that names a network is read before torch is."""
    code = (
        "import sys, rayscan.catalog; sys.exit(', '.join({'torch', 'timm', 'numpy'} & set(sys.modules)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_document_has_the_same_table() -> None:
    """Every entry, in order, with its figures, licence and training."""
    text = (Path(__file__).parents[2] / "docs" / "howto" / "features.md").read_text(encoding="ascii")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "| `" in line]
    listed = [
        [
            f"`{e.name}`",
            str(e.dim),
            str(e.size_px),
            f"{e.params:g}",
            f"{e.gmacs:g}",
            e.licence,
            e.trained_with,
        ]
        for e in CATALOG.values()
    ]
    assert [row for row in rows if len(row) == len(listed[0])] == listed
