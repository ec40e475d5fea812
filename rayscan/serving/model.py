"""The model of a run on pixels: features and probabilities, as `rayscan predict` has them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rayscan.artifacts import Artifact
from rayscan.config import Recipe
from rayscan.engine.inference.fast import fast_net
from rayscan.errors import ConfigError
from rayscan.methods import METHODS
from rayscan.predict import with_engine_of
from rayscan.run import Run
from rayscan.stages.consensus import READS, read_ensemble
from rayscan.stages.kmeans import Centroids
from rayscan.training.models import feature_net, load_cluster_net, load_heads
from rayscan.training.pictures import preprocessing_in

Rows = NDArray[np.float32]


class Model:
    """One network of a run, and what puts its features into clusters."""

    def __init__(self, run: Run, *, threads: int = 1) -> None:
        """Load.

        Args:
            run: A finished run on the features of one network.
            threads: That compute.

        Raises:
            ArtifactError: the run has no trained model.
            ConfigError: its features come from a file, or from several sources.
        """
        torch.set_num_threads(threads)
        recipe = run.recipe
        require_one_network(recipe, run.place.uri)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.recipe = with_engine_of(run, recipe, lambda _: None)
        self.pretext = run.artifact("pretext")
        model = run.artifact(METHODS[recipe.method].model)
        self._features = self._feature_fn(threads)
        self._probabilities = self._probability_fn(model)

    def _feature_fn(self, threads: int) -> Callable[[Tensor], Tensor]:
        net, _ = feature_net(self.recipe, self.pretext, trains=False)
        wanted, settings = preprocessing_in(self.pretext), self.recipe.embed
        if wanted is None:
            net = net.eval().to(self.device)
            return lambda pixels: net(pixels.to(self.device)).float().cpu()
        return fast_net(
            net,
            wanted,
            num_rows=0,
            device=self.device,
            batch_size=settings.batch_size,
            threads=threads,
            engine=settings.engine,
            precision=settings.precision,
        )

    def _probability_fn(self, model: Artifact) -> Callable[[Tensor, Rows], Tensor]:
        """Probabilities of pixels whose stored features would be the given rows."""
        reads = model.facts["reads"]
        if reads == "components":
            fitted = Centroids.read(model)
            return lambda _, rows: torch.from_numpy(fitted.probabilities(fitted.pca.project(rows)))
        if reads == READS:
            ensemble = read_ensemble(model)
            return lambda _, rows: torch.from_numpy(ensemble.probabilities((rows,)))
        if reads == "embeddings":
            heads = load_heads(model).eval()
            return lambda _, rows: heads(torch.from_numpy(rows))[0].softmax(-1)
        net = load_cluster_net(self.recipe, self.pretext, model).eval().to(self.device)
        return lambda pixels, _: net(pixels.to(self.device))[0].float().softmax(-1).cpu()

    def __call__(self, pixels: Tensor) -> tuple[Rows, Tensor]:
        """Classify.

        Args:
            pixels: From the `Preparer` of the same run [n, 3, S, S].

        Returns:
            Features of unit length [n, D] as embed stores them, and probabilities [n, C].
        """
        with torch.inference_mode():
            made = nn.functional.normalize(self._features(pixels), dim=1).numpy()
            rows = made.astype(np.dtype(self.recipe.embed.dtype)).astype(np.float32)
            return rows, self._probabilities(pixels, rows)


def require_one_network(recipe: Recipe, where: str) -> None:
    """Refuse a run whose features no single network makes.

    Raises:
        ConfigError: naming its features.
    """
    spaces = recipe.spaces
    if len(spaces) != 1 or not spaces[0].has_net:
        raise ConfigError(
            "the run cannot be served",
            expected="features of one network",
            got=", ".join(recipe.features),
            where=where,
            fix="rayscan predict takes features from files and of several networks",
        )
