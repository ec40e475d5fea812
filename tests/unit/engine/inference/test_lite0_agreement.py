"""The bundled network on real photos: this machine's engine and pixels, against timm's in float32."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import simplejpeg
import torch
from PIL import Image
from timm.data import create_transform
from torch.nn.functional import cosine_similarity

from rayscan.catalog import LITE0
from rayscan.data.central_crop import central_crop, short_side
from rayscan.data.decode import decode
from rayscan.engine.inference.fast import fast_net
from rayscan.pretrained.read import read_pretrained
from rayscan.processor import has_bf16_units
from testing.frozen_net import frozen_net

PHOTOS = Path(__file__).parents[5] / "shared" / "data" / "imagenet-sample"
SIZE_PX = 224
"""Side of the square the network sees (timm's own configuration of tf_efficientnet_lite0)."""


@pytest.fixture(scope="module")
def photos():
    shards = sorted(PHOTOS.glob("*.tar"))
    if not shards:
        pytest.skip("the photos of shared/data/imagenet-sample are not here")
    with tarfile.open(shards[0]) as tar:
        files = [tar.extractfile(member).read() for member in tar if member.name.endswith(".jpg")]
    # A smaller picture is taken whole, which timm does not do (data/central_crop.py).
    return [data for data in files if min(simplejpeg.decode_jpeg_header(data)[:2]) > SIZE_PX][:32]


def network():
    tensors, facts = read_pretrained(LITE0)
    return frozen_net(facts, tensors)


def by_timm(photos):
    net, wanted = network()
    assert wanted.size_px == SIZE_PX
    change = create_transform(
        (3, wanted.size_px, wanted.size_px),
        interpolation=wanted.interpolation,
        crop_pct=wanted.crop_share,
        mean=wanted.mean,
        std=wanted.std,
    )
    with torch.inference_mode():
        return net(torch.stack([change(Image.open(io.BytesIO(data)).convert("RGB")) for data in photos]))


@pytest.fixture(scope="module")
def pixels(photos):
    _, wanted = network()
    cut = []
    for data in photos:
        height, width = simplejpeg.decode_jpeg_header(data)[:2]
        small = decode(data, max_pixels=10**8, min_px=short_side(wanted))
        cut.append(torch.from_numpy(central_crop(small, height, width, wanted).copy()).permute(2, 0, 1))
    return torch.stack(cut)


def features(pixels, **options):
    return fast_net(*network(), num_rows=len(pixels), **options)(pixels)


def test_pixels_are_those_of_timm_to_the_network(photos, pixels):
    rows = features(pixels, engine="eager", precision="fp32")
    assert rows.shape == (len(photos), 1280)
    assert cosine_similarity(rows, by_timm(photos)).mean() >= 0.999


# Torch keeps 0.999 in bf16; OpenVINO's bf16 does not quite (docs/results/embedding.md says so, and what it
# does to purity). Its bound here would notice another defect, such as a wrong mean.
@pytest.mark.parametrize(
    ("engine", "precision", "least"),
    [("eager", "auto", 0.999), ("openvino", "bf16", 0.998), ("openvino", "fp32", 0.99999)],
)
def test_the_engine_agrees_with_float32(pixels, engine, precision, least):
    if engine == "openvino":
        pytest.importorskip("openvino")
        if precision == "bf16" and not has_bf16_units():
            pytest.skip("no units for bfloat16 that may be used")
    exact = features(pixels, engine="eager", precision="fp32")
    assert cosine_similarity(features(pixels, engine=engine, precision=precision), exact).mean() >= least
