"""The model of a run: files -> pixels -> features and probabilities, as `rayscan predict` has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rayscan.data.table import DECODING
from rayscan.data.tones import Decoding
from rayscan.methods import METHODS
from rayscan.predict import with_engine_of
from rayscan.run import Run
from rayscan.serving.networks import chunk_of, networks_of
from rayscan.stages import join
from rayscan.stages.rules import probabilities, reads_spaces, rule_of
from rayscan.training.models import load_cluster_net

Rows = NDArray[np.float32]
Pixels: TypeAlias = tuple[Tensor, ...]
"""Of the same images for each network [n, 3, S, S]."""


class Model:
    """The networks of a run, and what puts their features into clusters."""

    def __init__(self, run: Run, *, threads: int = 1, max_pixels: int = 100_000_000) -> None:
        """Load.

        Args:
            run: A finished run on the features of networks.
            threads: That compute.
            max_pixels: Larger pictures are refused before they are decoded, or decoded smaller.

        Raises:
            ArtifactError: the run has no trained model.
            ConfigError: its features come from a file.
        """
        recipe = with_engine_of(run, run.recipe, lambda _: None)
        how = Decoding.of_facts(run.artifact("index").facts.get(DECODING))
        self._networks = networks_of(run, recipe, threads=threads, max_pixels=max_pixels, how=how)
        self.chunk = chunk_of(self._networks)
        """Images that are computed at once; fewer cost as much."""
        several = len(self._networks) > 1
        self._bases = join.bases_of(run.artifact(join.NAME), self._networks) if several else None
        model = run.artifact(METHODS[recipe.method].model)
        self._rule = rule_of(model)
        if self._rule is None:
            (network,) = self._networks.values()
            self._device = "cuda" if torch.cuda.is_available() else "cpu"
            self._net = load_cluster_net(recipe, network.pretext, model).eval().to(self._device)
        has_own = self._rule is not None and all(n.has_own_threads for n in self._networks.values())
        # What torch then computes is small: threads would wait for each other longer than they compute.
        torch.set_num_threads(1 if has_own else threads)

    def prepare(self, files: list[bytes]) -> Pixels:
        """Decode and cut files for each network; may be called by several threads.

        Raises:
            RefusalError: naming the first file that is no image.
        """
        return tuple(network.prepare(files) for network in self._networks.values())

    def __call__(self, prepared: Sequence[Pixels]) -> tuple[Rows, Tensor]:
        """Classify.

        Args:
            prepared: From `prepare`, of some files each.

        Returns:
            Features of unit length [n, D] as the run stores them, and probabilities [n, C].
        """
        pixels = [torch.cat(some) for some in zip(*prepared, strict=True)]
        with torch.inference_mode():
            found = {
                name: network.features(some)
                for (name, network), some in zip(self._networks.items(), pixels, strict=True)
            }
            rows = self._joined(found)
            if self._rule is None:
                net, device = self._net, self._device
                return rows, net(pixels[0].to(device))[0].float().softmax(-1).cpu()
            read = tuple(found.values()) if reads_spaces(self._rule) else (rows,)
            return rows, torch.from_numpy(probabilities(self._rule, read))

    def _joined(self, found: dict[str, Rows]) -> Rows:
        if self._bases is None:
            return next(iter(found.values()))
        dtype = np.dtype(next(iter(self._networks.values())).recipe.embed.dtype)
        return join.joined(found, self._bases).astype(dtype).astype(np.float32)
