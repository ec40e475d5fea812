"""`rayscan search`: early stages once, many trials, the best over seeds, a vote, a recipe and a page.

No labels can reach it: it is given images alone, and runs no stage that opens labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rayscan import pipeline
from rayscan.artifacts import Artifact
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.errors import DataError, FleetError
from rayscan.fleet.connect import Fleet
from rayscan.fleet.tune import (
    Report,
    TrialResult,
    TrialSettings,
    call_outside_group,
    cluster_resources,
    remove_stale_records,
    require_placement,
    run_trials,
)
from rayscan.lock import RunLock
from rayscan.run import require_clusters
from rayscan.search import finalists, stored_trials
from rayscan.search.finalists import UNSTABLE, Finalist
from rayscan.search.images import LOCKS, train_images
from rayscan.search.plan import Plan
from rayscan.search.publish import publish, settings_text
from rayscan.search.space import Space, Values
from rayscan.search.stored_trials import Trial
from rayscan.search.study import Study, capacity
from rayscan.search.trial import RUNGS, SearchSetup, prepare, run_trial, train_heads
from rayscan.search.vote import VOTE, Vote, VoteTask, vote_trials, voters
from rayscan.stages import embed, index, mine, pretext
from rayscan.stages.per_space import for_spaces
from rayscan.storage import Place

SHARED_STAGES = (index, pretext, embed, mine)
"""Stages that run once and are read by all trials."""
GPU_SHARE = 0.25
"""Share of a GPU for a trial of heads: they are small, and the CPU feeds them."""
AUTOSCALER_TRIALS = 8
"""Trials of heads submitted at once where there is an autoscaler: those that wait make it add nodes."""
DRIVER_MEMORY = 512 * 2**20
"""Bytes asked for the process that drives a whole trial. It asks for no CPU, so no training waits for it."""


def search(
    space: Space, sources: Sources, out: Place, plan: Plan, *, progress: Progress | None = None
) -> Finalist:
    """Find settings; goes on where an earlier search with the same settings stopped.

    Args:
        space: Base recipe and axes.
        sources: Images, without labels.
        out: Where the early stages and `search/` go.
        plan: Number of trials and how they run.
        progress: Where to show it.

    Returns:
        The chosen settings with their runs.

    Raises:
        ConfigError: settings do not go with the data.
        DataError: every trial was degenerate.
        FleetError: the machines have no room for a trial, or every trial failed.
    """
    require_clusters(space.base)
    shown = progress or Progress()
    with RunLock(out), Fleet(space.base.fleet, out, shown.say) as fleet:
        remove_stale_records(out)
        context = Context(out, sources, fleet, shown)
        done: dict[str, Artifact] = {}
        for stage in for_spaces(SHARED_STAGES, space.base.spaces):
            done[stage.NAME], _ = pipeline.do(stage, space.base, done, context)
            if stage is index:
                pipeline.check_data(space.base, done["index"])
        driver = SearchDriver(SearchSetup(space, done, out, plan.from_images), plan, context)
        fleet.map(prepare, [driver.setup])
        driver.run_trials()
        ranked = driver.compare_finalists()
        publish(driver.setup, driver.trials, ranked, driver.vote(ranked))
        out.delete(LOCKS)
        return ranked[0]


@dataclass
class SearchDriver:
    """A search in progress; a `fleet.tune.SearchAlgorithm`."""

    setup: SearchSetup
    plan: Plan
    context: Context
    trials: list[Trial] = field(default_factory=list)
    """Trials of the search's own seed that have ended."""

    @property
    def seed(self) -> int:
        """Seed of all trials but the repeated runs of finalists."""
        return self.setup.space.base.seed

    def run_trials(self) -> None:
        """Run trials up to the number asked for; those of an earlier search count."""
        ended, interrupted = stored_trials.read_trials(self.setup)
        self.trials = [t for t in ended if t.seed == self.seed]
        progress = self.context.progress
        wanted, there_are = self.plan.trials, capacity(self.setup.space.axes)
        if there_are is not None and there_are < wanted:
            progress.say(f"  search: the space holds {there_are} combinations, so there are no more trials")
            wanted = there_are
        left = max(0, wanted - len(self.trials))
        if self.trials or interrupted:
            progress.say(
                f"  search: {len(self.trials)} trials done before, {len(interrupted)} cut off, {left} to do"
            )
        if not left:
            return
        outcomes = [t.outcome() for t in self.trials]
        self._study = Study(
            self.setup.space.axes,
            seed=self.seed,
            sampler=self.plan.sampler,
            outcomes=outcomes,
            first=interrupted,
        )
        tuning = self._tuning(left)
        progress.start("search", left, "trials")
        run_trials(
            self.context.fleet,
            _trial_on_images if self.plan.from_images else _trial_of_heads,
            self.setup,
            self,
            tuning,
        )
        counts = ", ".join(f"{n} {status}" for status, n in sorted(self._counts().items()))
        progress.finish(f"{len(self.trials)} trials: {counts}")

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """Values of a new trial."""
        return self._study.ask(trial_id)

    def complete(self, trial_id: str, result: TrialResult) -> None:
        """Note how a trial ended, tell the sampler and the user."""
        trial = stored_trials.find_trial(self.setup, result.values, self.seed) or self._note(result)
        self._study.tell(trial_id, trial.outcome())
        before = finalists.choose(self.trials, 1)
        self.trials.append(trial)
        best = finalists.choose(self.trials, 1)
        if best and best != before:
            text = f"score {best[0].score:.4f} with {settings_text(best[0].values)}"
            self.context.progress.say(f"  search: trial {len(self.trials)} is the best so far: {text}")
        if trial.status == "failed":
            self.context.progress.say(f"  search: trial {len(self.trials)} failed: {result.reason}")
        facts = {"best": best[0].score} if best else {}
        others = {k: n for k, n in self._counts().items() if k != "finished"}
        self.context.progress.advance(1, **facts, **others)

    def _note(self, ended: TrialResult) -> Trial:
        """A trial that wrote no result. The next search runs failed ones again, stopped ones not."""
        rungs = {str(k): v for k, v in ended.steps.items()}
        if ended.status == "failed":
            return Trial("", ended.values, self.seed, {"status": "failed", "reason": ended.reason})
        facts = {"status": "stopped", "reason": "worse than others after the same training", "rungs": rungs}
        return stored_trials.commit_stopped(self.setup, ended.values, self.seed, facts)

    def _counts(self) -> Mapping[str, int]:
        return Counter(t.status for t in self.trials)

    def _tuning(self, left: int) -> TrialSettings:
        """Resources of a trial. Waits until one can be placed, so that none waits for what never comes."""
        fleet, plan = self.context.fleet, self.plan
        cpus, gpus = fleet.config.cpus_per_worker, fleet.gpus_per_worker
        if plan.from_images:
            worker = {"CPU": cpus} | ({"GPU": gpus} if gpus else {})
            bundles: list[dict[str, float]] = [{"memory": DRIVER_MEMORY}, *[worker] * fleet.num_workers]
            cpus, gpus = cpus * fleet.num_workers, gpus * fleet.num_workers
        else:
            asked = plan.gpus_per_trial
            gpus = GPU_SHARE * (gpus > 0) if asked is None else asked
            bundles = [{"CPU": cpus} | ({"GPU": gpus} if gpus else {})]
        require_placement(fleet, bundles, "a trial")
        has = cluster_resources()  # now: an autoscaler may have brought the first node
        fits = int(min([has["CPU"] / cpus, *([has["GPU"] / gpus] if gpus else [])]) + 1e-9)
        if fleet.cluster.grows and not plan.from_images:
            fits = max(fits, AUTOSCALER_TRIALS)
        stops = plan.early_stopping and not plan.from_images
        return TrialSettings(
            left,
            bundles[0],
            concurrent=plan.concurrent or max(1, fits),
            rungs=RUNGS if stops else (),
            shares_process=not plan.from_images,
        )

    def compare_finalists(self) -> list[Finalist]:
        """The best trials over seeds, best first.

        Raises:
            DataError: every trial was degenerate.
            FleetError: every trial failed.
        """
        best = finalists.choose(self.trials, self.plan.finalists)
        if not best:
            publish(self.setup, self.trials, [])
            raise _nothing_found(self.trials, self.setup)
        progress, seeds = self.context.progress, self.plan.seeds
        progress.start("finalists", len(best) * (seeds - 1), "trials")
        ranked = finalists.compare(self.setup, best, seeds, self._rerun)
        progress.finish(f"{len(best)} settings with {seeds} seeds")
        for place, one in enumerate(ranked, 1):
            agree = "" if one.stability is None else f", seeds agree {one.stability:.3f} (ARI)"
            progress.say(f"  {place}. mean score {one.mean:.4f}{agree}: {settings_text(one.values)}")
        if ranked[0].stability is not None and ranked[0].stability < UNSTABLE:
            progress.say(
                f"  warning: seeds of the best settings agree only {ranked[0].stability:.2f}: clusters "
                "depend on luck here; more heads, pretext epochs or another number of clusters may help"
            )
        return ranked

    def vote(self, ranked: Sequence[Finalist]) -> Vote:
        """The vote of the better quarter of all runs, those of finalists with other seeds included."""
        others = [run for finalist in ranked for run in finalist.trials[1:]]
        called = voters([*self.trials, *others], self.setup)
        found = self.context.fleet.map(vote_trials, [VoteTask(self.setup, called)])[0]
        self.context.progress.say(f"  vote: {found.in_words()}, in {self.setup.out.uri_of(VOTE)}")
        return found

    def _rerun(self, asked: list[tuple[Values, int]]) -> list[Trial]:
        """Other seeds of the finalists, in the order asked."""
        todo = [(self.setup, values, seed) for values, seed in asked]
        if self.plan.from_images:  # each is a training on all workers, driven from here
            for one in todo:
                run_once(one)
                self.context.progress.advance()
        else:
            self.context.fleet.map(
                run_once, todo, uses_gpu=True, on_done=lambda _, __: self.context.progress.advance()
            )
        runs = [stored_trials.find_trial(*one) for one in todo]
        return [run for run in runs if run is not None]


