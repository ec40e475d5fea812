"""A number of clusters that is left to the method: who may leave it, where it is found, who reads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import rayscan
from rayscan.config import AUTO
from rayscan.consensus.how_many import how_many
from rayscan.errors import ConfigError
from rayscan.recipes import by_name
from rayscan.run import record, require_clusters
from rayscan.stages import howmany
from tests.unit.report.digits_run import DigitsRun


def test_auto_is_for_methods_that_find_the_number() -> None:
    custom = by_name("custom")
    require_clusters(custom, may_find=True)
    with pytest.raises(ConfigError, match="rayscan howmany RUN"):
        require_clusters(custom)
    for method in ("scan", "sela", "kmeans"):
        with pytest.raises(ConfigError, match="a number"):
            require_clusters(replace(custom, method=method), may_find=True)
        require_clusters(replace(custom, method=method, num_clusters=7))
    with pytest.raises(ConfigError, match="or auto"):
        require_clusters(replace(custom, num_clusters=None), may_find=True)


def test_what_the_stage_finds_is_read_from_the_record_in_the_place_of_auto(tmp_path: Path) -> None:
    digits = DigitsRun(tmp_path)
    recipe = replace(digits.recipe, method="consensus", num_clusters=AUTO)
    step = howmany.plan(recipe, digits.done, digits.context.sources)
    done = howmany.run(recipe, digits.done, step, digits.context)
    _, space = howmany.whitened(recipe, digits.done["embed"], digits.done["mine"])
    expected = how_many(space, recipe.seed)
    assert howmany.read_estimate(done) == expected
    assert done.facts["num_clusters"] == expected.suggested
    sources = {"data": "x", "eval_data": None, "labels": None}
    said = {"directory": step.directory, "num_clusters": done.facts["num_clusters"]}
    record(digits.out, recipe, sources, {})
    assert rayscan.open(digits.out.uri).recipe == recipe
    record(digits.out, recipe, sources, {"howmany": said})
    run = rayscan.open(digits.out.uri)
    assert run.asked == recipe
    assert run.recipe == replace(recipe, num_clusters=expected.suggested)


def test_of_many_rows_a_seeded_sample_is_looked_at(tmp_path: Path) -> None:
    """1,600 digits, 1,331 of them usable train images, and room for 1,000."""
    digits = DigitsRun(tmp_path, num_images=1600)
    sampled = replace(digits.recipe, consensus=replace(digits.recipe.consensus, max_rows=1000))
    gids, space = howmany.whitened(sampled, digits.done["embed"], digits.done["mine"])
    assert len(gids) == len(space.ids) == 1000
    assert len(np.unique(gids)) == 1000
    rows = digits.rows[np.searchsorted(digits.gids, gids)]
    np.testing.assert_allclose(space.units, rows, atol=1e-6)
    again, _ = howmany.whitened(sampled, digits.done["embed"], digits.done["mine"])
    np.testing.assert_array_equal(gids, again)


def test_it_is_made_again_for_another_sample_alone(tmp_path: Path) -> None:
    """How large clusters may be is no question to it."""
    digits = DigitsRun(tmp_path)
    settings = digits.recipe.consensus
    plans = [
        howmany.plan(replace(digits.recipe, consensus=one), digits.done, digits.context.sources)
        for one in (settings, replace(settings, sizes="uneven"), replace(settings, max_rows=1000))
    ]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]
