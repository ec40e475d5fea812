"""A stage that two trials need at the same time is done once, and nobody reads what another has removed."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from ray.exceptions import RayTaskError

from rayscan.artifacts import Artifact, Step
from rayscan.config import Recipe
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.errors import FleetError
from rayscan.fleet.connect import Fleet
from rayscan.fleet.ray_errors import unwrapped
from rayscan.recipes import by_name
from rayscan.search.images import do_once
from rayscan.storage import Place

PART = "half"


class Slow(ModuleType):
    """A stage in two halves that meets every other attempt in the middle, if there is one."""

    NAME = "slow"

    def __init__(self) -> None:
        super().__init__("slow")
        self.runs = 0
        self.in_the_middle = threading.Event()

    def plan(self, _recipe: Recipe, _done: Mapping[str, Artifact], _sources: Sources) -> Step:
        return Step(self.NAME, 1, {})

    def run(self, _recipe: Recipe, _done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
        self.runs += 1
        is_first = self.runs == 1
        draft = context.draft(step)
        draft.finish_part(PART, {"first": draft.write("first", b"1")})
        self.in_the_middle.set()
        time.sleep(0.3 if is_first else 1.0)  # the first to come ends while another is under way
        finished = draft.finished_part(PART)
        assert finished is not None, "another attempt has removed the part"
        artifact = draft.commit(finished[0])
        context.clear(step)
        return artifact


def test_two_trials_do_a_stage_once(tmp_path: Path) -> None:
    out, stage, got, errors = Place(str(tmp_path)), Slow(), list[Artifact](), list[BaseException]()
    recipe = by_name("digits")
    context = Context(out, Sources(data=None), Fleet(recipe.fleet, out), Progress())

    def trial() -> None:
        try:
            got.append(do_once(stage, recipe, {}, context))
        except AssertionError as error:
            errors.append(error)

    threads = [threading.Thread(target=trial) for _ in range(2)]
    threads[0].start()
    assert stage.in_the_middle.wait(20)
    threads[1].start()
    for thread in threads:
        thread.join(20)
    assert not errors
    assert len(got) == 2
    assert got[0].manifest == got[1].manifest
    assert stage.runs == 1


def test_a_failed_trial_says_what_failed_and_not_where() -> None:
    told = FleetError("workers keep dying", fix="the same command goes on")
    wrapped = RayTaskError("run_once", "a long traceback", told).as_instanceof_cause()
    assert "traceback" in str(wrapped), "as Ray hands it over"
    assert str(unwrapped(wrapped, "a trial")) == str(told)
