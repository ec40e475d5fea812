"""A search on the fleet: `ray.tune` around a plain function and a search algorithm.

Tune places trials, stops bad ones early (ASHA) and replaces trials whose process died. It keeps no state of
ours: its records go to scratch and are never resumed. What a trial found, the trial itself writes.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search import Searcher

from rayscan.errors import FleetError
from rayscan.fleet.connect import Fleet
from rayscan.fleet.ray_errors import unwrapped
from rayscan.storage import Place, resolve

T = TypeVar("T")

WORST = -1e9
"""What a trial without a value reports, so that ASHA can compare it."""
SCRATCH = "tune-"
PLACEMENT_SECONDS = 600.0
SAY_SECONDS = 10.0

Report = Callable[[int, float], None]
"""Rung and value."""
TrialFunction = Callable[[Any, Mapping[str, Any], Report], float | None]
"""(shared, values, report) -> value, higher is better; None if there is none."""


@dataclass(frozen=True)
class TrialResult:
    """What is known of a trial that has ended."""

    values: Mapping[str, Any]
    steps: dict[int, float]
    """What it reported, by rung."""
    status: Literal["completed", "stopped", "failed"]
    """Trained to its end; stopped by ASHA; or neither."""
    reason: str = ""
    """Why it failed."""


class SearchAlgorithm(Protocol):
    """Suggests what to try."""

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """Values of a new trial."""

    def complete(self, trial_id: str, result: TrialResult) -> None:
        """Take note of a trial that has ended, in the driver."""


@dataclass(frozen=True)
class TrialSettings:
    """How trials are placed and stopped."""

    num_trials: int
    bundle: Mapping[str, float]
    """Resources of one trial's process."""
    concurrent: int
    """At most so many at once."""
    rungs: Sequence[int] = ()
    """Where trials are compared, ascending; the last one is the end. None lets all run."""
    shares_process: bool = True
    """Let a process do one trial after the other."""


def run_trials(
    fleet: Fleet, fn: TrialFunction, shared: object, algorithm: SearchAlgorithm, settings: TrialSettings
) -> None:
    """Run trials until there were enough.

    Args:
        fleet: Where.
        fn: A function of a module; resumes from storage by itself when its process died.
        shared: Small things all trials need: settings and addresses.
        algorithm: Asked in this process.
        settings: How many, where, and whether bad ones are stopped.

    Raises:
        FleetError: Tune itself failed.
    """
    _quiet()
    fleet.joined()
    scratch = fleet.out.child(".work", f"{SCRATCH}{secrets.token_hex(4)}")
    filesystem, path = resolve(scratch.uri)
    searcher = _Searcher(algorithm)
    last = settings.rungs[-1] if settings.rungs else 1
    trainable = tune.with_parameters(
        _trial, fn=fn, shared=shared, last=last, threads=fleet.threads_per_worker
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, tune.PlacementGroupFactory([dict(settings.bundle)])),
        tune_config=tune.TuneConfig(
            metric="value",
            mode="max",
            num_samples=settings.num_trials,
            max_concurrent_trials=settings.concurrent,
            search_alg=searcher,
            scheduler=_scheduler(settings.rungs),
            reuse_actors=settings.shares_process,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name="search",
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=tune.FailureConfig(max_failures=fleet.config.max_failures),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    except (tune.TuneError, ray.exceptions.RayError) as error:
        raise unwrapped(error, "the search") from error
    finally:
        fleet.out.delete(f".work/{scratch.uri.rpartition('/')[2]}")


def call_outside_group(fn: Callable[..., T], *arguments: object) -> T:
    """Call `fn(*arguments)` from a trial, in a task that is not in the trial's placement group.

    Whatever a trial starts is put into its group, where there is no room for trainings and their workers.
    The task asks for nothing, so it waits for nothing; it ends with the trial.

    Raises:
        RayscanError: what `fn` raised.
        FleetError: its process died, or it raised something else.
    """
    task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy="DEFAULT")(fn)
    try:
        result: T = ray.get(task.remote(*arguments))
    except ray.exceptions.RayError as error:
        raise unwrapped(error, "a trial") from error
    return result


def remove_stale_records(out: Place) -> None:
    """Remove what a killed search left of Tune's records; no other search may be running in `out`."""
    for name in out.child(".work").names():
        if name.startswith(SCRATCH):
            out.delete(f".work/{name}")


