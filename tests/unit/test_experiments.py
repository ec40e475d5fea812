"""Experiments: each row is a valid recipe; what is left out, by hand; tables and figures."""

from __future__ import annotations

import dataclasses
import re
import statistics
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from rayscan.config import Recipe
from rayscan.errors import ConfigError
from rayscan.experiments import EXPERIMENTS, experiment_named
from rayscan.experiments.base import Experiment, Row, recipe_of, scaled, unavailable
from rayscan.experiments.results import Results, figure, index_page, markdown, write
from rayscan.experiments.selection import kept_share, left_out, num_left, pure_neighbors
from rayscan.recipes import by_name
from rayscan.sections import semantic
from rayscan.storage import Place

ROWS = [(e.name, row) for e in EXPERIMENTS.values() for row in e.rows]


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[f"{n}: {r.name}" for n, r in ROWS])
def test_every_row_is_a_valid_change_of_every_recipe(name: str, row: Row) -> None:
    """Unknown keys and values out of range are refused when the recipe is made."""
    for recipe in ("cifar10", "digits", "imagenet50"):
        if unavailable(row):
            continue
        made = recipe_of(by_name(recipe), row)
        assert isinstance(made, Recipe)
        for key, value in row.settings.items():
            if not callable(value) and key.startswith("scan."):
                assert semantic(getattr(made.scan, key.partition(".")[2])) == semantic(value), name


def test_rows_have_names_of_their_own() -> None:
    for experiment in EXPERIMENTS.values():
        names = [row.name for row in experiment.rows]
        assert len(set(names)) == len(names)
        taken = {r.first_labels for r in experiment.rows} - {None, "true"}
        assert all(
            names.index(t) < names.index(r.name) for r in experiment.rows for t in taken & {r.first_labels}
        )


def test_which_experiments_train_on_labels_is_said() -> None:
    """Fig. 8, the supervised row, and images chosen by class; no other."""
    assert {e.name for e in EXPERIMENTS.values() if e.reads_labels} == {
        "scan-fig8",
        "scan-table3",
        "scan-table4",
        "sela-imbalance",
    }


def test_unknown_names_and_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="perhaps you meant"):
        experiment_named("scan-tabel1")
    with pytest.raises(ConfigError, match=r"there is no setting scan\.neighbours"):
        recipe_of(by_name("cifar10"), Row("x", {"scan.neighbours": 1}))


def test_settings_follow_the_users_recipe() -> None:
    recipe = dataclasses.replace(by_name("digits"), num_clusters=7)
    assert recipe_of(recipe, Row("x", {"num_clusters": scaled("num_clusters", 2)})).num_clusters == 14


def test_shares_of_the_paper() -> None:
    """SeLa Sec. 4.5: light removes half of one class, heavy 10 %, 20 % ... 100 % of the ten."""
    assert [kept_share("light", c, 10) for c in range(10)] == [1] * 9 + [0.5]
    assert [kept_share("heavy", c, 10) for c in range(10)] == pytest.approx(
        [0.9 - 0.1 * c for c in range(10)]
    )
    assert (num_left("third", 9), num_left("two thirds", 9), num_left("heavy", 10)) == (3, 6, 9)


def test_left_out_images() -> None:
    """20 train images of each of 10 classes and 5 eval ones: heavy takes 2, 4 ... 20 train images."""
    labels = np.tile(np.arange(10), 25)
    gids, is_eval = np.arange(250), np.arange(250) >= 200
    gone = left_out("heavy", gids, labels, is_eval, 10, seed=0)
    assert np.bincount(labels[gone]).tolist() == list(range(2, 22, 2))
    assert not is_eval[gone].any()
    assert not np.array_equal(gone, left_out("heavy", gids, labels, is_eval, 10, seed=1))
    third = left_out("third", gids, labels, is_eval, 10, seed=0)
    assert sorted(set(labels[third])) == list(range(3, 10))
    assert is_eval[third].sum() == 35


@pytest.mark.parametrize("has_rule", [False, True])
def test_pure_neighbors_equal_naive(has_rule: bool) -> None:
    rng = np.random.default_rng(0)
    label_of = rng.integers(-1, 3, 30)
    gids = np.arange(30)
    ids = np.stack([rng.permutation(np.delete(gids, i))[:6] for i in gids])
    chosen = rng.random(ids.shape) < 0.7 if has_rule else np.ones(ids.shape, bool)
    pure, columns = pure_neighbors(gids, ids, label_of, chosen if has_rule else None)
    for i in gids:
        same = [j for j in ids[i][chosen[i]] if label_of[j] == label_of[i] >= 0]
        expected = [same[k % len(same)] if same else i for k in range(6)]
        assert pure[i].tolist() == expected
        assert [ids[i, c] if c >= 0 else i for c in columns[i]] == expected


TWO = Experiment(
    "two", "Two rows", "nowhere", (Row("a", x=1, paper={"r": "50"}), Row("b < c", x=2)), x_label="K"
)


def found() -> Results:
    values = Results()
    for seed, acc in enumerate((0.5, 0.6, 0.7)):
        values.add("a", seed, {"acc": acc, "nmi": 0.25})
    values.not_run["b < c"] = "there is no pretext x"
    return values


def test_markdown_has_mean_and_sample_deviation() -> None:
    text = markdown(TWO, found(), {"images": "3"}, "r")
    deviation = statistics.stdev([50.0, 60.0, 70.0])
    assert f"| a | 60.00 +- {deviation:.2f} | 25.00 +- 0.00 | - | 3 | 50 |" in text
    assert "not run: there is no pretext x" in text
    assert "Labels were used" not in text


@pytest.mark.parametrize("metric", sorted({m for one in EXPERIMENTS.values() for m in one.metrics}))
def test_shares_are_shown_in_percent_and_counts_as_they_are(metric: str) -> None:
    values = Results()
    values.add("a", 0, {metric: 0.3})
    shown = "0.3" if metric == "confident" else "30.00"
    assert f"| a | {shown} |" in markdown(dataclasses.replace(TWO, metrics=(metric,)), values, {}, "")


def test_table_and_page(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    facts = {"recipe": "r", "seeds": 3, "time": "2026-01-01"}
    write(TWO, found(), place.child("two"), facts, "r")
    table = pq.read_table(tmp_path / "two" / "table.parquet").to_pylist()
    assert len(table) == 6
    assert {(row["seed"], row["value"]) for row in table if row["metric"] == "acc"} == {
        (0, 0.5),
        (1, 0.6),
        (2, 0.7),
    }
    page = index_page(place, {"two": TWO, "never": TWO})
    assert re.search(r"\| two \|.*\[run\]\(two/table.md\): r, 3 seeds", page)
    assert re.search(r"\| never \|.*\| not run \|", page)


@pytest.mark.parametrize("x_label", ["K", ""])
def test_figure_is_well_formed_and_shows_every_row(x_label: str) -> None:
    values = found()
    values.add("b < c", 0, {"acc": 0.9})
    root = ET.fromstring(figure(dataclasses.replace(TWO, x_label=x_label), values))
    name = "{http://www.w3.org/2000/svg}"
    marks = root.findall(f".//{name}circle") if x_label else root.findall(f".//{name}rect")[1:]
    assert len(marks) == 2
