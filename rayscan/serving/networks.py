"""The networks of a run in one process: received files -> pixels -> the features that embed would store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rayscan.artifacts import Artifact
from rayscan.config import Recipe
from rayscan.data.tones import PLAIN, Decoding
from rayscan.engine.inference.fast import fast_net
from rayscan.engine.inference.frozen import FrozenNet
from rayscan.errors import ConfigError
from rayscan.run import Run
from rayscan.serving.pictures import Preparer, preparer
from rayscan.stages import embed, pretext
from rayscan.stages.per_space import key_of
from rayscan.training.models import feature_net
from rayscan.training.pictures import preprocessing_in

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Network:
    """One source of features."""

    recipe: Recipe
    """Of the run, with this source alone."""
    pretext: Artifact
    prepare: Preparer
    _net: FrozenNet | nn.Module
    _device: str

    @staticmethod
    def load(
        recipe: Recipe, weights: Artifact, *, threads: int, max_pixels: int, how: Decoding = PLAIN
    ) -> Network:
        """Load.

        Args:
            recipe: Of the run, with this source alone.
            weights: Result of its pretext stage.
            threads: That compute.
            max_pixels: Larger pictures are refused before they are decoded, or decoded smaller.
            how: Bands and ranges of the run's own images.
        """
        device = "cuda" if torch.cuda.is_available() else "cpu"
        net, _ = feature_net(recipe, weights, trains=False)
        made: FrozenNet | nn.Module = net.eval().to(device)
        if (wanted := preprocessing_in(weights)) is not None:
            settings = recipe.embed
            made = fast_net(
                net,
                wanted,
                num_rows=0,
                device=device,
                batch_size=settings.batch_size,
                threads=threads,
                engine=settings.engine,
                precision=settings.precision,
            )
        return Network(recipe, weights, preparer(recipe, weights, max_pixels, how), made, device)

    @property
    def has_own_threads(self) -> bool:
        """Whether the threads of torch have no part in it."""
        return isinstance(self._net, FrozenNet) and self._net.engine == "openvino"

    @property
    def chunk(self) -> int:
        """Images computed at once; fewer cost as much."""
        return self._net.chunk if isinstance(self._net, FrozenNet) else 1

    def features(self, pixels: Tensor) -> Rows:
        """Features of unit length as embed stores them, [n, D].

        Args:
            pixels: From `prepare` [n, 3, S, S].
        """
        net = self._net
        found = net(pixels) if isinstance(net, FrozenNet) else net(pixels.to(self._device)).float().cpu()
        unit = nn.functional.normalize(found, dim=1).numpy()
        return unit.astype(np.dtype(self.recipe.embed.dtype)).astype(np.float32)


def networks_of(
    run: Run, recipe: Recipe, *, threads: int, max_pixels: int, how: Decoding = PLAIN
) -> dict[str, Network]:
    """The networks of a run, by what it calls their features: `embed`, or `embed@NAME` of several.

    Raises:
        ArtifactError: the run lacks one.
        ConfigError: features come from a file.
    """
    require_networks(recipe, run.place.uri)
    spaces, found = recipe.spaces, {}
    for space in spaces:
        names = [key_of(s.NAME, space) if len(spaces) > 1 else s.NAME for s in (embed, pretext)]
        alone, weights = replace(recipe, features=(space.spec,)), run.artifact(names[1])
        found[names[0]] = Network.load(alone, weights, threads=threads, max_pixels=max_pixels, how=how)
    return found


def require_networks(recipe: Recipe, where: str) -> None:
    """Refuse a run with features that no network makes.

    Raises:
        ConfigError: naming them.
    """
    if files := [space.spec for space in recipe.spaces if not space.has_net]:
        raise ConfigError(
            "the run cannot be served",
            expected="features of networks",
            got=", ".join(files),
            where=where,
            fix="rayscan predict takes new files in the place of these",
        )


def chunk_of(networks: Mapping[str, Network]) -> int:
    """Images that all networks compute at once."""
    return max(network.chunk for network in networks.values())
