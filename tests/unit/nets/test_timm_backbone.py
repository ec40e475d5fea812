"""Backbones of the timm library: its smallest models, and what is done around them."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from rayscan.errors import ConfigError
from rayscan.nets.batchnorm import GlobalBatchNorm2d
from rayscan.nets.catalog import build_backbone, require_any_side
from rayscan.nets.timm_backbone import TimmBackbone, build_timm, pooling_of, timm_config
from rayscan.nets.timm_batchnorm import GlobalBatchNormAct2d


def test_features_are_those_of_timm() -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("resnet18", num_classes=0).eval()
    ours = build_backbone("timm/resnet18", "imagenet").eval()
    ours.load_state_dict({f"model.{k}": v for k, v in theirs.state_dict().items()})
    x = torch.randn(2, 3, 64, 64)
    assert ours.dim == 512
    torch.testing.assert_close(ours(x), theirs(x))


def test_normalisation_is_made_global_and_left_alone_when_frozen() -> None:
    net = build_backbone("timm/resnet18", "imagenet")
    assert isinstance(net.get_submodule("model.bn1"), GlobalBatchNorm2d)
    frozen = build_backbone("timm/resnet18", "imagenet", is_sync=False)
    assert type(frozen.get_submodule("model.bn1")) is nn.BatchNorm2d


def test_normalisation_joined_with_its_activation_is_made_global() -> None:
    """EfficientNet has timm's own; alone, it trains as timm's does."""
    torch.manual_seed(0)
    theirs = timm.create_model("test_efficientnet", num_classes=0).train()
    ours = build_backbone("timm/test_efficientnet", "imagenet").train()
    ours.load_state_dict({f"model.{k}": v for k, v in theirs.state_dict().items()})
    assert isinstance(ours.get_submodule("model.bn1"), GlobalBatchNormAct2d)
    x = torch.randn(4, 3, 64, 64)
    torch.testing.assert_close(ours(x), theirs(x))
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[f"model.{name}"], value)


def test_a_normalisation_that_cannot_be_global_is_refused_for_training_alone(monkeypatch) -> None:
    class Other(nn.BatchNorm2d):
        """Somebody's own."""

    made = timm.create_model("resnet18", num_classes=0)
    made.bn1.__class__ = Other
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: made)
    with pytest.raises(ConfigError, match=r"Other at bn1"):
        build_backbone("timm/resnet18", "imagenet")
    build_backbone("timm/resnet18", "imagenet", is_sync=False)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_mambaout", "mobilenetv4_conv_small_035"])
def test_the_width_is_that_of_the_features(name: str) -> None:
    """Some models widen after the pooling."""
    with torch.device("meta"):
        net = build_timm(name, is_sync=False).eval().requires_grad_(requires_grad=False)
        assert net(torch.empty(1, 3, 160, 160)).shape == (1, net.dim)


@pytest.mark.parametrize("size_px", [None, 64, 224])
def test_a_transformer_is_built_for_the_pictures_it_gets(size_px: int | None) -> None:
    """test_vit is for 160 px; a convolutional net takes any size."""
    x = torch.zeros(1, 3, size_px or 160, size_px or 160)
    for name in ("test_vit", "test_resnet"):
        net = build_backbone(f"timm/{name}", "imagenet", is_sync=False, size_px=size_px).eval()
        assert net(x).shape == (1, net.dim)


def test_pictures_of_several_sides_need_a_network_that_takes_them() -> None:
    for name in ("resnet18", "timm/test_resnet"):
        require_any_side(name, "pretext.first_px")
    with pytest.raises(ConfigError, match=r"one side[\s\S]*leave pretext\.first_px out"):
        require_any_side("timm/test_vit", "pretext.first_px")


def test_a_side_that_patches_do_not_fill_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"multiple of 16 px, such as 96 or 112"):
        build_timm("test_vit", is_sync=False, size_px=100)


def test_pooling_by_token_and_by_average() -> None:
    """After the last normalisation, which is the authors' order; names of the weights stay."""
    torch.manual_seed(0)
    token = build_timm("test_vit", is_sync=False).eval()
    average = build_timm("test_vit", is_sync=False, pooling="avg").eval()
    average.load_state_dict(token.state_dict())
    x = torch.randn(2, 3, 160, 160)
    tokens = token.model.forward_features(x)
    torch.testing.assert_close(token(x), tokens[:, 0])
    torch.testing.assert_close(average(x), tokens[:, 1:].mean(1))
    assert [pooling_of(net.model) for net in (token, average)] == ["token", "avg"]


def test_dinov3_takes_its_class_token() -> None:
    """Normalised, without the register tokens that stand between it and the patches."""
    torch.manual_seed(0)
    net = build_timm("vit_small_patch16_dinov3", is_sync=False, size_px=32, pooling="token").eval()
    with torch.no_grad():
        x = torch.randn(1, 3, 32, 32)
        tokens = net.model.forward_features(x)
        assert tokens.shape[1] == 1 + 4 + 4
        assert torch.equal(net(x), tokens[:, 0])


@pytest.mark.parametrize(
    ("name", "pooling", "said"),
    [
        ("timm/test_resnet", "token", "expected: avg$"),
        ("timm/vit_base_patch16_siglip_224", "token", "expected: map$"),
        ("timm/vit_little_patch16_reg1_gap_256", "token", "expected: avg$"),
        ("timm/test_vit", "max", "expected: token or avg$"),
        ("resnet18", "token", "averages over places"),
    ],
)
def test_pooling_that_a_model_has_not_is_refused(name: str, pooling: str, said: str) -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match=f"(?m){said}"):
        build_backbone(name, "imagenet", is_sync=False, pooling=pooling)


@pytest.mark.parametrize(
    ("name", "near"), [("test_vot", r"test_vit|timm\.list_models"), ("test_vit.never", "test_vit.r160_in1k")]
)
def test_an_unknown_name_suggests_near_ones(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=near):
        build_backbone(f"timm/{name}", "cifar")


def test_no_name_reaches_the_network() -> None:
    """timm would read `hf_hub:OWNER/NAME` from the hub."""
    with pytest.raises(ConfigError, match="no such model"):
        timm_config("hf_hub:timm/test_vit.r160_in1k")


def test_pooling_of_models_that_pool_in_a_layer() -> None:
    with torch.device("meta"):
        assert pooling_of(timm.create_model("test_convnext", num_classes=0)) == "avg"
        assert pooling_of(timm.create_model("vit_base_patch16_siglip_224", num_classes=0)) == "map"
        assert isinstance(build_timm("test_resnet", is_sync=False), TimmBackbone)
