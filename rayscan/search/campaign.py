"""`rayscan search`: the early stages once, many trials, the best of them over seeds, a recipe and a page.

No labels can reach it: it is given images alone, and runs no stage that opens labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rayscan import pipeline
from rayscan.artifacts import Artifact
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.errors import DataError, FleetError
from rayscan.fleet.connect import Fleet
from rayscan.fleet.tune import Ended, Report, Tuning, outside, require_room, resources, run_trials, sweep
from rayscan.lock import RunLock
from rayscan.run import require_clusters
from rayscan.search import finalists, ledger
from rayscan.search.finalists import UNSTABLE, Finalist
from rayscan.search.images import LOCKS, train_images
from rayscan.search.ledger import Trial
from rayscan.search.plan import Plan
from rayscan.search.publish import publish, settings_text
from rayscan.search.space import Space, Values
from rayscan.search.study import Study, capacity
from rayscan.search.trial import RUNGS, Shared, run_trial, train_heads
from rayscan.stages import embed, index, mine, pretext
from rayscan.storage import Place

ONCE = (index, pretext, embed, mine)
"""Run once and read by all trials."""
GPU_SHARE = 0.25
"""Of a GPU, for a trial of heads: they are small, and the CPU feeds them."""
GROWING = 8
"""Trials of heads asked for at once where there is an autoscaler: those that wait make it bring nodes."""
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
        sweep(out)
        context = Context(out, sources, fleet, shown)
        done: dict[str, Artifact] = {}
        for stage in ONCE:
            done[stage.NAME], _ = pipeline.do(stage, space.base, done, context)
            if stage is index:
                pipeline.check_data(space.base, done["index"])
        campaign = Campaign(Shared(space, done, out, plan.from_images), plan, context)
        campaign.run_trials()
        ranked = campaign.compare_finalists()
        publish(campaign.shared, campaign.trials, ranked)
        out.delete(LOCKS)
        return ranked[0]


@dataclass
class Campaign:
    """A search in progress; `fleet.tune.Proposer`."""

    shared: Shared
    plan: Plan
    context: Context
    trials: list[Trial] = field(default_factory=list)
    """Ended ones of the search's own seed."""

    @property
    def seed(self) -> int:
        """Of all trials but the finalists' others."""
        return self.shared.space.base.seed

    def run_trials(self) -> None:
        """Trials up to the number asked for; those of an earlier search count."""
        ended, cut = ledger.read(self.shared)
        self.trials = [t for t in ended if t.seed == self.seed]
        progress = self.context.progress
        wanted, there_are = self.plan.trials, capacity(self.shared.space.axes)
        if there_are is not None and there_are < wanted:
            progress.say(f"  search: the space holds {there_are} combinations, so there are no more trials")
            wanted = there_are
        left = max(0, wanted - len(self.trials))
        if self.trials or cut:
            progress.say(f"  search: {len(self.trials)} trials done before, {len(cut)} cut off, {left} to do")
        if not left:
            return
        told = [t.told() for t in self.trials]
        self._study = Study(
            self.shared.space.axes, seed=self.seed, sampler=self.plan.sampler, told=told, first=cut
        )
        tuning = self._tuning(left)
        progress.start("search", left, "trials")
        run_trials(self.context.fleet, _whole if self.plan.from_images else _heads, self.shared, self, tuning)
        counts = ", ".join(f"{n} {status}" for status, n in sorted(self._counts().items()))
        progress.finish(f"{len(self.trials)} trials: {counts}")

    def ask(self, name: str) -> dict[str, Any]:
        """Values of a new trial."""
        return self._study.ask(name)

    def end(self, name: str, ended: Ended) -> None:
        """Note how a trial ended, tell the sampler and the user."""
        trial = ledger.look_up(self.shared, ended.values, self.seed) or self._note(ended)
        self._study.tell(name, trial.told())
        before = finalists.choose(self.trials, 1)
        self.trials.append(trial)
        best = finalists.choose(self.trials, 1)
        if best and best != before:
            text = f"score {best[0].score:.4f} with {settings_text(best[0].values)}"
            self.context.progress.say(f"  search: trial {len(self.trials)} is the best so far: {text}")
        if trial.status == "failed":
            self.context.progress.say(f"  search: trial {len(self.trials)} failed: {ended.reason}")
        facts = {"best": best[0].score} if best else {}
        others = {k: n for k, n in self._counts().items() if k != "finished"}
        self.context.progress.advance(1, **facts, **others)

    def _note(self, ended: Ended) -> Trial:
        """A trial that wrote no result. The next search runs failed ones again, stopped ones not."""
        rungs = {str(k): v for k, v in ended.steps.items()}
        if ended.how == "failed":
            return Trial("", ended.values, self.seed, {"status": "failed", "reason": ended.reason})
        facts = {"status": "stopped", "reason": "worse than others after the same training", "rungs": rungs}
        return ledger.end_early(self.shared, ended.values, self.seed, facts)

    def _counts(self) -> Mapping[str, int]:
        return Counter(t.status for t in self.trials)

    def _tuning(self, left: int) -> Tuning:
        """Where trials go. Waits until one of them fits, so that none waits for what never comes."""
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
        require_room(fleet, bundles, "a trial")
        has = resources()  # now: an autoscaler may have brought the first node
        fits = int(min([has["CPU"] / cpus, *([has["GPU"] / gpus] if gpus else [])]) + 1e-9)
        if fleet.offer.grows and not plan.from_images:
            fits = max(fits, GROWING)
        stops = plan.early_stopping and not plan.from_images
        return Tuning(
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
            publish(self.shared, self.trials, [])
            raise _nothing_found(self.trials, self.shared)
        progress, seeds = self.context.progress, self.plan.seeds
        progress.start("finalists", len(best) * (seeds - 1), "trials")
        ranked = finalists.compare(self.shared, best, seeds, self._again)
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

    def _again(self, asked: list[tuple[Values, int]]) -> list[Trial]:
        """Other seeds of the finalists, in the order asked."""
        todo = [(self.shared, values, seed) for values, seed in asked]
        if self.plan.from_images:  # each is a training on all workers, driven from here
            for one in todo:
                run_once(one)
                self.context.progress.advance()
        else:
            self.context.fleet.map(
                run_once, todo, uses_gpu=True, on_done=lambda _, __: self.context.progress.advance()
            )
        runs = [ledger.look_up(*one) for one in todo]
        return [run for run in runs if run is not None]


def _heads(shared: Shared, values: Mapping[str, Any], report: Report) -> float | None:
    """One trial of heads, in a process of its own."""
    seed = shared.space.base.seed
    return Trial("", values, seed, run_trial(shared, values, seed, report, train_heads)).told().value


def _whole(shared: Shared, values: Mapping[str, Any], report: Report) -> float | None:
    """One trial on images, in a process that only drives."""
    del report  # whole trials run to their end
    seed = shared.space.base.seed
    outside(run_once, (shared, values, seed))
    trial = ledger.look_up(shared, values, seed)
    return None if trial is None else trial.told().value


def run_once(item: tuple[Shared, Values, int]) -> None:
    """One trial that is compared with nothing on the way."""
    shared, values, seed = item
    train = train_images if shared.from_images else train_heads
    run_trial(shared, values, seed, lambda _, __: None, train)


def _nothing_found(trials: list[Trial], shared: Shared) -> DataError | FleetError:
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
        where=shared.out.uri_of("results.parquet"),
        fix="search larger entropy weights, train the pretext longer, or form fewer clusters",
    )
