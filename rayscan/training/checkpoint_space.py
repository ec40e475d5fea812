"""Features `checkpoint:PATH`: weights of others for the network that `pretext.backbone` names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rayscan.artifacts import Artifact, Draft
from rayscan.config import PretextConfig, Recipe
from rayscan.context import Context
from rayscan.engine.tensors import pack
from rayscan.errors import ConfigError
from rayscan.nets.catalog import TIMM, build_backbone
from rayscan.nets.checkpoint_file import read_checkpoint
from rayscan.nets.fitting import fit
from rayscan.nets.heads import ProjectionHead
from rayscan.nets.preprocessing import preprocessing_of
from rayscan.nets.single_feature import require_single_feature
from rayscan.out_kinds import RECORD
from rayscan.run import Run
from rayscan.sections import semantic
from rayscan.spaces import Space
from rayscan.storage import Place
from rayscan.training.models import WEIGHTS

SHAPE = ("backbone", "stem", "projection_dim", "projection_hidden_dim", "checkpoint_license")
"""Settings that decide what is read, and what is recorded."""
TRAINED = ("own", "checkpoint")
"""Spaces of a run whose pretext holds the network that its settings name."""


def require(recipe: Recipe, space: Space) -> None:
    """Refuse a checkpoint that is not there, or that its run says is of another network.

    Raises:
        ConfigError: there is no such file; or the settings that the run had, as flags.
    """
    place, name = _place(space)
    if place.size(name) is None:
        raise _missing(space)
    former = _run_of(space)
    if former is None or (run := former.recipe).spaces[0].kind not in TRAINED:
        return
    has, trained = (f"{one.pretext.backbone} with the stem {one.pretext.stem}" for one in (recipe, run))
    if has != trained:
        side = f" --images.size-px {run.images.size_px}" * (recipe.images.size_px != run.images.size_px)
        net = f"--pretext.backbone {run.pretext.backbone} --pretext.stem {run.pretext.stem}"
        raise ConfigError(
            "the checkpoint is of another network",
            expected=f"{trained}, as the run has",
            got=has,
            where=former.place.uri,
            fix=f"pass {net}{side}",
        )


def told(recipe: Recipe, space: Space) -> dict[str, Any]:
    """What is known of the weights before they are read."""
    return {
        "kind": space.kind,
        "backbone": recipe.pretext.backbone,
        "source": space.target,
        "licence": recipe.pretext.checkpoint_license or "not given",
        "trained_with": "not known",
    }


def config(recipe: Recipe, space: Space) -> dict[str, Any]:
    """Settings that decide the result: the bytes of the file, not its name."""
    net = {k: getattr(recipe.pretext, k) for k in SHAPE} | _preprocessing(recipe)
    return {"pretext": {"checkpoint_sha256": _sha256(_read(space)), **net}}


def take(recipe: Recipe, space: Space, draft: Draft, context: Context) -> Artifact:
    """Store the checkpoint's backbone, and its projection if it is one of ours, as the stage's result.

    Raises:
        ConfigError: there is no such file, or neighbors are wanted after a projection that is not in it.
        ArtifactError: it cannot be read, or does not fit the backbone; missing and unexpected keys are named.
    """
    settings, source = recipe.pretext, space.target
    context.progress.start("pretext", 1, "checkpoint")
    data = _read(space)
    made = _preprocessing(recipe)
    size_px = made["preprocessing"]["size_px"] if made else None
    with torch.device("meta"):  # names and shapes are enough
        net = build_backbone(settings.backbone, settings.stem, is_sync=False, size_px=size_px).eval()
        require_single_feature(net, size_px or recipe.images.size_px, settings.backbone)
    adapted = fit(net, read_checkpoint(data, source), source)
    projection = _fitting(adapted.projection, settings, net.dim)
    if recipe.embed.space == "projection" and not projection:
        raise ConfigError(
            "the checkpoint has no projection that fits",
            expected=f"Linear, ReLU, Linear to {settings.projection_dim}, as pretext.projection_dim says",
            got=", ".join(adapted.dropped) or "the backbone alone",
            where=source,
            fix="pass --embed.space backbone",
        )
    facts = {
        **told(recipe, space),
        "method": "checkpoint",
        "stem": settings.stem,
        "dim": net.dim,
        "sha256": _sha256(data),
        "layout": adapted.layout,
        "left_out": adapted.dropped,
        "has_projection": bool(projection),
        **made,
    }
    weights = {f"backbone.{k}": v for k, v in adapted.tensors.items()}
    weights |= {f"projection.{k}": v for k, v in projection.items()}
    files = {WEIGHTS: draft.write(WEIGHTS, pack(weights))}
    files["pretext.json"] = draft.write_json("pretext.json", facts)
    artifact = draft.commit(files, facts=facts)
    context.progress.finish(f"{source}: {adapted.layout}, {len(weights)} tensors, licence {facts['licence']}")
    return artifact


def _preprocessing(recipe: Recipe) -> dict[str, Any]:
    """What timm's configuration says of a model's pictures; nothing for the networks of this project."""
    name = recipe.pretext.backbone
    if not name.startswith(TIMM):
        return {}
    model = name.removeprefix(TIMM)
    return {"model": model, "preprocessing": semantic(preprocessing_of(model, recipe.embed.size_px))}


def _fitting(found: Mapping[str, Tensor], settings: PretextConfig, dim: int) -> dict[str, Tensor]:
    """The projection, if it is as the settings say."""
    hidden = settings.projection_hidden_dim or dim
    wanted = ProjectionHead(dim, hidden, settings.projection_dim).state_dict()
    fits = found.keys() == wanted.keys() and all(found[k].shape == v.shape for k, v in wanted.items())
    return dict(found) if fits else {}


def _read(space: Space) -> bytes:
    place, name = _place(space)
    try:
        return bytes(place.read(name))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise _missing(space) from error


def _place(space: Space) -> tuple[Place, str]:
    """Directory and name of the file; for the directory of a run, of its pretext's weights."""
    if (run := _run_of(space)) is not None:
        artifact = run.artifact("pretext")
        return artifact.place, artifact.files[WEIGHTS].path
    folder, slash, name = space.target.rstrip("/").rpartition("/")
    return Place(folder or slash or "."), name


def _run_of(space: Space) -> Run | None:
    """The run whose directory the target is, if it is one."""
    source = space.target.rstrip("/")
    return None if Place(source).size(RECORD) is None else Run(source)


def _missing(space: Space) -> ConfigError:
    return ConfigError(
        "there is no such checkpoint", expected="a file of weights", got=space.target, where="features"
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
