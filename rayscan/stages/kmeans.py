"""Stage kmeans: embeddings and their components -> centroids of several seeds (arXiv 2008.10312, Sec. 2).

    centroids.npy     float32 [seeds, C, P]
    kmeans.json       per seed: seed, inertia, history, restart; best: number of the lowest inertia
    metrics.parquet   inertia of every fit, before each move
    mean.npy ...      a copy of the components, so that this result alone assigns new images

The rows are projected once, when a holder of a shard loads, and stay in its memory. Every move of the
centroids is written down: a killed run goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rayscan.artifacts import Artifact, Draft, Step
from rayscan.config import Recipe
from rayscan.context import Context, Sources
from rayscan.fleet.kmeans import kmeans_pool
from rayscan.sections import semantic
from rayscan.stages.pca import FILES as PCA_FILES
from rayscan.vectors.cluster_shard import Extent
from rayscan.vectors.lloyd import KMeans, State, best_of, fit, seeds
from rayscan.vectors.parts import EmbeddingRows
from rayscan.vectors.pca import Pca
from rayscan.vectors.seeding import Pool

NAME = "kmeans"
SCHEMA = 1


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do."""
    config = {"kmeans": semantic(recipe.kmeans), "num_clusters": recipe.num_clusters, "seed": recipe.seed}
    return Step(NAME, SCHEMA, config, {name: done[name].identity for name in ("embed", "pca")})


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Fit every seed on the fleet and keep all centroids.

    Raises:
        ConfigError: there are fewer train images than clusters.
        DataError: an embedding is not finite.
    """
    rows, draft, wanted = EmbeddingRows(done["embed"]), context.draft(step), recipe.kmeans
    tried = [(recipe.seed + i, r) for i in range(wanted.num_seeds) for r in range(wanted.n_init)]
    context.progress.start(NAME, len(tried), "fits")
    with kmeans_pool(context.fleet, rows, wanted.num_shards, done["pca"]) as pool:
        extent = Extent.joined(pool.ask("extent"))
        fits = []
        for seed, restart in tried:
            fits.append(_fit(recipe, pool, extent, draft, seed, restart))
            context.progress.advance(inertia=fits[-1].inertia)
    groups = [fits[i : i + wanted.n_init] for i in range(0, len(fits), wanted.n_init)]
    restarts = [best_of(group) for group in groups]
    kept = [group[r] for group, r in zip(groups, restarts, strict=True)]
    noted = [draft.finished_part(_name(*one)) for one in tried]  # a commit forgets them
    artifact = _commit(recipe, done, draft, kept, restarts, extent.num_rows)
    for entry in (entry for part in noted if part is not None for entry in part[0].values()):
        draft.place.delete(entry.path)
    num_clusters = recipe.clusters_formed
    context.progress.finish(
        f"{num_clusters} clusters, {wanted.num_seeds} seeds, inertia {kept[best_of(kept)].inertia:.6g}"
    )
    return artifact


def _name(seed: int, restart: int) -> str:
    return f"fit-{seed}-{restart}"


def _fit(recipe: Recipe, pool: Pool, extent: Extent, draft: Draft, seed: int, restart: int) -> State:
    """One fit, from its last noted move on if there is one."""
    wanted, name = recipe.kmeans, _name(seed, restart)
    settings = KMeans(
        num_clusters=recipe.clusters_formed,
        iterations=wanted.max_iter,
        tolerance=wanted.tolerance,
        is_spherical=wanted.is_spherical,
        is_minibatch=wanted.variant == "minibatch",
    )
    draw = int(np.random.SeedSequence([seed, restart]).generate_state(1)[0])

    def note(state: State) -> None:
        before = draft.finished_part(name)
        number = len(state.history)
        files = {"centroids": draft.write_array(f"{name}-{number}.npy", state.centroids)}
        if state.counts is not None:
            files["counts"] = draft.write_array(f"{name}-{number}-counts.npy", state.counts)
        draft.finish_part(name, files, {"history": list(state.history), "is_over": state.is_over})
        for entry in (before or ({}, {}))[0].values():
            if entry.path not in {file.path for file in files.values()}:
                draft.place.delete(entry.path)

    state = _noted(draft, name) or State(seeds(pool, extent, recipe.clusters_formed, draw, wanted.seeding))
    return fit(pool, extent, state, settings, seed=draw, on_state=note)


def _noted(draft: Draft, name: str) -> State | None:
    part = draft.finished_part(name)
    if part is None:
        return None
    files, facts = part
    arrays = {key: draft.read_part_array(entry) for key, entry in files.items()}
    return State(arrays["centroids"], tuple(facts["history"]), arrays.get("counts"), facts["is_over"])


def _commit(
    recipe: Recipe,
    done: Mapping[str, Artifact],
    draft: Draft,
    kept: Sequence[State],
    restarts: Sequence[int],
    num_rows: int,
) -> Artifact:
    best = best_of(kept)
    note = {
        "best": best,
        "rows": num_rows,
        "fits": [
            {"seed": recipe.seed + i, "restart": r, "inertia": s.inertia, "history": list(s.history)}
            for i, (s, r) in enumerate(zip(kept, restarts, strict=True))
        ],
    }
    files = {name: draft.write(name, done["pca"].read(name)) for name in PCA_FILES}
    files["centroids.npy"] = draft.write_array("centroids.npy", np.stack([s.centroids for s in kept]))
    files["kmeans.json"] = draft.write_json("kmeans.json", note)
    files["metrics.parquet"] = draft.write_table("metrics.parquet", _metrics(kept, recipe.seed))
    facts = {
        "reads": "components",
        "num_clusters": recipe.clusters_formed,
        "inertia": kept[best].inertia,
        "seeds": len(kept),
    }
    return draft.commit(files, facts=facts)


def _metrics(kept: Sequence[State], seed: int) -> pa.Table:
    rows = [
        (float(m), m, f"inertia, seed {seed + i}", v)
        for i, s in enumerate(kept)
        for m, v in enumerate(s.history)
    ]
    names = ("epoch", "step", "name", "value")
    return pa.table({name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)})


@dataclass(frozen=True)
class Centroids:
    """A fitted k-means, ready to assign rows of embeddings."""

    pca: Pca
    all: NDArray[np.float32]
    """Centroids of every seed: [seeds, C, P]."""
    best: int
    """The one that assigns."""
    variance: float
    """Inertia per row and dimension of the best."""

    @staticmethod
    def read(model: Artifact) -> Centroids:
        """From a result of this stage."""
        pca, note = Pca.read(model), model.read_json("kmeans.json")
        centroids = model.read_array("centroids.npy")
        values = note["rows"] * centroids.shape[2]
        best = note["best"]
        return Centroids(pca, centroids, best, max(note["fits"][best]["inertia"] / values, 1e-12))

    def probabilities(self, components: NDArray[np.float32]) -> NDArray[np.float32]:
        """Posterior of each cluster, [n, P] -> [n, C].

        k-means is the limit of a mixture of equal spherical Gaussians; its own estimate of their variance
        is inertia / (N P), and the posterior under it is softmax(-|x - c|^2 / (2 variance)).
        """
        x, c = components.astype(np.float64), self.all[self.best].astype(np.float64)
        logits = (x @ c.T - np.square(c).sum(axis=1) / 2) / self.variance
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        shares: NDArray[np.float32] = (logits / logits.sum(axis=1, keepdims=True)).astype(np.float32)
        return shares
