"""Curves in TensorBoard and MLflow, each if it is installed; the Parquet tables have them in any case.

Live values of a training are written about once a second; what only the finished table holds, such as values
of whole epochs, when the stage ends.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from rayscan.storage import Place, is_local, resolve

FOLDER = "tensorboard"


class Tracker(Protocol):
    """A place where curves go."""

    def log(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Add a point to several curves, at a step."""

    def close(self) -> None:
        """Flush and close; no point comes after."""


class Trackers:
    """The trackers that are installed, opened at the first point."""

    def __init__(self, out: Place, name: str) -> None:
        """Open nothing yet.

        Args:
            out: The run.
            name: The name of its recipe.
        """
        self.out = out
        self.name = name
        self._open: list[Tracker] | None = None
        self._logged: set[tuple[str, str, int]] = set()

    def __enter__(self) -> Trackers:
        """Use as a context manager, so that everything reaches its place."""
        return self

    def __exit__(self, *_: object) -> None:
        """See `close`."""
        self.close()

    def log(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        """Add a point to several curves; points that were logged before are left out."""
        new = {
            key: float(value)
            for key, value in values.items()
            if isinstance(value, int | float) and (stage, key, step) not in self._logged
        }
        if not new:
            return
        if self._open is None:
            self._open = installed(self.out, self.name)
        self._logged.update((stage, key, step) for key in new)
        for tracker in self._open:
            tracker.log(stage, step, new)

    def complete(self, stage: str, metrics: pa.Table) -> None:
        """Log every point of a finished table with columns step, name, value."""
        at: dict[int, dict[str, float]] = {}
        for row in metrics.select(["step", "name", "value"]).to_pylist():
            at.setdefault(row["step"], {})[row["name"]] = row["value"]
        for step, values in at.items():
            self.log(stage, step, values)

    def close(self) -> None:
        """Close the trackers that were opened."""
        for tracker in self._open or []:
            tracker.close()
        self._open = None


def installed(out: Place, name: str) -> list[Tracker]:
    """Return a tracker for each library that is installed."""
    found: list[Tracker] = []
    if importlib.util.find_spec("tensorboardX") is not None:
        found.append(TensorBoard(out))
    if importlib.util.find_spec("mlflow") is not None:
        found.append(MLflow(out, name))
    return found


class TensorBoard:
    """Event files under `<out>/tensorboard/<stage>`; on object stores they are put there at the end."""

    def __init__(self, out: Place) -> None:
        """Write straight to a local run, else to a temporary folder first."""
        self._out = out.child(FOLDER)
        self._spool = None if is_local(out.uri) else tempfile.TemporaryDirectory(prefix="rayscan-")
        self._folder = Path(resolve(self._out.uri)[1] if self._spool is None else self._spool.name)
        self._writers: dict[str, Any] = {}

    def log(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        from tensorboardX import SummaryWriter

        if stage not in self._writers:
            self._writers[stage] = SummaryWriter(str(self._folder / stage))
        for key, value in values.items():
            self._writers[stage].add_scalar(key, value, step)

    def close(self) -> None:
        """See `Tracker`."""
        for writer in self._writers.values():
            writer.close()
        if self._spool is not None:
            for file in (path for path in self._folder.rglob("*") if path.is_file()):
                self._out.write(str(file.relative_to(self._folder)), file.read_bytes())
            self._spool.cleanup()


class MLflow:
    """One MLflow run per call, in the experiment `rayscan`; MLFLOW_TRACKING_URI says where, as always."""

    def __init__(self, out: Place, name: str) -> None:
        """Begin a run that names its `--out`."""
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        experiment = self._client.get_experiment_by_name("rayscan")
        number = self._client.create_experiment("rayscan") if experiment is None else experiment.experiment_id
        tags = {"rayscan.out": out.uri, "rayscan.recipe": name}
        self._run = self._client.create_run(
            number, tags=tags, run_name=f"{name} {out.uri.rpartition('/')[2]}"
        )

    def log(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        for key, value in values.items():
            self._client.log_metric(self._run.info.run_id, f"{stage}/{key}", value, step=step)

    def close(self) -> None:
        """See `Tracker`."""
        self._client.set_terminated(self._run.info.run_id)
