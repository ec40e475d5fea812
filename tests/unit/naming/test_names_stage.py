"""Stage names on a run over real digits: words of metadata and folders, and where the proposals go."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from rayscan.artifacts import Artifact, Draft, Step
from rayscan.config import ReportConfig
from rayscan.edits.rerun import publish_proposals
from rayscan.exports import export
from rayscan.naming.stored import proposed_names
from rayscan.run import Run, record
from rayscan.stages import names, report
from tests.unit.edits.recorded import copied, stages_of
from tests.unit.report.digits_run import DigitsRun
from tests.unit.report.test_report_stage import Page

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture
def run(tmp_path: Path) -> DigitsRun:
    return copied(tmp_path)


def indexed(run: DigitsRun, **columns: list[Any]) -> Artifact:
    """An index with metadata of every image."""
    draft = Draft(run.out, Step("index", 1, {"metadata": sorted(columns)}))
    table = pa.table({"gid": pa.array(range(run.num_images), pa.int64()), **columns})
    kept = ("images.parquet", "shards.parquet", "quarantine.parquet")
    files = {
        **{name: draft.write_table(name, run.done["index"].read_table(name)) for name in kept},
        **({"metadata.parquet": draft.write_table("metadata.parquet", table)} if columns else {}),
    }
    return draft.commit(files, identity=run.done["index"].identity)


def done(run: DigitsRun) -> dict[int, list[str]]:
    step = names.plan(run.recipe, run.done, run.context.sources)
    run.done["names"] = names.run(run.recipe, run.done, step, run.context)
    return proposed_names(run.done["names"])


def main_digits(run: DigitsRun) -> dict[int, int]:
    """The digit that most images of a cluster show, where it is four of five."""
    table = run.done["assign"].read_table("assignments.parquet")
    found: dict[int, list[int]] = {}
    for gid, cluster in zip(table["gid"].to_pylist(), table["cluster"].to_pylist(), strict=True):
        found.setdefault(cluster, []).append(int(run.labels[gid]))
    most = {c: max(set(digits), key=digits.count) for c, digits in found.items()}
    return {c: digit for c, digit in most.items() if found[c].count(digit) > 0.8 * len(found[c])}


def test_captions_name_clusters(run: DigitsRun) -> None:
    captions = [f"a picture of the {WORDS[d]} by hand" for d in run.labels]
    run.done["index"] = indexed(run, caption=captions, url=[f"https://e.org/{d}" for d in run.labels])
    assert names.available(run.done["index"])
    found, digits = done(run), main_digits(run)
    assert len(digits) >= 5
    for cluster, digit in digits.items():
        assert found[cluster][0] == WORDS[digit]
    assert {name for listed in found.values() for name in listed} <= set(WORDS)


def test_folders_name_clusters_and_names_of_files_do_not(run: DigitsRun) -> None:
    table = run.done["assign"].read_table("assignments.parquet")
    keys = [f"set/{WORDS[run.labels[g]]}s/{WORDS[run.labels[g]]} ({g}).png" for g in table["gid"].to_pylist()]
    changed = table.set_column(3, table.schema.field(3), pa.array(keys))
    draft = Draft(run.out, Step("assign", 1, {"keys": "in folders"}))
    clusters = run.done["assign"].read_json("clusters.json")
    files = {
        "assignments.parquet": draft.write_table("assignments.parquet", changed),
        "clusters.json": draft.write_json("clusters.json", clusters),
    }
    run.done["assign"] = draft.commit(files)
    found = done(run)
    for cluster, digit in main_digits(run).items():
        assert found[cluster][0] == f"{WORDS[digit]}s"
    assert not {name for listed in found.values() for name in listed} & {*WORDS, "set", "png"}


@pytest.mark.parametrize(
    "columns",
    [
        {"file": [f"IMG_{i:04d}" for i in range(300)]},
        {"sha256": [f"{i * 2654435761 % 2**32:08x}" for i in range(300)]},
        {"taken": list(range(300))},
        {"caption": [None] * 300},
        {"status": ["success"] * 300},
    ],
)
def test_nothing_comes_of_nothing(run: DigitsRun, columns: dict[str, list[Any]]) -> None:
    run.done["index"] = indexed(run, **columns)
    assert done(run) == {}


def test_images_without_words_have_no_such_stage(run: DigitsRun) -> None:
    assert not names.available(run.done["index"])


def test_labels_are_no_words() -> None:
    """Columns that name classes never come into an index; `--labels` is read by the labels stage alone."""
    from rayscan.data.metadata_columns import flat

    table = pa.table({name: ["cat"] for name in ("label", "Labels", "class", "classes", "target", "caption")})
    assert flat(table).column_names == ["caption"]


def test_proposals_are_on_the_page_in_clusters_json_and_in_exports(run: DigitsRun, tmp_path: Path) -> None:
    run.done["index"] = indexed(run, caption=[WORDS[d] for d in run.labels])
    found = done(run)
    record(run.out, run.recipe, vars(run.context.sources), stages_of(run))
    publish_proposals(run.out, found)
    listed = {row["cluster"]: row for row in Run(run.out.uri).clusters}
    assert {c: row["proposed"] for c, row in listed.items() if "proposed" in row} == found
    assert all(row["name"] == f"cluster {c}" for c, row in listed.items()), "proposals are no names"
    before = run.out.read("clusters.json")
    publish_proposals(run.out, found)
    assert run.out.read("clusters.json") == before
    export(Run(run.out.uri), "csv", str(tmp_path / "a.csv"))
    rows = csv.DictReader((tmp_path / "a.csv").open(encoding="utf-8", newline=""))
    assert all(row["proposed_names"] == ", ".join(found.get(int(row["cluster"]), [])) for row in rows)
    run.recipe = replace(run.recipe, report=ReportConfig(images="none"))
    step = report.plan(run.recipe, run.done, run.context.sources)
    page = Page(report.run(run.recipe, run.done, step, run.context).read("index.html").decode())
    assert {row[0]: row[8] for row in page.data["clusters"] if row[8]} == found
