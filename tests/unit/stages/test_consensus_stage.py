"""Stages consensus and assign without Ray: one space and two, new rows, and the runner-up of every row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rayscan.artifacts import Artifact, Draft
from rayscan.config import ConsensusConfig
from rayscan.consensus.candidates import Candidate
from rayscan.consensus.cluster import consensus as clustered
from rayscan.stages import assign, consensus
from rayscan.storage import Place
from rayscan.tables import as_rows
from tests.unit.embeddings.artifacts import embedded
from tests.unit.report.digits_run import DigitsRun


def done_by(digits: DigitsRun, given: dict[str, Artifact], features: tuple[str, ...]) -> dict[str, Artifact]:
    """What the two stages leave."""
    recipe = replace(digits.recipe, method="consensus", num_clusters=10, features=features)
    done = {k: v for k, v in digits.done.items() if k in ("index", "embed", "mine")} | given
    for stage in (consensus, assign):
        step = stage.plan(recipe, done, digits.context.sources)
        done[stage.NAME] = stage.run(recipe, done, step, digits.context)
    return done


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DigitsRun:
    return DigitsRun(tmp_path_factory.mktemp("digits"))


def test_two_spaces_are_read_as_they_are(digits: DigitsRun, tmp_path: Path) -> None:
    """The upper and the lower halves of the pictures; the model says of rows what the method said."""
    pixels = digits.pixels[digits.gids].reshape(-1, 64).astype(np.float32)
    train = int(digits.done["embed"].facts["train_rows"])
    halves = (pixels[:, :32], pixels[:, 32:])
    given = {
        f"embed@{name}": embedded(digits.out, name, rows, digits.gids, train)
        for name, rows in zip(("file", "file-2"), halves, strict=True)
    }
    done = done_by(digits, given, ("file:a.npy", "file:b.npy"))
    expected = clustered([half[:train] for half in halves], 10, digits.recipe.seed)
    table = done["assign"].read_table("assignments.parquet")
    assert table["gid"].to_numpy().tolist() == digits.gids.tolist()
    probs = expected.ensemble.probabilities(halves)
    np.testing.assert_allclose(table["confidence"].to_numpy(), probs.max(axis=1), atol=1e-5)
    assert (table["cluster"].to_numpy() == probs.argmax(axis=1)).mean() > 0.995
    inputs = consensus.plan(digits.recipe, done, digits.context.sources).inputs
    assert set(inputs) == {"embed", "mine", "embed@file", "embed@file-2"}


def test_the_runner_up_is_the_second_of_five(digits: DigitsRun) -> None:
    done = done_by(digits, {}, ("lite0",))
    table = done["assign"].read_table("assignments.parquet")
    best, probs = as_rows(table["top5"]), as_rows(table["top5_probs"])
    np.testing.assert_array_equal(table["second"].to_numpy(), best[:, 1])
    np.testing.assert_array_equal(table["second_confidence"].to_numpy(), probs[:, 1])
    np.testing.assert_allclose(table["margin"].to_numpy(), probs[:, 0] - probs[:, 1], atol=1e-6)
    # all of them, by the model alone
    model = consensus.read_ensemble(done["consensus"])
    said = np.sort(model.probabilities([digits.rows]), axis=1)[:, ::-1]
    np.testing.assert_allclose(probs, said[:, :5], atol=1e-5)


@pytest.mark.parametrize("many", [100, 5])
def test_a_killed_fit_goes_on_from_its_candidates(
    digits: DigitsRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    """Killed after the candidates of one kind were stored: the next attempt makes only the others."""
    for module in ("probe", "cluster"):
        monkeypatch.setattr(f"rayscan.consensus.{module}.MANY", many)
    recipe = replace(digits.recipe, method="consensus", num_clusters=10, seed=many)
    step = consensus.plan(recipe, digits.done, digits.context.sources)
    rows = digits.rows[: int(digits.done["embed"].facts["train_rows"])]
    whole = clustered(rows, 10, recipe.seed)

    kept: list[str] = []
    keep = consensus.PartMemory.keep
    monkeypatch.setattr(consensus.PartMemory, "keep", killed_after(2, kept, keep))
    with pytest.raises(KeyboardInterrupt):
        clustered(rows, 10, recipe.seed, memory=consensus.PartMemory(Draft(Place(str(tmp_path)), step)))
    assert len(kept) == 2

    later = Draft(Place(str(tmp_path)), step)
    monkeypatch.setattr(consensus.PartMemory, "keep", killed_after(99, kept, keep))
    found = clustered(rows, 10, recipe.seed, memory=consensus.PartMemory(later))
    assert len(set(kept)) == len(kept)  # nothing was made twice
    np.testing.assert_array_equal(found.labels, whole.labels)
    assert found.table == whole.table
    assert later.finished_part(f"candidates-{kept[0]}") is not None


def killed_after(
    count: int, kept: list[str], keep: Callable[[consensus.PartMemory, str, Sequence[Candidate]], None]
) -> Callable[[consensus.PartMemory, str, Sequence[Candidate]], None]:
    """What keeps candidates and their names, and is killed once it has kept so many."""

    def kept_once(memory: consensus.PartMemory, name: str, candidates: Sequence[Candidate]) -> None:
        if len(kept) == count:
            raise KeyboardInterrupt
        keep(memory, name, candidates)
        kept.append(name)

    return kept_once


def test_uneven_sizes_are_asked_for_and_told(digits: DigitsRun) -> None:
    unasked = replace(digits.recipe, method="consensus")
    recipe = replace(unasked, consensus=ConsensusConfig(sizes="uneven"))
    step, other = (consensus.plan(one, digits.done, digits.context.sources) for one in (recipe, unasked))
    assert step != other
    facts = consensus.run(recipe, digits.done, step, digits.context).facts
    rows = digits.rows[: int(digits.done["embed"].facts["train_rows"])]
    expected = clustered(rows, recipe.clusters, recipe.seed, sizes="uneven")
    assert (facts["score"], facts["bound"]) == pytest.approx((expected.score, expected.bound))
    told = f"uneven sizes, S {expected.score:.2f} of at most {expected.bound:.2f}"
    assert told in consensus.in_words(facts)


@pytest.mark.parametrize(
    ("score", "told"), [(0.33, "at these sizes, hardly an image is between them"), (0.32, "at these sizes")]
)
def test_a_low_score_of_uneven_clusters_is_no_low_score(score: float, told: str) -> None:
    """S cannot be above the bound of the sizes, so it is measured against that, and no less is said of it."""
    said = consensus.in_words({"score": score, "bound": 0.36, "best": "0/layout+cosine-0"})
    assert said.endswith(told)
    assert "hardly carry" not in said
