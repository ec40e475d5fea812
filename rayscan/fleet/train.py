"""A training on several workers: `ray.train.torch.TorchTrainer` around a plain function.

The function knows its rank, its device and where to report; it does not know Ray. What it needs after a
restart it finds on storage (engine.checkpoint), so Ray keeps no state of ours.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.execution.callback import RayTrainCallback
from ray.train.v2._internal.execution.context import get_train_context

from rayscan.engine import preemption, watchdog
from rayscan.errors import ArtifactError
from rayscan.fleet.connect import Fleet
from rayscan.fleet.progress import TrainingProgress
from rayscan.fleet.ray_errors import unwrapped
from rayscan.fleet.rendezvous import BoundTorchConfig
from rayscan.fleet.retry_budget import RetryBudget
from rayscan.fleet.worker import TrainFunction, Worker
from rayscan.fleet.worker_error import call
from rayscan.storage import Place, resolve

RESIZE_SECONDS = 30.0
"""How often a group that has shrunk checks for machines to grow again."""

PLACEMENT_SECONDS = 10.0
"""A group that can be smaller waits no longer for placement: a node that is gone may be counted on still."""

STALL_SHARE = 0.8
"""Share of `fleet.collective_seconds` after which a worker without a step counts as stalled and writes its
stacks, before those that wait for it give it up."""
STACKS = "stacks"


class PlainTrainer(TorchTrainer):  # type: ignore[misc]
    """A trainer without two things of Ray's.

    It leaves Ctrl-C as it is: Ray's handler ends the process without a word, also after it. And it starts no
    process to deal out datasets of Ray Data, which our workers do not read: a second of a CPU a training.
    """

    def _register_sigint_handler(self, controller: object) -> None:
        pass

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        return [one for one in super()._create_default_callbacks() if not isinstance(one, DatasetsCallback)]


def train(
    fleet: Fleet,
    fn: TrainFunction,
    settings: object,
    *,
    name: str,
    on_facts: Callable[[Mapping[str, Any]], None],
    num_workers: int | None = None,
) -> Any:
    """Run `fn(settings, worker)` on every worker; restarted as a group when one dies.

    Args:
        fleet: Where.
        fn: A function of a module; it resumes from storage by itself.
        settings: Anything picklable and small.
        name: Of the stage, for Ray's records.
        on_facts: Told what worker 0 reports, about once a second.
        num_workers: Workers; those of the fleet if not given.

    Returns:
        What worker 0 returned.

    Raises:
        RayscanError: what a worker raised.
        FleetError: a worker raised twice at the same step, workers died `fleet.max_failures` times in a row
            without progress, or no machine came within `fleet.pending_seconds`.
    """
    # Joined before anything touches Ray, which would start one of its own.
    scaling = _scaling(fleet.joined(), num_workers)
    if scaling.elasticity_enabled:
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", f"{PLACEMENT_SECONDS:g}")
    progress = TrainingProgress(on_facts)
    backend, timeout_s = "nccl" if fleet.gpus_per_worker else "gloo", fleet.config.collective_seconds
    trainer = PlainTrainer(
        # no `train_loop_config`: the controller would unpickle it, with all that the function imports
        partial(_worker, {"fn": fn, "settings": settings, "name": name, **_loop_config(fleet, progress)}),
        torch_config=BoundTorchConfig(backend=backend, timeout_s=timeout_s),
        scaling_config=scaling,
        run_config=_run_config(fleet, name, _retry_budget(fleet, name, scaling, progress)),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        failures = getattr(error, "worker_failures", {})
        raise unwrapped(next(iter(failures.values()), error), f"training {name}") from error
    finally:
        progress.close()
        with contextlib.suppress(ArtifactError):  # the store may be what failed
            fleet.out.delete(".work/ray")
    return result.return_value


def _loop_config(fleet: Fleet, progress: TrainingProgress) -> dict[str, Any]:
    return {
        "progress": progress.actor,
        "threads": fleet.threads_per_worker,
        "stacks": fleet.out.child(".work", STACKS),
        "stall_seconds": STALL_SHARE * fleet.config.collective_seconds,
    }


def _scaling(fleet: Fleet, num_workers: int | None) -> ScalingConfig:
    gpus, most = fleet.gpus_per_worker, num_workers or fleet.num_workers
    least = fleet.config.min_workers
    return ScalingConfig(
        num_workers=most if least is None or least >= most else (least, most),
        elastic_resize_monitor_interval_s=RESIZE_SECONDS,
        use_gpu=bool(gpus),
        resources_per_worker={"CPU": fleet.config.cpus_per_worker} | ({"GPU": gpus} if gpus else {}),
        placement_strategy="PACK" if gpus else "SPREAD",
    )


def _run_config(fleet: Fleet, name: str, retry_budget: RetryBudget) -> RunConfig:
    filesystem, path = resolve(fleet.out.child(".work", "ray").uri)
    return RunConfig(
        # a new name each time: Ray never resumes it, so a torn record of its own cannot stop us
        name=f"{name}-{secrets.token_hex(4)}",
        storage_path=path,
        storage_filesystem=filesystem,
        failure_config=FailureConfig(max_failures=-1),  # our budget counts, and knows what to count
        callbacks=[retry_budget],
    )


def _retry_budget(fleet: Fleet, name: str, scaling: ScalingConfig, progress: TrainingProgress) -> RetryBudget:
    wanted = f"{scaling.min_workers} x {scaling.resources_per_worker}"
    config = fleet.config
    return RetryBudget(name, config.max_failures, config.pending_seconds, wanted, progress.actor)


def _worker(config: dict[str, Any]) -> Any:
    import torch

    torch.set_num_threads(config["threads"])
    torch.backends.cuda.matmul.allow_tf32 = True
    context = ray.train.get_context()
    progress = config["progress"]
    rank = context.get_world_rank()
    if rank == 0:
        progress.count_start.remote()
    # Ray's own question is a barrier of all workers; worker 0 alone may read what it was told
    told = get_train_context().preemption_context
    preemption.set_check(lambda: told.preemption_info is not None)

    def report(facts: Mapping[str, Any]) -> None:
        if rank == 0:
            progress.set_facts.remote({**facts, "workers": context.get_world_size()})

    worker = Worker(rank, context.get_world_size(), str(get_device()), report)
    with watchdog.watching(config["stall_seconds"], _stall_writer(worker, config)):
        returned = call(config["fn"], config["settings"], worker)
    return returned if rank == 0 else None


def _stall_writer(worker: Worker, config: Mapping[str, Any]) -> watchdog.OnStall:
    """Return what writes of a stall: to the worker's log, a file of the run and the progress line."""
    place: Place = config["stacks"]
    name = f"{config['name']}-worker-{worker.rank}-{os.getpid()}.txt"

    def write(waited: float, stacks: str) -> None:
        who = f"worker {worker.rank} of {worker.world_size}, process {os.getpid()} on {os.uname().nodename}"
        text = f"{who}, has not taken a step for {waited:.0f} s\n\n{stacks}"
        sys.stderr.write(text)
        sys.stderr.flush()
        config["progress"].set_alert.remote(
            f"worker {worker.rank} of {worker.world_size} has not taken a step for {waited:.0f} s, "
            f"its stacks: {place.uri_of(name)}"
        )
        with contextlib.suppress(ArtifactError):  # the log has it
            place.write(name, text.encode())

    return write
