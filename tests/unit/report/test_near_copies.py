"""What the page shows of near-copies and outliers: counted by hand, and on a page of a run that has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rayscan.report.near_copies import MAX_GROUPS, MAX_OUTLIERS, PER_GROUP, near_copies, outliers
from rayscan.stages import duplicates, report
from tests.unit.report.digits_run import DigitsRun

TOLD = {"compared": "pixels", "threshold": 0.6, "asked": False, "nearest": [0] * 49 + [3]}


def table(duplicate_of: dict[int, int], outlier: list[float | None]) -> pa.Table:
    gids = range(len(outlier))
    return pa.table(
        {
            "gid": pa.array(gids, pa.int64()),
            "duplicate_of": pa.array([duplicate_of.get(gid) for gid in gids], pa.int64()),
            "outlier": pa.array(outlier, pa.float32()),
        }
    )


def test_groups_come_largest_first_with_the_medoid_first() -> None:
    found = near_copies(table({1: 0, 3: 2, 5: 2, 7: 8}, [0.5] * 10), TOLD)
    assert found is not None
    assert found.groups == [[2, 3, 5], [0, 1], [8, 7]]
    assert (found.num_groups, found.num_copies) == (3, 4)


def test_many_groups_and_large_ones_are_cut_and_counted_whole() -> None:
    large = dict.fromkeys(range(1, 40), 0)
    many = {2 * n + 1: 2 * n for n in range(50, 150)}
    found = near_copies(table(large | many, [0.5] * 400), TOLD)
    assert found is not None
    assert (len(found.groups), len(found.groups[0])) == (MAX_GROUPS, PER_GROUP)
    assert (found.num_groups, found.num_copies) == (101, 139)


def test_outliers_are_the_farthest_and_no_copies() -> None:
    scores: list[float | None] = [n / 100 for n in range(100)]
    scores[99] = None
    found = outliers(table({98: 97}, scores))
    assert [gid for gid, _ in found] == [97, *range(96, 97 - MAX_OUTLIERS, -1)]


def test_runs_of_earlier_versions_have_neither() -> None:
    old = table({1: 0}, [0.5] * 4).drop_columns(["duplicate_of", "outlier"])
    assert near_copies(old, TOLD) is None
    assert outliers(old) == []
    assert near_copies(table({}, [0.5]), {**TOLD, "compared": "none"}) is None


@pytest.mark.parametrize("compare", ["pixels", "none"])
def test_the_page_has_both_sections_with_their_pictures(tmp_path: Path, compare: str) -> None:
    run = DigitsRun(tmp_path)
    recipe = replace(run.recipe, duplicates=replace(run.recipe.duplicates, compare=compare, threshold=0.5))
    step = duplicates.plan(recipe, run.done, run.context.sources)
    run.done["duplicates"] = found = duplicates.run(recipe, run.done, step, run.context)
    assigned = run.done["assign"].read_table("assignments.parquet")
    for name, column in duplicates.columns_of(found, assigned["gid"].to_numpy()).items():
        assigned = assigned.set_column(assigned.column_names.index(name), name, column)
    clusters = run.done["assign"].read_json("clusters.json")
    run.commit("assign", {"assignments.parquet": assigned, "clusters.json": clusters})
    step = report.plan(recipe, run.done, run.context.sources)
    html = report.run(recipe, run.done, step, run.context).read("index.html").decode()
    copies = int(found.facts.get("copies", 0))
    assert ('<section id="copies">' in html) == (compare == "pixels")
    assert (f'<data id="num-copies" value="{copies}">' in html) == (compare == "pixels")
    assert np.isfinite(copies)
    assert '<section id="outliers">' in html
