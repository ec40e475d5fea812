"""What every stage gets beside its settings and inputs: sources, storage, machines, the console."""

from __future__ import annotations

from dataclasses import dataclass

from rayscan.artifacts import Draft, Step
from rayscan.console.progress import Progress
from rayscan.console.trackers import Trackers
from rayscan.fleet.connect import Fleet
from rayscan.spaces import ALONE
from rayscan.storage import Place, refuse_secrets


@dataclass(frozen=True)
class Sources:
    """The addresses of the user's images and labels."""

    data: str | None
    """Train split: shards, a folder, or a list."""
    eval_data: str | None = None
    """Eval split."""
    labels: str | None = None
    """Labels file; read by the labels stage alone."""
    image_column: str | None = None
    """The column with the images, where they are in Parquet files; found by itself if there is one."""
    image_member: str | None = None
    """The extension of the members that are the images, where samples of shards have several."""
    boxes: str | None = None
    """Boxes in the pictures: each is an image then."""
    boxes_margin: float = 0.0
    """What is added to a box on every side, as a part of its width or height."""
    rebase: str | None = None
    """OLD=NEW: where files that an earlier index knows are now."""

    def __post_init__(self) -> None:
        """Refuse addresses that carry credentials: they are written to `run.json`.

        Raises:
            ConfigError: naming what was found, not the secret.
        """
        for uri in (self.data, self.eval_data, self.labels, self.boxes):
            for one in (uri or "").split(","):
                refuse_secrets(one.removeprefix(ALONE))


@dataclass(frozen=True)
class Context:
    """The storage, machines and console of one run."""

    out: Place
    sources: Sources
    fleet: Fleet
    progress: Progress
    trackers: Trackers | None = None
    """Where curves go besides the metrics table."""

    def draft(self, step: Step) -> Draft:
        """Start an attempt at a step."""
        return Draft(self.out, step)

    def work(self, step: Step) -> Place:
        """Return the place for the checkpoints of a step; it is removed once the step is done."""
        return self.out.child(".work", step.directory)

    def clear(self, step: Step) -> None:
        """Remove the checkpoints of a step."""
        self.out.delete(f".work/{step.directory}")