def _trial_of_heads(setup: SearchSetup, values: Mapping[str, Any], report: Report) -> float | None:
    """One trial of heads, in a process of its own."""
    seed = setup.space.base.seed
    return Trial("", values, seed, run_trial(setup, values, seed, report, train_heads)).outcome().value


def _trial_on_images(setup: SearchSetup, values: Mapping[str, Any], report: Report) -> float | None:
    """One trial on images, in a process that only drives."""
    del report  # trials on images run to their end
    seed = setup.space.base.seed
    call_outside_group(run_once, (setup, values, seed))
    trial = stored_trials.find_trial(setup, values, seed)
    return None if trial is None else trial.outcome().value


def run_once(item: tuple[SearchSetup, Values, int]) -> None:
    """One trial that is compared with nothing on the way."""
    setup, values, seed = item
    train = train_images if setup.from_images else train_heads
    run_trial(setup, values, seed, lambda _, __: None, train)


def _nothing_found(trials: list[Trial], setup: SearchSetup) -> DataError | FleetError:
    reasons = "; ".join(r for r, _ in Counter(str(t.facts.get("reason")) for t in trials).most_common(3))
    if all(t.status == "failed" for t in trials):
        return FleetError(
            "every trial failed",
            got=reasons,
            where="search",
            fix="the same command tries failed trials again",
        )
    return DataError(
        "no trial gave clusters that can be used",
        expected="one trial that is not degenerate",
        got=reasons,
        where=setup.out.uri_of("results.parquet"),
        fix="search larger entropy weights, train the pretext longer, or form fewer clusters",
    )
