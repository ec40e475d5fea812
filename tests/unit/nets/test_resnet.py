"""Our ResNets are torchvision's, name by name and number by number; stems as the papers say."""

from __future__ import annotations

import pytest
import torch
import torchvision

from rayscan.errors import ConfigError
from rayscan.nets.catalog import build_backbone


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_equals_torchvision(name: str) -> None:
    reference = getattr(torchvision.models, name)()
    reference.fc = torch.nn.Identity()
    ours = build_backbone(name, "imagenet")
    ours.load_state_dict(reference.state_dict())
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    reference.eval()
    ours.eval()
    assert torch.equal(ours(x), reference(x))
    assert ours(x).shape == (2, ours.dim)


@pytest.mark.parametrize(("stem", "side"), [("cifar", 32), ("stl", 16), ("imagenet", 8)])
def test_stems_shrink_as_they_should(stem: str, side: int) -> None:
    net = build_backbone("resnet10_w16", stem)  # type: ignore[arg-type]
    assert net.maxpool(net.conv1(torch.zeros(1, 3, 32, 32))).shape[-1] == side
    assert net.dim == 128


def test_unknown_backbone_names_the_known() -> None:
    with pytest.raises(ConfigError, match="resnet50"):
        build_backbone("resnet49", "cifar")
