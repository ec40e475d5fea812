"""Checkpoints as other projects lay them out, made here: each gives back the same backbone.

The layouts are those of published files: what surrounds the weights, how keys begin, which heads are beside.
"""

from __future__ import annotations

import argparse
import gzip
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from rayscan.errors import ArtifactError
from rayscan.nets.catalog import build_backbone
from rayscan.nets.checkpoint_file import read_checkpoint
from rayscan.nets.layouts import adapt, complete

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    torch.manual_seed(0)
    net = torchvision.models.resnet18()
    for module in net.modules():  # statistics that are not those of a fresh net
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    net.eval()
    return net


def named(prefix: str, state: State) -> State:
    return {prefix + k: v for k, v in state.items()}


def head(prefix: str, *keys: str) -> State:
    return {prefix + k: torch.randn(4, 512) for k in keys}


def moco_v1(body: State) -> dict[str, Any]:
    state = named("module.encoder_q.", body | head("fc.", "weight", "bias"))
    state |= named("module.encoder_k.", {k: torch.zeros_like(v) for k, v in body.items()})
    state |= {"module.queue": torch.randn(128, 16), "module.queue_ptr": torch.zeros(1)}
    return {"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": {"state": {}}}


def moco_v2(body: State) -> dict[str, Any]:
    mlp = head("module.encoder_q.fc.", "0.weight", "0.bias", "2.weight", "2.bias")
    return {"epoch": 800, "state_dict": named("module.encoder_q.", body) | mlp}


def simclr(body: State) -> dict[str, Any]:
    return {"state_dict": named("backbone.", body | head("fc.", "0.weight", "2.weight")), "epoch": 100}


def simclr_with_head_beside(body: State) -> dict[str, Any]:
    return named("backbone.", body) | head("contrastive_head.", "0.weight", "2.weight")


def swav(body: State) -> dict[str, Any]:
    old = {k: v for k, v in body.items() if not k.endswith("num_batches_tracked")}
    beside = head("module.projection_head.", "0.weight", "3.weight") | head("module.prototypes.", "weight")
    return named("module.", old) | beside


def dino_backbone(body: State) -> dict[str, Any]:
    return dict(body)


def dino_full(body: State) -> dict[str, Any]:
    student = named("module.backbone.", {k: torch.zeros_like(v) for k, v in body.items()})
    return {
        "student": student | head("module.head.", "mlp.0.weight", "last_layer.weight_g"),
        "teacher": named("backbone.", body) | head("head.", "mlp.0.weight", "last_layer.weight_g"),
        "epoch": 100,
        "args": argparse.Namespace(arch="resnet18", lr=0.03),
    }


def lightly(body: State) -> dict[str, Any]:
    """`nn.Sequential(*list(resnet.children())[:-1])` inside a Lightning module."""
    order = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool"]
    state = {f"backbone.{order.index(k.partition('.')[0])}.{k.partition('.')[2]}": v for k, v in body.items()}
    beside = head("projection_head.layers.", "0.weight") | head("backbone_momentum.", "0.weight")
    return {"state_dict": state | beside, "pytorch-lightning_version": "2.5.0", "hyper_parameters": {}}


def lightly_short_stem(body: State) -> dict[str, Any]:
    """A ResNet whose children are conv, norm, four stages; its shortcuts are called shortcut."""
    order = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]
    names = {f"{order.index(k.partition('.')[0])}.{k.partition('.')[2]}": v for k, v in body.items()}
    return {
        "state_dict": named("backbone.", {k.replace("downsample", "shortcut"): v for k, v in names.items()})
    }


def solo_learn(body: State) -> dict[str, Any]:
    beside = head("projector.", "0.weight", "2.weight") | head("classifier.", "weight", "bias")
    momentum = named("momentum_backbone.", {k: torch.zeros_like(v) for k, v in body.items()})
    return {"state_dict": named("backbone.", body) | beside | momentum, "epoch": 999, "global_step": 1}


def solo_learn_old(body: State) -> dict[str, Any]:
    return {"state_dict": named("encoder.", body) | head("classifier.", "weight", "bias")}


