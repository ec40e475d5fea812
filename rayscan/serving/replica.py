"""A run in one process of the service: from the body of a request to its answer, without HTTP or Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from rayscan.data.table import DECODING
from rayscan.data.tones import Decoding
from rayscan.errors import RayscanError
from rayscan.run import Run
from rayscan.serving.bodies import Received, images_in
from rayscan.serving.clusters import Clusters
from rayscan.serving.known import KnownImages
from rayscan.serving.model import Model
from rayscan.serving.pictures import preparer
from rayscan.serving.refusal import RefusalError
from rayscan.serving.stores import Stores
from rayscan.stages.assign import best_of

Answer: TypeAlias = tuple[int, dict[str, Any]]
"""HTTP status and JSON body."""


@dataclass(frozen=True)
class Settings:
    """What a replica is made of; travels to its process."""

    run: str
    """The --out of the run."""
    neighbors: int = 5
    """Nearest known images in an answer; 0 for none."""
    known_bytes: int = 2_000_000_000
    """Features of the run that a replica may hold for them; a larger run is served without."""
    allow_store: tuple[str, ...] = ()
    """Folders whose addresses requests may name."""
    max_images: int = 64
    """Of one request."""
    max_bytes: int = 64_000_000
    """Of one body, and of one file at an address."""
    max_pixels: int = 32_000_000
    """Of one picture; larger ones are refused by their header."""
    threads: int = 1
    """Computing threads."""


class Replica:
    """Everything that answers, loaded once."""

    def __init__(self, settings: Settings) -> None:
        """Load the model, the clusters and the known images.

        Raises:
            ArtifactError: the run is not finished.
            ConfigError: it cannot be served.
        """
        run = Run(settings.run)
        self.settings = settings
        self._stores = Stores(settings.allow_store)
        self._model = Model(run, threads=settings.threads)
        self._prepare = preparer(
            self._model.recipe,
            self._model.pretext,
            settings.max_pixels,
            Decoding.of_facts(run.artifact("index").facts.get(DECODING)),
        )
        self._clusters = Clusters.read(run)
        self._known: KnownImages | None = None
        embed = run.artifact("embed")
        if settings.neighbors and KnownImages.bytes_of(embed) <= settings.known_bytes:
            self._known = KnownImages(embed, run.artifact("assign"))

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the assignments whose names and edits are answered."""
        return self._clusters.fingerprint

    def reload(self) -> bool:
        """Take up other edits and names of the run; one that cannot be read changes nothing."""
        try:
            found = Clusters.read(Run(self.settings.run))
        except (RayscanError, OSError):  # in the middle of being written: the next look finds it
            return False
        is_new = (found.fingerprint, found.names) != (self._clusters.fingerprint, self._clusters.names)
        if is_new:
            self._clusters = found
        return is_new

    def prepare(self, content_type: str, body: bytes) -> Answer | Tensor:
        """The images of a request as pixels [n, 3, S, S], or why it is refused."""
        try:
            images = images_in(content_type, body, self.settings.max_images)
            return self._prepare([self._file(image) for image in images])
        except RefusalError as refusal:
            return refusal.status, {"error": refusal.reason}

    def _file(self, image: Received) -> bytes:
        if image.uri is None:
            return image.data
        return self._stores.read(image.uri, self.settings.max_bytes)

    def answers(self, prepared: Sequence[Tensor]) -> list[Answer]:
        """Answers of several requests, computed together.

        Args:
            prepared: Pixels of each [n, 3, S, S].
        """
        pixels = torch.cat(list(prepared))
        features, probabilities = self._model(pixels)
        clusters = self._clusters
        rows = clusters.rows(best_of(probabilities))
        nearest = None if self._known is None else self._known.nearest(features, self.settings.neighbors)
        every = [
            {
                "cluster": int(rows.clusters[at]),
                "name": clusters.name(int(rows.clusters[at])),
                "confidence": float(rows.confidence[at]),
                "margin": float(rows.margin[at]),
                "best": [
                    {"cluster": int(number), "name": clusters.name(int(number)), "probability": float(p)}
                    for number, p in zip(rows.top[at], rows.probs[at], strict=True)
                    if p > 0
                ],
                **({} if nearest is None else {"nearest": nearest[at]}),
            }
            for at in range(len(pixels))
        ]
        ends = np.cumsum([len(some) for some in prepared]).tolist()
        return [
            (200, {"assignments": clusters.fingerprint, "images": every[end - len(some) : end]})
            for end, some in zip(ends, prepared, strict=True)
        ]
