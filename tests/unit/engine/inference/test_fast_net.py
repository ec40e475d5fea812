"""Every engine computes the network that plain float32 torch computes, one row at a time."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import timm
import torch
import torch._dynamo
import torch._inductor.config
from torch import nn
from torch._inductor.runtime import cache_dir_utils
from torch.nn.functional import cosine_similarity

from rayscan import processor
from rayscan.config.preprocessing import Preprocessing
from rayscan.engine import compiled_programs
from rayscan.engine.inference import choice, fast, openvino_net
from rayscan.engine.inference.choice import choose_engine, choose_precision
from rayscan.engine.inference.fast import fast_net
from rayscan.engine.inference.features import features
from rayscan.errors import ConfigError, DataError, FleetError

PX = 64
PREPROCESSING = Preprocessing(size_px=PX, mean=(0.498, 0.45, 0.4), std=(0.502, 0.3, 0.25))
COMPILED = [
    ("small", "compiled"),
    # half a minute each where nothing was compiled before
    pytest.param("cnn", "compiled", marks=pytest.mark.soak),
    pytest.param("vit", "compiled", marks=pytest.mark.soak),
]
PAIRS = [(kind, engine) for kind in ("cnn", "vit") for engine in ("eager", "openvino")]


def net_of(kind):
    """A small network of the kind with random weights; batch normalisation has seen something."""
    torch.manual_seed(0)
    if kind == "vit":
        return timm.create_model("test_vit2", pretrained=False, num_classes=0, img_size=PX).eval()
    if kind == "small":
        net = nn.Sequential(
            nn.Conv2d(3, 16, 4, stride=4), nn.BatchNorm2d(16), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten()
        )
    else:
        net = timm.create_model("test_efficientnet", pretrained=False, num_classes=0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return net.eval()


def pixels_of(count):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, PX, PX), dtype=np.uint8))


def by_hand(net, pixels):
    """timm's normalisation and the network, float32."""
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (PREPROCESSING.mean, PREPROCESSING.std))
    with torch.inference_mode():
        return net((pixels.float() / 255 - mean) / std)


def build(kind, engine, precision="fp32", **options):
    if engine == "openvino":
        pytest.importorskip("openvino")
        if precision == "bf16" and not processor.has_bf16_units():
            pytest.skip("no units for bfloat16 that may be used")
    net = fast_net(net_of(kind), PREPROCESSING, num_rows=10, engine=engine, precision=precision, **options)
    assert net.facts["engine"] == engine, net.note
    return net


@pytest.mark.parametrize(("kind", "engine"), [*PAIRS, *COMPILED])
def test_equals_plain_torch_in_float32(kind, engine):
    pixels = pixels_of(9)
    expected = by_hand(net_of(kind), pixels)
    rows = build(kind, engine)(pixels)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(("kind", "engine"), [*PAIRS, *COMPILED[1:]])
def test_bf16_keeps_directions_and_rows_depend_on_nothing_else(kind, engine):
    pixels = pixels_of(40)
    net = build(kind, engine, "bf16")
    rows = net(pixels)
    assert cosine_similarity(rows, by_hand(net_of(kind), pixels)).mean() >= 0.999
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    assert torch.equal(net(pixels[order]), rows[order])
    assert torch.equal(net(pixels[17:20]), rows[17:20])
    assert torch.equal(net(pixels.contiguous(memory_format=torch.channels_last)), rows)


def test_openvino_gives_the_same_bits_with_any_number_of_threads():
    pixels = pixels_of(13)
    assert torch.equal(
        build("cnn", "openvino", threads=1)(pixels), build("cnn", "openvino", threads=3)(pixels)
    )


def test_openvino_that_does_not_come_back_is_an_error(monkeypatch):
    net = build("cnn", "openvino")
    monkeypatch.setattr(openvino_net, "STALL_SECONDS", 0)
    with pytest.raises(FleetError, match=r"does not come back(?s:.)*within 0 s"):
        net(pixels_of(2000))


def test_openvino_is_asked_by_several_threads():
    net, pixels = build("cnn", "openvino"), pixels_of(40)
    expected = net(pixels)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda first: net(pixels[first : first + 10]), [0, 10, 20, 30] * 5))
    assert torch.equal(torch.cat(parts), expected.repeat(5, 1))


def test_features_are_in_order_and_equal_for_any_batch_size():
    pixels, net = pixels_of(37), build("cnn", "eager")
    gids = np.random.default_rng(1).permutation(37)

    def fetch(some):
        return pixels[torch.from_numpy(some)]

    expected = by_hand(net_of("cnn"), pixels)[torch.from_numpy(gids)]
    rows = features(net, fetch, gids, batch_size=16)
    torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert torch.equal(features(net, fetch, gids, batch_size=5), rows)
    assert torch.equal(features(net, fetch, gids, batch_size=64), rows)
    assert len(features(net, fetch, gids[:0])) == 0


def test_what_reading_raises_ends_the_pass():
    def fetch(some):
        raise DataError("an image is not what was indexed")

    with pytest.raises(DataError, match="not what was indexed"):
        features(build("cnn", "eager"), fetch, np.arange(4))


