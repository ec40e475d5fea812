"""A run in one process of the service: from the body of a request to its answer, without HTTP or Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rayscan.config.serve import ServeConfig
from rayscan.errors import RayscanError
from rayscan.fleet.service_settings import Answer
from rayscan.run import Run
from rayscan.serving.bodies import Received, images_in
from rayscan.serving.clusters import Clusters
from rayscan.serving.known import KnownImages
from rayscan.serving.model import Model, Pixels
from rayscan.serving.refusal import RefusalError
from rayscan.serving.stores import Stores
from rayscan.stages.assign import best_of


@dataclass(frozen=True)
class Prepared:
    """The images of a request, decoded."""

    count: int
    pixels: Pixels


class Replica:
    """Everything that answers, loaded once."""

    def __init__(self, uri: str, settings: ServeConfig, allow_store: tuple[str, ...] = ()) -> None:
        """Load the model, the clusters and the known images.

        Args:
            uri: The --out of the run.
            settings: What is taken and answered.
            allow_store: Folders whose addresses requests may name.

        Raises:
            ArtifactError: the run is not finished.
            ConfigError: it cannot be served.
        """
        run = Run(uri)
        self._uri, self.settings = uri, settings
        self._stores = Stores(allow_store)
        self._model = Model(run, threads=settings.threads, max_pixels=settings.max_pixels)
        self._clusters = Clusters.read(run)
        self._known: KnownImages | None = None
        embed = run.artifact("embed")
        if settings.neighbors and KnownImages.bytes_of(embed) <= settings.known_bytes:
            self._known = KnownImages(embed, run.artifact("assign"), threads=settings.threads)

    @property
    def multiple(self) -> int:
        """Images that the network computes at once."""
        return self._model.chunk

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the assignments whose names and edits are answered."""
        return self._clusters.fingerprint

    def reload(self) -> bool:
        """Take up other edits and names of the run; one that cannot be read changes nothing."""
        try:
            found = Clusters.read(Run(self._uri))
        except (RayscanError, OSError):  # in the middle of being written: the next look finds it
            return False
        is_new = (found.fingerprint, found.names) != (self._clusters.fingerprint, self._clusters.names)
        if is_new:
            self._clusters = found
        return is_new

    def prepare(self, content_type: str, body: bytes) -> Answer | Prepared:
        """The images of a request as pixels, or why it is refused."""
        try:
            images = images_in(content_type, body, self.settings.max_images)
            return Prepared(len(images), self._model.prepare([self._file(image) for image in images]))
        except RefusalError as refusal:
            return refusal.status, {"error": refusal.reason}

    def _file(self, image: Received) -> bytes:
        if image.uri is None:
            return image.data
        return self._stores.read(image.uri, self.settings.max_bytes)

    def answers(self, prepared: Sequence[Prepared]) -> list[Answer]:
        """Answers of several requests, computed together.

        Args:
            prepared: Each of them, from `prepare`.
        """
        features, probabilities = self._model([one.pixels for one in prepared])
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
            for at in range(len(features))
        ]
        ends = np.cumsum([one.count for one in prepared]).tolist()
        return [
            (200, {"assignments": clusters.fingerprint, "images": every[end - one.count : end]})
            for end, one in zip(ends, prepared, strict=True)
        ]
