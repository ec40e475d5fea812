"""Checkpoints of one's own: what `read_own` makes of files and networks, right ones and wrong ones."""

from __future__ import annotations

import hashlib
import io
import json

import pytest
import timm
import torch
from safetensors.torch import save

from rayscan.config.preprocessing import Preprocessing
from rayscan.errors import ArtifactError, ConfigError
from rayscan.nets.catalog import build_backbone
from rayscan.pretrained.read import frozen_net, read_own


def test_a_file_of_timm_gives_its_features_and_timms_pictures() -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("test_vit").eval()
    data = save(theirs.state_dict())
    tensors, facts = read_own(data, "mine.safetensors", "timm/test_vit", licence="MIT")
    net, pictures = frozen_net(json.loads(json.dumps(facts)), tensors)
    x = torch.randn(2, 3, 160, 160)
    assert torch.equal(net(x), theirs.forward_head(theirs.forward_features(x), pre_logits=True))
    assert (pictures.size_px, pictures.mean) == (160, (0.5,) * 3)
    assert (facts["licence"], facts["source"], facts["revision"]) == ("MIT", "mine.safetensors", None)
    assert facts["sha256"] == hashlib.sha256(data).hexdigest()
    assert not any(p.requires_grad for p in net.parameters())
    assert not net.training


def test_a_resnet_of_rayscan_in_a_torch_file_of_half_precision() -> None:
    torch.manual_seed(0)
    theirs = build_backbone("resnet10_w16", "cifar", is_sync=False).eval()
    buffer = io.BytesIO()
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in theirs.state_dict().items()}, buffer)
    pictures = Preprocessing(size_px=32, mean=(0.4,) * 3)
    tensors, facts = read_own(buffer.getvalue(), "mine.pth", "resnet10_w16", stem="cifar", pictures=pictures)
    net, made = frozen_net(facts, tensors)
    assert made == pictures
    assert facts["licence"] == "not given"
    x = torch.randn(2, 3, 32, 32)
    assert net(x).dtype == torch.float32
    torch.testing.assert_close(net(x), theirs(x), rtol=1e-2, atol=1e-2)  # weights of 11 bits


def test_the_wrong_network_and_the_wrong_size_are_refused() -> None:
    data = save(timm.create_model("test_vit").state_dict())
    with pytest.raises(ArtifactError, match="does not fit"):
        read_own(data, "mine", "timm/test_resnet")
    with pytest.raises(ConfigError, match="multiple of 16 px"):
        read_own(data, "mine", "timm/test_vit", size_px=100)
    with pytest.raises(ConfigError, match="no such model"):
        read_own(data, "mine", "timm/test_vot")
    with pytest.raises(ConfigError, match=r"no single feature(?s:.)*\[1, 256, 1152\]"):
        read_own(data, "mine", "timm/gemma4_vit_570m_enc")
    with pytest.raises(ConfigError, match="unknown backbone"):
        read_own(data, "mine", "resnet49")
