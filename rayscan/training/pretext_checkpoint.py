"""The pretext stage with a checkpoint of others: read it, find its backbone, record where it comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rayscan.artifacts import Artifact, Draft
from rayscan.config import PretextConfig, Recipe
from rayscan.context import Context
from rayscan.engine.tensors import pack
from rayscan.errors import ConfigError
from rayscan.nets.catalog import build_backbone
from rayscan.nets.checkpoint_file import read_checkpoint
from rayscan.nets.fitting import fit
from rayscan.nets.heads import ProjectionHead
from rayscan.run import RECORD, Run
from rayscan.storage import Place
from rayscan.training.models import WEIGHTS

KEY = "pretext.checkpoint"
SHAPE = ("backbone", "stem", "projection_dim", "projection_hidden_dim", "checkpoint_license")
"""Settings that decide what is read, and what is recorded."""


def config(settings: PretextConfig) -> dict[str, Any]:
    """Settings that decide the result: the bytes of the file, not its name."""
    net = {k: getattr(settings, k) for k in SHAPE}
    return {"pretext": {"checkpoint_sha256": _sha256(_read(settings)), **net}}


def require_file(settings: PretextConfig) -> None:
    """Refuse a checkpoint that is not there, before anything is run.

    Raises:
        ConfigError: there is no such file.
    """
    if settings.checkpoint is None:
        return
    place, name = _place(settings)
    if place.size(name) is None:
        raise _missing(settings)


def import_checkpoint(recipe: Recipe, draft: Draft, context: Context) -> Artifact:
    """Store the checkpoint's backbone, and its projection if it is one of ours, as the stage's result.

    Raises:
        ConfigError: there is no such file, or neighbors are wanted after a projection that is not in it.
        ArtifactError: it cannot be read, or does not fit the backbone; missing and unexpected keys are named.
    """
    settings, source = recipe.pretext, str(recipe.pretext.checkpoint)
    context.progress.start("pretext", 1, "checkpoint")
    data = _read(settings)
    net = build_backbone(settings.backbone, settings.stem, is_sync=False)  # nothing is trained here
    adapted = fit(net, read_checkpoint(data, source), source)
    net.load_state_dict(adapted.tensors)
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
        "method": "checkpoint",
        "backbone": settings.backbone,
        "stem": settings.stem,
        "dim": net.dim,
        "source": source,
        "license": settings.checkpoint_license or "not given",
        "sha256": _sha256(data),
        "layout": adapted.layout,
        "left_out": adapted.dropped,
        "has_projection": bool(projection),
    }
    weights = {f"backbone.{k}": v for k, v in net.state_dict().items()}
    weights |= {f"projection.{k}": v for k, v in projection.items()}
    files = {WEIGHTS: draft.write(WEIGHTS, pack(weights))}
    files["pretext.json"] = draft.write_json("pretext.json", facts)
    artifact = draft.commit(files, facts=facts)
    context.progress.finish(f"{source}: {adapted.layout}, {len(weights)} tensors, licence {facts['license']}")
    return artifact


def _fitting(found: Mapping[str, Tensor], settings: PretextConfig, dim: int) -> dict[str, Tensor]:
    """The projection, if it is as the settings say."""
    hidden = settings.projection_hidden_dim or dim
    wanted = ProjectionHead(dim, hidden, settings.projection_dim).state_dict()
    fits = found.keys() == wanted.keys() and all(found[k].shape == v.shape for k, v in wanted.items())
    return dict(found) if fits else {}


def _read(settings: PretextConfig) -> bytes:
    place, name = _place(settings)
    try:
        return bytes(place.read(name))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise _missing(settings) from error


def _place(settings: PretextConfig) -> tuple[Place, str]:
    """Directory and name of the file; for the directory of a run, of its pretext's weights."""
    source = str(settings.checkpoint).rstrip("/")
    whole = Place(source)
    if whole.size(RECORD) is not None:
        artifact = Run(source).artifact("pretext")
        return artifact.place, artifact.files[WEIGHTS].path
    folder, slash, name = source.rpartition("/")
    return Place(folder or slash or "."), name


def _missing(settings: PretextConfig) -> ConfigError:
    return ConfigError(
        "there is no such checkpoint", expected="a file of weights", got=settings.checkpoint, where=KEY
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
