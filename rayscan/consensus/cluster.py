"""The method from features to clusters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rayscan.consensus.confidence import agreement, reproduced, temperature, tempered
from rayscan.consensus.ensemble import Ensemble, Member
from rayscan.consensus.few_clusters import search_few
from rayscan.consensus.found import Found
from rayscan.consensus.many_clusters import search_many
from rayscan.consensus.memory import FORGETFUL, Memory
from rayscan.consensus.probe import MANY
from rayscan.consensus.problem import Problem
from rayscan.consensus.readings import Features, Reading, readings
from rayscan.consensus.refinement import Round
from rayscan.consensus.result import Result, by_size
from rayscan.consensus.score import JointScore, most_score
from rayscan.consensus.space import Space, make_space
from rayscan.consensus.threads import threads_for
from rayscan.consensus.uneven_clusters import search_any, search_uneven
from rayscan.consensus.weak import are_weak, plain_kmeans
from rayscan.errors import ConfigError, DataError
from rayscan.types import Ints

Sizes = Literal["auto", "even", "uneven"]
Search = Callable[[Problem], Found]
MIN_ROWS = 20
MIN_NEIGHBORS = 15
"""Of fewer mined ones none are used: neighbours are searched for here."""


def consensus(
    features: Features | Sequence[Features],
    num_clusters: int,
    seed: int,
    neighbors: Ints | None = None,
    memory: Memory = FORGETFUL,
    sizes: Sizes = "auto",
) -> Result:
    """Cluster features: candidates in many views, the best by a score, heads from these, their vote.

    Of the votes of all rounds and the best candidate the result is the one of greatest merit, in all readings
    of all matrices; where even that scores little, it is k-means of the features (`weak`), and where joined
    groups of any size are clear by far, it is those (`uneven_clusters`). Above a hundred
    clusters there are fewer candidates, of another kind, no heads and no such bound (`many_clusters`).
    Deterministic for a seed, a number of threads and a machine; threads change float32 sums only, and nothing
    below 8,192 rows.

    Args:
        features: [N, D], or several such of the same rows; rows are scaled to unit length.
        num_clusters: C.
        seed: Of every random number.
        neighbors: Neighbours by cosine, nearest first, itself excluded, if mined already: [N, K], of one
            matrix; fewer than 15 are not used.
        memory: Keeps candidates, and knows those of an earlier attempt with the same arguments.
        sizes: even: of two groupings as clear as each other that of equal clusters is taken. uneven: some may
            be a tenth of the mean (`uneven_clusters`). auto: even, unless uneven ones are clear by far.

    Raises:
        ConfigError: C is not within 2..N / 2, or above a hundred with uneven sizes.
        DataError: too few rows, values that are not finite, or rows that do not fit each other.
    """
    sources = (features,) if isinstance(features, np.ndarray) else tuple(features)
    _check(sources, num_clusters, neighbors)
    search = _search(num_clusters, sizes)
    with threads_for(len(sources[0])):
        return _fitted(sources, num_clusters, seed, neighbors, memory, search)


def _fitted(
    sources: Sequence[Features],
    num_clusters: int,
    seed: int,
    neighbors: Ints | None,
    memory: Memory,
    search: Search,
) -> Result:
    read = readings(sources)
    spaces = [make_space(one.units(sources), _mined(one, neighbors, len(sources))) for one in read]
    score = JointScore(spaces, [one.source for one in read], num_clusters, seed)
    found = search(Problem(read, spaces, score, num_clusters, seed, memory))
    labels, voters = by_size(found.best.labels, num_clusters), found.voters
    scored, clearest = score.of_one(labels)
    if is_plain := num_clusters <= MANY and not found.is_uneven and are_weak(clearest, labels, num_clusters):
        labels, member = plain_kmeans(_strongest(read, score), sources, num_clusters, seed)
        ensemble, voters, (scored,) = Ensemble((member,)), [labels], score.of([labels])
    else:
        ensemble = _ensemble(read, spaces, found.best, labels, num_clusters)
    return _result(found, labels, voters, ensemble, sources, scored, is_plain)


def _search(num_clusters: int, sizes: Sizes) -> Search:
    if sizes == "uneven" and num_clusters > MANY:
        raise ConfigError(
            "clusters of uneven sizes are looked for up to a hundred",
            expected=f"at most {MANY} clusters",
            got=num_clusters,
            where="consensus.sizes",
            fix="leave --consensus.sizes out: above a hundred the search was made for a long tail of sizes",
        )
    if num_clusters > MANY:
        return search_many
    return {"auto": search_any, "even": search_few, "uneven": search_uneven}[sizes]


def _result(
    found: Found,
    labels: Ints,
    voters: Sequence[Ints],
    ensemble: Ensemble,
    sources: Sequence[Features],
    scored: float,
    is_plain: bool,
) -> Result:
    """The result, with probabilities whose mean is set to what other groupings bear out."""
    num_clusters = ensemble.members[0].biases.shape[1]
    bound = most_score(labels, num_clusters)
    clear = scored / bound if found.is_uneven else scored
    trust, raw = min(clear, reproduced(found.half, labels, num_clusters)), ensemble.mean(sources)
    ensemble = replace(ensemble, temperature=temperature(tempered(raw, 1.0), trust))
    return Result(
        labels=labels,
        probabilities=tempered(raw, ensemble.temperature),
        agreement=agreement(voters, labels, num_clusters),
        groupings=tuple(voters),
        ensemble=ensemble,
        score=scored,
        bound=bound,
        trust=trust,
        table=found.table,
        kept=found.kept,
        first_round=found.first_round,
        is_uneven=found.is_uneven,
        is_plain=is_plain,
    )


def _strongest(read: Sequence[Reading], score: JointScore) -> int:
    """Number of the source that weighs most in the score."""
    return read[int(np.argmax(score.weights))].source


def _ensemble(
    read: Sequence[Reading], spaces: Sequence[Space], best: Round, labels: Ints, num_clusters: int
) -> Ensemble:
    """The heads of a round, translated into the result."""
    of = zip(read, spaces, best.fields, best.heads, best.groupings, strict=True)
    return Ensemble(
        tuple(
            Member.of(
                reading,
                space.mean,
                space.components @ field.projection,
                heads,
                groupings,
                labels,
                num_clusters,
            )
            for reading, space, field, heads, groupings in of
        )
    )


def _mined(reading: Reading, neighbors: Ints | None, num_sources: int) -> Ints | None:
    """Neighbours of this reading, if they are those that were mined."""
    fits = neighbors is not None and neighbors.shape[1] >= MIN_NEIGHBORS
    return neighbors if fits and num_sources == 1 and not reading.is_root else None


def _check(sources: Sequence[NDArray[np.float32]], num_clusters: int, neighbors: Ints | None) -> None:
    count = len(sources[0])
    if count < MIN_ROWS:
        raise DataError("there are too few rows to cluster", expected=f">= {MIN_ROWS}", got=count)
    if not 2 <= num_clusters <= count // 2:
        raise ConfigError(
            "consensus cannot form that many clusters",
            expected=f"2..{count // 2}, half the number of images",
            got=num_clusters,
            where="num_clusters",
            fix="pass another --num-clusters",
        )
    if not all(np.isfinite(rows).all() for rows in sources):
        raise DataError(
            "consensus needs finite features", got="NaN or infinity", fix="look at what made the features"
        )
    lengths = {len(rows) for rows in sources} | ({len(neighbors)} if neighbors is not None else set())
    if len(lengths) > 1:
        raise DataError(
            "the neighbours or the spaces do not fit the features",
            expected=f"{count} rows each",
            got=", ".join(map(str, sorted(lengths))),
            where="neighbors",
            fix="mine neighbours of these rows, and pass features of the same images",
        )
