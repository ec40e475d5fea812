"""The one task of a fit, on a real Ray: it has all CPUs of its node, and a killed one goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest
import ray
import torch

from rayscan.artifacts import Draft
from rayscan.config import FleetConfig
from rayscan.consensus.cluster import consensus as clustered
from rayscan.fleet.connect import Fleet
from rayscan.stages import consensus
from rayscan.storage import Place
from rayscan.training.fitted_rows import FitTask
from tests.unit.report.digits_run import DigitsRun

CPUS = min(2, len(os.sched_getaffinity(0)))


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=CPUS, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def threads(_: int) -> tuple[int, int]:
    """Threads of torch and of faiss."""
    return torch.get_num_threads(), faiss.omp_get_max_threads()


def test_a_task_alone_has_the_cpus_of_its_node_and_others_have_their_own(tmp_path: Path) -> None:
    fleet = Fleet(FleetConfig(address="auto"), Place(str(tmp_path)))
    assert fleet.map(threads, [0], is_alone=True) == [(CPUS, CPUS)]
    assert fleet.map(threads, [0]) == [(1, 1)]  # by the same process or another
    asked = Fleet(FleetConfig(address="auto", threads_per_worker=1), Place(str(tmp_path)))
    assert asked.map(threads, [0], is_alone=True) == [(1, 1)]


def mortal_fit(task: FitTask) -> None:
    """The fit; its process kills itself once, when it has stored candidates of the first reading."""

    class Mortal(consensus.PartMemory):
        def keep(self, name: str, candidates: object) -> None:
            super().keep(name, candidates)  # type: ignore[arg-type]
            (Path(task.draft.place.uri) / f"kept-{name}-{os.getpid()}").touch()
            if not list(Path(task.draft.place.uri).glob("died-*")):
                (Path(task.draft.place.uri) / f"died-{os.getpid()}").touch()
                os.kill(os.getpid(), signal.SIGKILL)

    consensus.PartMemory = Mortal  # type: ignore[misc]
    consensus.fit(task)


def test_a_killed_fit_is_tried_again_and_takes_its_candidates_over(tmp_path: Path) -> None:
    digits = DigitsRun(tmp_path)
    step = consensus.plan(digits.recipe, digits.done, digits.context.sources)
    draft = Draft(digits.out, step)
    fleet = Fleet(FleetConfig(address="auto"), digits.out)
    fleet.map(mortal_fit, [FitTask(digits.recipe, digits.done["embed"], digits.done["mine"], draft)])
    folder = Path(draft.place.uri)
    (died,) = folder.glob("died-*")
    kept = sorted(one.name.removeprefix("kept-").rsplit("-", 1) for one in folder.glob("kept-*"))
    assert [name for name, _ in kept] == ["0", "0-joined", "0root", "0root-joined", "refined"]  # each once
    assert [name for name, pid in kept if pid == died.name.removeprefix("died-")] == ["0-joined"]

    finished = draft.finished_part(consensus.MODEL_PART)
    assert finished is not None
    artifact = draft.commit(finished[0], facts=finished[1])
    train = digits.rows[: int(digits.done["embed"].facts["train_rows"])]
    expected = clustered(train, 10, digits.recipe.seed)
    model = consensus.read_ensemble(artifact)
    np.testing.assert_allclose(
        model.probabilities((train,)), expected.ensemble.probabilities((train,)), atol=1e-4
    )