def test_a_failed_compilation_is_said_in_one_line_and_computed_plainly(monkeypatch, tmp_path):
    monkeypatch.setenv(compiled_programs.CACHE_VARIABLE, str(tmp_path))
    torch._dynamo.reset()
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}):
        net = fast_net(net_of("small"), PREPROCESSING, num_rows=10, engine="compiled", precision="fp32")
    assert net.facts["engine"] == "eager"
    assert "torch.compile failed" in net.note
    assert "\n" not in net.note
    pixels = pixels_of(3)
    torch.testing.assert_close(net(pixels), by_hand(net_of("small"), pixels), rtol=1e-4, atol=1e-4)


def test_what_openvino_cannot_compile_is_computed_by_torch_and_said(monkeypatch):
    def refuses(*_, **__):
        raise RuntimeError("Exception from src/core.cpp:1:\nthe list of primitives is empty\n")

    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(fast, "OpenVinoNet", refuses)
    net = fast_net(net_of("small"), PREPROCESSING, num_rows=10, precision="fp32")
    assert net.facts["engine"] == "eager"
    assert net.note == "OpenVINO failed, torch computes instead, more slowly: the list of primitives is empty"
    with pytest.raises(ConfigError, match=r"cannot compute this network here(?s:.)*primitives is empty"):
        fast_net(net_of("small"), PREPROCESSING, num_rows=10, engine="openvino", precision="fp32")


class Greedy(nn.Module):
    """A network that has memory for so many images."""

    def __init__(self, most):
        super().__init__()
        self.most, self.asked = most, []

    def forward(self, x):
        self.asked.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x.flatten(1).mean(1, keepdim=True)


def test_the_batch_is_halved_after_an_out_of_memory_and_remembered():
    greedy = Greedy(most=5)
    net = fast_net(greedy, PREPROCESSING, num_rows=10, engine="eager", precision="fp32")
    rows = net(pixels_of(16))
    assert greedy.asked == [16, 8, 4, 4, 4, 4]
    torch.testing.assert_close(rows, by_hand(Greedy(most=16), pixels_of(16)))
    net(pixels_of(8))
    assert greedy.asked[6:] == [4, 4]
    with pytest.raises(torch.OutOfMemoryError):
        fast_net(Greedy(most=0), PREPROCESSING, num_rows=10, engine="eager", precision="fp32")(pixels_of(2))


def test_the_engine_follows_from_the_machine_and_the_rows(monkeypatch):
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: None)
    assert choose_engine("auto", num_rows=400, device="cpu") == "eager"
    assert choose_engine("auto", num_rows=1_000_000, device="cpu") == "compiled"
    assert choose_engine("auto", num_rows=1_000_000, device="cuda") == "compiled"
    with pytest.raises(ConfigError, match=r"rayscan\[openvino\]"):
        choose_engine("openvino", num_rows=400, device="cpu")
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: object())
    assert choose_engine("auto", num_rows=400, device="cpu") == "openvino"
    assert choose_engine("auto", num_rows=400, device="cuda") == "eager"
    assert choose_engine("torch", num_rows=400, device="cpu") == "eager"
    assert choose_engine("torch", num_rows=1_000_000, device="cpu") == "compiled"
    assert choose_engine("eager", num_rows=1_000_000, device="cpu") == "eager"
    with pytest.raises(ConfigError, match="cuda"):
        choose_engine("openvino", num_rows=400, device="cuda")


@pytest.mark.parametrize(
    ("flags", "may", "precision"),
    [
        ({"avx512_bf16": True}, True, "bf16"),
        ({"amx_bf16": True}, True, "bf16"),
        ({"avx2": True}, True, "fp32"),
        ({"avx512_bf16": True}, False, "fp32"),
    ],
)
def test_bf16_where_there_are_units_that_may_be_used(monkeypatch, flags, may, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    monkeypatch.setattr(processor, "onednn_has_bf16", lambda: may)
    assert choose_precision("auto", device="cpu") == precision
    assert choose_precision("fp32", device="cpu") == "fp32"


def test_compiled_programs_lie_where_nobody_else_writes(monkeypatch, tmp_path):
    monkeypatch.delenv(compiled_programs.CACHE_VARIABLE, raising=False)
    cache_dir_utils.cache_dir()  # as torch does it while it is imported: its own default is nobody's wish
    assert compiled_programs.CACHE_VARIABLE in os.environ
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = compiled_programs.use_private_cache()
    assert folder.is_relative_to(tmp_path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert os.environ[compiled_programs.CACHE_VARIABLE] == str(folder)
    monkeypatch.delenv(compiled_programs.CACHE_VARIABLE)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert compiled_programs.use_private_cache() != folder, (
        "weights packed for other instructions corrupt memory"
    )
    monkeypatch.setenv(compiled_programs.CACHE_VARIABLE, "/somewhere/else")
    assert str(compiled_programs.use_private_cache()) == "/somewhere/else"