def cluster_resources() -> dict[str, float]:
    """CPUs and GPUs that the joined Ray has at this moment."""
    has = ray.cluster_resources()
    return {name: float(has.get(name, 0.0)) for name in ("CPU", "GPU")}


def require_placement(fleet: Fleet, bundles: Sequence[Mapping[str, float]], what: str) -> None:
    """Wait until these bundles can be placed together, so that no trial waits for what never comes.

    An autoscaler sees the demand and brings a node.

    Raises:
        FleetError: they could not be placed in time.
    """
    cluster = fleet.joined().cluster
    group = ray.util.placement_group([dict(bundle) for bundle in bundles])
    try:
        waited = 0.0
        while not group.wait(SAY_SECONDS):
            waited += SAY_SECONDS
            fleet.say(f"  waiting for room for {what}: {_listed(bundles)} ({waited:.0f} s)")
            if waited >= PLACEMENT_SECONDS:
                raise FleetError(
                    f"there is no room for {what}",
                    expected=_listed(bundles),
                    got=f"{cluster.cpus:g} CPUs, {cluster.gpus:g} GPUs on {cluster.nodes} nodes",
                    where="--fleet.*",
                    fix="ask for less with --fleet.num-workers, --fleet.cpus-per-worker or --gpus-per-trial",
                )
    finally:
        ray.util.remove_placement_group(group)


def _listed(bundles: Sequence[Mapping[str, float]]) -> str:
    return ", ".join(" + ".join(f"{v:g} {k}" for k, v in bundle.items()) for bundle in bundles)


def _scheduler(rungs: Sequence[int]) -> Any:
    if len(rungs) < 2:
        return FIFOScheduler()
    factor = rungs[1] / rungs[0]
    return ASHAScheduler(
        time_attr="rung", grace_period=rungs[0], max_t=rungs[-1], reduction_factor=factor, brackets=1
    )


def _quiet() -> None:
    """Tune without its tables, loggers, snapshots and hold on Ctrl-C."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new one prints its configuration at any verbosity
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", str(10**9))
    os.environ.setdefault("TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S", str(10**9))


def _trial(config: dict[str, Any], *, fn: TrialFunction, shared: object, last: int, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)

    def report(rung: int, value: float) -> None:
        tune.report({"rung": rung, "value": value})

    try:
        value = fn(shared, config, report)
        reason = ""
    except Exception as error:  # told, not tried again: Tune restarts trials whose process died
        value, reason = None, f"{type(error).__name__}: {str(error).strip()[-2000:]}"
    worth = WORST if value is None else value
    tune.report({"rung": last, "value": worth, "is_completed": True, "reason": reason})


class _Searcher(Searcher):  # type: ignore[misc]
    """The search algorithm as Tune sees it."""

    def __init__(self, algorithm: SearchAlgorithm | None) -> None:
        super().__init__(metric="value", mode="max")
        self._algorithm = algorithm
        self._values: dict[str, dict[str, Any]] = {}
        self._steps: dict[str, dict[int, float]] = {}

    def __reduce__(self) -> tuple[object, ...]:
        return (_Searcher, (None,))  # Tune records itself, us included; it is never taken up from there

    def __deepcopy__(self, _memo: object) -> _Searcher:
        return self

    def suggest(self, trial_id: str) -> dict[str, Any]:
        assert self._algorithm is not None
        self._values[trial_id] = self._algorithm.suggest(trial_id)
        self._steps[trial_id] = {}
        return dict(self._values[trial_id])

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if not result.get("is_completed"):
            self._steps[trial_id][int(result["rung"])] = float(result["value"])

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        assert self._algorithm is not None
        if trial_id not in self._values:
            return  # Tune tells again of a trial whose process dies after its last result
        reason = "its process died again and again" if error else ""
        if result and result.get("is_completed"):
            reason = str(result["reason"])
        elif result and "rung" in result:
            self.on_trial_result(trial_id, result)
        is_completed = bool(result and result.get("is_completed"))
        status: Literal["completed", "stopped", "failed"] = "completed" if is_completed else "stopped"
        status = "failed" if reason else status
        ended = TrialResult(self._values.pop(trial_id), self._steps.pop(trial_id), status, reason)
        self._algorithm.complete(trial_id, ended)

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()  # Tune wants a file; the trials' artifacts are the state

    def restore(self, checkpoint_path: str) -> None:
        del checkpoint_path
