"""How pictures are made, against the pixels of timm's own transform."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torchvision.transforms import functional as F

from rayscan.catalog import CATALOG, Pretrained
from rayscan.config.preprocessing import Preprocessing
from rayscan.errors import ConfigError
from rayscan.nets import preprocessing as module
from rayscan.nets.preprocessing import preprocessing, preprocessing_of


def applied(settings: Preprocessing, picture: Image.Image) -> torch.Tensor:
    """What the settings say, in words of torchvision."""
    side = settings.size_px
    mode = F.InterpolationMode(settings.interpolation)
    resized = F.resize(picture, int(side / settings.crop_share), mode)
    return F.normalize(F.to_tensor(F.center_crop(resized, [side, side])), settings.mean, settings.std)


@pytest.mark.parametrize(
    "model",
    ["test_vit.r160_in1k", "resnet50.tv_in1k", "vit_base_patch16_siglip_224.v2_webli", "mixnet_s.ft_in1k"],
)
def test_pixels_are_those_of_timm(model: str) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 411, 3), dtype=np.uint8))
    theirs = create_transform(**resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(model).to_dict()))
    torch.testing.assert_close(applied(preprocessing_of(model), picture), theirs(picture))


def test_a_size_of_its_own_leaves_the_rest() -> None:
    listed = CATALOG["dinov2-small"]
    assert preprocessing_of(listed.model).size_px == 518
    assert preprocessing(listed) == preprocessing_of(listed.model, 224)
    assert preprocessing(listed, 112).size_px == 112
    assert preprocessing(listed, 112).crop_share == preprocessing_of(listed.model).crop_share


def test_lite0_is_shown_what_its_weights_were_trained_on() -> None:
    """timm's configuration of the same net has .5 and .5, for its own weights; the rest agrees."""
    own, timms = preprocessing(CATALOG["lite0"]), preprocessing_of(CATALOG["lite0"].model)
    assert (own.mean, own.std) == ((0.498,) * 3, (0.502,) * 3)
    assert (timms.mean, timms.std) == ((0.5,) * 3, (0.5,) * 3)
    assert (own.size_px, own.crop_share, own.interpolation) == (224, 0.875, "bicubic")
    assert (timms.size_px, timms.crop_share, timms.interpolation) == (224, 0.875, "bicubic")


def test_no_weights_of_timm_want_another_resampling() -> None:
    """What is refused is refused of nothing that timm has today."""
    modes = {timm.get_pretrained_cfg(name).interpolation for name in timm.list_pretrained()}
    assert modes == set(module.INTERPOLATIONS)


def test_what_cannot_be_said_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = timm.get_pretrained_cfg("test_vit")
    monkeypatch.setattr(module, "timm_config", lambda name: config)
    config.interpolation = "lanczos"
    with pytest.raises(ConfigError, match="lanczos"):
        preprocessing_of("test_vit")
    config.interpolation, config.input_size = "bicubic", (3, 128, 1024)
    with pytest.raises(ConfigError, match="3 x 128 x 1024"):
        preprocessing_of("test_vit")
    assert preprocessing_of("test_vit", 128).size_px == 128


@pytest.mark.parametrize("entry", CATALOG.values(), ids=lambda e: e.name)
def test_every_entry_has_one(entry: Pretrained) -> None:
    assert preprocessing(entry).size_px == entry.size_px