def torchvision_plain(body: State) -> dict[str, Any]:
    return body | head("fc.", "weight", "bias")


LAYOUTS: dict[Callable[[State], dict[str, Any]], str] = {
    moco_v1: "moco",
    moco_v2: "moco",
    simclr: "simclr",
    simclr_with_head_beside: "simclr",
    swav: "swav",
    dino_backbone: "plain",
    dino_full: "dino",
    lightly: "lightly",
    lightly_short_stem: "lightly",
    solo_learn: "solo-learn",
    solo_learn_old: "solo-learn",
    torchvision_plain: "plain",
}


def file_of(tree: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(tree, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_every_layout_gives_the_same_features(layout: Any, reference: nn.Module) -> None:
    body = {k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")}
    adapted = adapt(read_checkpoint(file_of(layout(body)), "here"), "here")
    assert adapted.layout == LAYOUTS[layout]
    ours = build_backbone("resnet18", "imagenet").eval()
    ours.load_state_dict(complete(adapted.tensors, ours.state_dict()))
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    reference.fc = nn.Identity()
    assert torch.equal(ours(x), reference(x))


def test_left_out_parts_are_named(reference: nn.Module) -> None:
    body = {k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")}
    adapted = adapt(moco_v1(body), "here")
    assert adapted.dropped == ["encoder_k", "encoder_q.fc", "queue", "queue_ptr"]


def test_safetensors_are_read_by_their_content() -> None:
    data = save_safetensors({"conv1.weight": torch.ones(2, 2)})
    assert torch.equal(read_checkpoint(data, "weights.bin")["conv1.weight"], torch.ones(2, 2))


class Harmful:
    """Would run code when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this ran",))


def test_code_in_a_checkpoint_is_refused_and_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    data = file_of({"state_dict": {"conv1.weight": torch.ones(1)}, "hook": Harmful()})
    with pytest.raises(ArtifactError, match="without running code"):
        read_checkpoint(data, "evil.pth")
    assert "this ran" not in capsys.readouterr().out


@pytest.mark.parametrize("data", [b"", b"not a checkpoint", file_of({})[:100]])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"weights\.pth"):
        read_checkpoint(data, "weights.pth")


SAFE = save_safetensors({"conv1.weight": torch.ones(200, 2)})
TORCH = file_of({"conv1.weight": torch.ones(200, 2)})


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "an empty file"),
        (bytes(500), "500 zero bytes"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page or XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        (b"Entry not found", "text that begins with 'Entry not found'"),
        (b'{"error": "no such file"}', "text that begins with"),
        (gzip.compress(TORCH), "gzip"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(99)), "a picture"),
        (TORCH[:-100], "cut or damaged after"),
        (TORCH[:300], "cut or damaged after"),
        (SAFE[:-1], "cut or damaged after"),
        (SAFE[:20], "cut or damaged after"),
    ],
)
def test_what_is_no_checkpoint_is_said(data: bytes, what: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        read_checkpoint(data, "weights.pth")
    assert what in caught.value.text and "weights.pth" in caught.value.text
    assert "weights_only" not in caught.value.text


def test_no_message_advises_to_read_a_file_unsafely() -> None:
    for data in (file_of({"hook": Harmful()}), b"\x80\x02junk" + bytes(range(256))):
        with pytest.raises(ArtifactError) as caught:
            read_checkpoint(data, "here")
        assert "weights_only" not in caught.value.text and "safe_globals" not in caught.value.text


def test_whole_files_are_read() -> None:
    for data in (SAFE, TORCH):
        assert read_checkpoint(data, "here")["conv1.weight"].shape == (200, 2)
    old = io.BytesIO()
    torch.save({"w": torch.ones(3)}, old, _use_new_zipfile_serialization=False)
    assert torch.equal(read_checkpoint(old.getvalue(), "here")["w"], torch.ones(3))


def test_a_file_without_weights_is_refused() -> None:
    with pytest.raises(ArtifactError, match="no weights"):
        adapt({"epoch": 3, "state_dict": {}}, "here")
    with pytest.raises(ArtifactError, match="no table"):
        read_checkpoint(file_of([torch.ones(1)]), "here")  # type: ignore[arg-type]
