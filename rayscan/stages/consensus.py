"""Stage consensus: embeddings and their neighbors -> heads that vote, found without a setting or a label.

Of several spaces the embeddings of each are read, not their join, which only the neighbors come from.

members.json                      of the model, `consensus.ensemble`: temperature, source and root of readings
mean-M.npy projection-M.npy weights-M.npy biases-M.npy translations-M.npy    heads of reading M
candidates.json                   score and groupings it came from, best first
heads_clusters.parquet            cluster of every image of the fit by every head
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from rayscan.artifacts import Artifact, Draft, Step
from rayscan.config import Recipe
from rayscan.consensus.candidates import Candidate
from rayscan.consensus.cluster import consensus
from rayscan.consensus.ensemble import Ensemble, Member
from rayscan.consensus.readings import Reading
from rayscan.consensus.result import Result
from rayscan.consensus.uneven_clusters import CLEAR
from rayscan.context import Context, Sources
from rayscan.sections import semantic
from rayscan.training.fitted_rows import FitTask, fit_once, fitted_rows
from rayscan.training.space_rows import embeddings_by_space, take
from rayscan.types import Ints

NAME = "consensus"
SCHEMA = 6
INPUTS = ("embed", "mine")
MODEL_PART = "model"
READS = "consensus"
"""What the model reads, as `assign` asks: embeddings through the ensemble."""
PLAIN = "k-means of the features"
"""The result where no grouping scores well."""
MEMBERS = "members.json"
CANDIDATES = "candidates-"
"""Of the names of parts that hold them, until the fit has ended."""
LABELS = "labels"
ARRAYS = ("mean", "projection", "weights", "biases", "translations")


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do."""
    config = {
        "consensus": semantic(recipe.consensus),
        "num_clusters": recipe.num_clusters,
        "seed": recipe.seed,
    }
    inputs = {name: done[name].identity for name in (*INPUTS, *embeddings_by_space(done))}
    return Step(NAME, SCHEMA, config, inputs)


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Fit on one worker of the fleet.

    Raises:
        ConfigError: there are too few train images for the clusters.
        DataError: an embedding is not finite.
    """
    artifact, facts = fit_once(fit, MODEL_PART, recipe, done, context.draft(step), context)
    context.progress.finish(f"{facts['candidates']} groupings, {in_words(facts)}")
    return artifact


def fit(task: FitTask) -> None:
    """Cluster the train rows, or a sample of them, and store the model; runs on a worker."""
    recipe = task.recipe
    gids, features, neighbors = fitted_rows(recipe, task.embed, task.mine)
    sources = take(task.spaces, gids) if task.spaces else features
    memory = PartMemory(task.draft)
    sizes = recipe.consensus.sizes
    _store(task.draft, consensus(sources, recipe.clusters, recipe.seed, neighbors, memory, sizes), gids)


class PartMemory:
    """Candidates as finished parts of a draft."""

    def __init__(self, draft: Draft) -> None:
        """Nothing is read yet."""
        self._draft = draft

    def recall(self, name: str) -> list[Candidate] | None:
        """Candidates that an earlier attempt stored; None if there are none, or no whole ones."""
        if (part := self._draft.finished_part(CANDIDATES + name)) is None:
            return None
        files, facts = part
        labels = self._draft.read_part_array(files[LABELS]).astype(np.int64)
        return [Candidate(labels=one, **kept) for one, kept in zip(labels, facts["kept"], strict=True)]

    def keep(self, name: str, candidates: Sequence[Candidate]) -> None:
        """Store candidates."""
        labels = np.stack([one.labels for one in candidates]).astype(np.int32)
        entry = self._draft.write_array(f"{CANDIDATES}{name}.npy", labels)
        kept = [{"name": one.name, "reading": one.reading, "shrinkage": one.shrinkage} for one in candidates]
        self._draft.finish_part(CANDIDATES + name, {LABELS: entry}, {"kept": kept})


def _store(draft: Draft, result: Result, gids: Ints) -> None:
    members = result.ensemble.members
    arrays = {f"{name}-{m}.npy": getattr(member, name) for m, member in enumerate(members) for name in ARRAYS}
    files = {name: draft.write_array(name, array) for name, array in arrays.items()}
    readings = [asdict(member.reading) for member in members]
    stored = {"temperature": result.ensemble.temperature, "readings": readings}
    files[MEMBERS] = draft.write_json(MEMBERS, stored)
    heads = {f"head_{h}": pa.array(one) for h, one in enumerate(result.groupings)}
    table = pa.table({"gid": pa.array(gids, pa.int64()), **heads})
    files["heads_clusters.parquet"] = draft.write_table("heads_clusters.parquet", table)
    found = {"score": result.score, "candidates": [[name, score] for name, score in result.table]}
    files["candidates.json"] = draft.write_json("candidates.json", found)
    facts = {
        "reads": READS,
        "score": result.score,
        "candidates": len(result.table),
        "best": PLAIN if result.is_plain else result.table[0][0],
        "rows": len(gids),
        **({"bound": result.bound} if result.is_uneven else {}),
    }
    draft.finish_part(MODEL_PART, files, facts)


def read_ensemble(model: Artifact) -> Ensemble:
    """The model of a finished result."""
    stored = model.read_json(MEMBERS)
    members = (
        Member(Reading(**reading), *(model.read_array(f"{name}-{m}.npy") for name in ARRAYS))
        for m, reading in enumerate(stored["readings"])
    )
    return Ensemble(tuple(members), stored["temperature"])


def in_words(facts: Mapping[str, Any]) -> str:
    """What a result is, where it is none of the method's own, and how far it can be trusted."""
    if (bound := facts.get("bound")) is not None:
        clear = ", hardly an image is between them" if facts["score"] >= CLEAR * bound else ""
        return (
            f"clusters of uneven sizes, S {facts['score']:.2f} of at most {bound:.2f} at these sizes{clear}"
        )
    plain = f"{PLAIN} is taken, as none scores well, " if facts["best"] == PLAIN else ""
    return plain + score_in_words(facts["score"])


def score_in_words(score: float) -> str:
    """How far a result can be trusted: S, and the accuracy that 29 sets of features had at such an S."""
    if score < 0.6:
        told = "these features hardly carry such clusters: below 0.6 no set had half of the images right"
    elif score < 0.85:
        told = "these features carry them in part: up to 0.75 most sets had 0.3 to 0.7 of the images right"
    else:
        told = "these features carry them well: sets above 0.85 had 0.57 to 0.98 of the images right"
    return f"S {score:.2f}, {told}"
