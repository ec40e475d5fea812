"""What comes after assign honours edits: evaluate, report, exports, predict, and stages that run again."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayscan.artifacts import Artifact, Draft, Step, load
from rayscan.edits.applying import apply
from rayscan.edits.history import fingerprint_of, name_of
from rayscan.edits.rerun import current, predicted, with_edits
from rayscan.edits.result import first_free
from rayscan.exports import export
from rayscan.exports.rows import class_names
from rayscan.grouping import merge
from rayscan.metrics.contingency import Contingency
from rayscan.metrics.scores import partition_scores
from rayscan.run import Run, record
from rayscan.stages import evaluate, report
from tests.unit.edits.recorded import clusters_of, copied, rename_by_hand, saved, stages_of
from tests.unit.report.digits_run import DigitsRun
from tests.unit.report.test_report_stage import Page

pytestmark = pytest.mark.usefixtures("local_pool")

EDITS: tuple[dict[str, Any], ...] = (
    {"op": "join", "clusters": [5, 7], "into": 3},
    {"op": "rename", "cluster": 3, "name": "sevens"},
    {"op": "waste", "clusters": [9]},
    {"op": "create", "cluster": 10, "name": "new \u732b"},
    {"op": "move", "images": [0, 1, 2], "to": 10},
)


@pytest.fixture
def run(tmp_path: Path) -> DigitsRun:
    run = copied(tmp_path)
    apply(run.out.uri, saved(run, *EDITS))
    run.done["assign"] = Run(run.out.uri).artifact("assign")
    return run


def do(stage: Any, run: DigitsRun) -> Artifact:
    step = stage.plan(run.recipe, run.done, run.context.sources)
    run.done[stage.NAME] = stage.run(run.recipe, run.done, step, run.context)
    return run.done[stage.NAME]


def test_scores_are_those_of_the_edited_clusters_and_leave_waste_out(run: DigitsRun) -> None:
    run.add_labels()
    scores = do(evaluate, run).read_json("scores.json")
    splits = {gid: "train" if gid < run.num_train else "eval" for gid in range(run.num_images)}
    clusters = clusters_of(run)
    for split, told in scores["splits"].items():
        here = [gid for gid in clusters if splits[gid] == split]
        used = [gid for gid in here if clusters[gid] >= 0]
        assert (told["waste"], told["images"]) == (len(here) - len(used), len(used))
        assert told["labelled"] == len(used)
        table = Contingency.count(np.array([clusters[g] for g in used]), run.labels[np.array(used)], 11, 10)
        mine = told["methods"]["scan"]
        for name, value in partition_scores(table).items():
            assert mine[name] == pytest.approx(value)
        assert told["confusion"]["clusters"] == sorted({clusters[g] for g in used})
        shown = {row["cluster"]: row for row in told["per_cluster"]}
        assert [shown[n]["size"] for n in (5, 7, 9)] == [0, 0, 0]
    sizes = Counter(c for g, c in clusters.items() if c >= 0 and splits[g] == "train")
    assert scores["label_free"]["used_clusters"] == len(sizes)
    share = np.array(list(sizes.values())) / sum(sizes.values())
    wanted = -(share * np.log(share)).sum() / np.log(8)
    assert scores["label_free"]["balance"] == pytest.approx(wanted)


def test_the_page_shows_the_edited_clusters(run: DigitsRun) -> None:
    run.add_labels()
    do(evaluate, run)
    html = do(report, run).read("index.html").decode()
    page = Page(html)
    rows = {row[0]: row for row in page.data["clusters"]}
    assert sorted(rows) == [-1, 0, 1, 2, 3, 4, 6, 8, 10]
    assert (rows[3][1], rows[10][1], rows[-1][1]) == ("sevens", "new \u732b", "waste")
    assert rows[-1][9] == [9]
    assert set(rows[10][6]) | set(rows[10][7]) == {0, 1, 2}
    assert page.data["fingerprint"] == fingerprint_of(run.done["assign"])
    assert page.data["next"] == 11
    assert f"{len(clusters_of(run)):,} images in 8 clusters</h1>" in html
    assert "are marked as waste, and in no score" in html
    assert "Of eval" in html


def test_exports_name_the_edited_clusters_and_waste(run: DigitsRun, tmp_path: Path) -> None:
    opened = Run(run.out.uri)
    export(opened, "csv", str(tmp_path / "a.csv"))
    rows = list(csv.DictReader((tmp_path / "a.csv").open(encoding="utf-8", newline="")))
    names = {int(row["gid"]): row["name"] for row in rows}
    called = {3: "sevens", 10: "new \u732b", -1: "waste"}
    assert names == {gid: called.get(c, f"cluster {c}") for gid, c in clusters_of(run).items()}
    assert class_names(opened)[-1] == "waste"


def test_merge_speaks_of_the_edited_clusters_and_leaves_waste_alone(run: DigitsRun) -> None:
    text = merge(run.out.uri, to=4)
    assert text.startswith("8 clusters")
    merges = json.loads(run.out.read("merges.json"))
    own = {0, 1, 2, 3, 4, 6, 8, 10}
    assert {join[end] for join in merges["joins"] for end in ("into", "joined")} <= own
    table = pq.read_table(f"{run.out.uri}/assignments-4.parquet")
    after = dict(zip(table["gid"].to_pylist(), table["cluster"].to_pylist(), strict=True))
    before = clusters_of(run)
    assert {gid for gid, c in after.items() if c == -1} == {gid for gid, c in before.items() if c == -1}
    assert set(after.values()) == {-1, 0, 1, 2, 3}
    apart = {(before[gid], cluster) for gid, cluster in after.items()}
    assert len(apart) == len(set(before.values())), "no cluster was torn"


@pytest.fixture
def new(run: DigitsRun, tmp_path_factory: pytest.TempPathFactory) -> DigitsRun:
    """The same images as if they were new: the model's own clusters, in another place."""
    other = copied(tmp_path_factory.mktemp("new"))
    for path in (Path(other.out.uri)).iterdir():
        if path.is_file():
            path.unlink()
    return other


def test_new_images_get_the_edited_clusters_but_for_moved_ones(run: DigitsRun, new: DigitsRun) -> None:
    found = new.done["assign"].read_table("assignments.parquet")["cluster"].to_pylist()
    mapped = predicted(Run(run.out.uri), new.out, new.done["assign"], new.done["embed"])
    wanted = [{5: 3, 7: 3, 9: -1}.get(c, c) for c in found]
    assert mapped.read_table("assignments.parquet")["cluster"].to_pylist() == wanted
    listed = {row["cluster"]: row for row in mapped.read_json("clusters.json")}
    assert (listed[3]["name"], listed[10]["size"]) == ("sevens", 0)
    assert "waste" not in listed[-1]  # a prediction restores nothing
    again = predicted(Run(run.out.uri), new.out, new.done["assign"], new.done["embed"])
    assert again == mapped


def test_numbers_of_clusters_that_are_no_more_are_not_given_again(run: DigitsRun, new: DigitsRun) -> None:
    apply(run.out.uri, saved(run, {"op": "join", "clusters": [10], "into": 0}))
    new.done["assign"] = predicted(Run(run.out.uri), new.out, new.done["assign"], new.done["embed"])
    assert max(row["cluster"] for row in new.done["assign"].read_json("clusters.json")) == 8
    assert first_free(new.done["assign"]) == 11


def test_predictions_can_be_edited_themselves(run: DigitsRun, new: DigitsRun) -> None:
    new.done["assign"] = predicted(Run(run.out.uri), new.out, new.done["assign"], new.done["embed"])
    sources = {"data": None, "eval_data": "x", "labels": None}
    record(new.out, new.recipe, sources, stages_of(new))
    before = clusters_of(new)
    apply(new.out.uri, saved(new, {"op": "join", "clusters": [10, 3], "into": 0}, {**EDITS[4], "to": -1}))
    assert clusters_of(new) == {g: {3: 0, 10: 0}.get(c, c) for g, c in before.items()} | {0: -1, 1: -1, 2: -1}
    apply(new.out.uri, saved(new, {"op": "create", "cluster": 11, "name": "later"}))
    assert Run(new.out.uri).cluster_names[11] == "later"


def test_an_unedited_run_predicts_as_before_and_joins_equal_names(run: DigitsRun, new: DigitsRun) -> None:
    apply(run.out.uri, reset=True)
    assert predicted(Run(run.out.uri), new.out, new.done["assign"], new.done["embed"]) == new.done["assign"]
    rename_by_hand(run, {0: "zeros"})
    assert predicted(Run(run.out.uri), new.out, new.done["assign"], new.done["embed"]) == new.done["assign"]
    rename_by_hand(run, {4: "zeros"})
    mapped = predicted(Run(run.out.uri), new.out, new.done["assign"], new.done["embed"])
    found = new.done["assign"].read_table("assignments.parquet")["cluster"].to_pylist()
    assert mapped.read_table("assignments.parquet")["cluster"].to_pylist() == [
        0 if c == 4 else c for c in found
    ]


def test_stages_that_run_again_apply_the_edits_again(run: DigitsRun) -> None:
    edited, said = run.done["assign"], {"directory": "x", "seconds": 1.0}
    original = load(run.out.child(Run(run.out.uri).record["stages"]["assign"]["original"]))
    lines: list[str] = []
    found, told = with_edits(run.out, {}, original, run.done, said, lines.append)
    assert found == edited == current(run.out, original)
    assert told == {"directory": edited.place.uri.rpartition("/")[2], "seconds": 1.0,
                    "original": original.place.uri.rpartition("/")[2]}  # fmt: skip
    assert lines == [f"  edits: 5 applied ({told['directory']})"]


def other_assignments(run: DigitsRun) -> Artifact:
    """As of other settings: clusters 0 and 1 have changed places."""
    directory = Run(run.out.uri).record["stages"]["assign"]["original"]
    table = load(run.out.child(directory)).read_table("assignments.parquet")
    swapped = [{0: 1, 1: 0}.get(c, c) for c in table["cluster"].to_pylist()]
    changed = table.set_column(5, table.schema.field(5), pa.array(swapped, pa.int32()))
    draft = Draft(run.out, Step("assign", 1, {"other": True}))
    clusters = [{"cluster": c, "name": f"cluster {c}", "size": 0, "prototypes": []} for c in range(10)]
    files = {
        "assignments.parquet": draft.write_table("assignments.parquet", changed),
        "clusters.json": draft.write_json("clusters.json", clusters),
    }
    return draft.commit(files)


def test_other_assignments_get_no_edits_and_it_is_said(run: DigitsRun) -> None:
    before = Run(run.out.uri).record["stages"]["assign"]
    kept = name_of(fingerprint_of(load(run.out.child(before["original"]))))
    other, lines = other_assignments(run), list[str]()
    rename_by_hand(run, {0: "zeros by hand"})
    found, told = with_edits(run.out, before, other, run.done, dict(before), lines.append)
    assert (found, "original" in told) == (other, False)
    assert len(lines) == 1 and kept in lines[0] and "not applied to these" in lines[0]
    record(run.out, run.recipe, vars(run.context.sources), {**stages_of(run), "assign": told})
    assert Run(run.out.uri).cluster_names[0] == "cluster 0"
    # The former settings again: their edits are back, and so is the name given by hand.
    original = load(run.out.child(before["original"]))
    found, told = with_edits(run.out, told, original, run.done, told, lines.append)
    names = {row["cluster"]: row["name"] for row in found.read_json("clusters.json")}
    assert (names[0], names[3]) == ("zeros by hand", "sevens")
    assert lines[1].startswith("  edits: 6 applied")


def test_equal_names_in_clusters_json_are_one_cluster_when_stages_run_again(tmp_path: Path) -> None:
    run, lines = copied(tmp_path), list[str]()
    rename_by_hand(run, {0: "zeros", 4: "zeros"})
    said = stages_of(run)["assign"]
    found, told = with_edits(run.out, {}, run.done["assign"], run.done, said, lines.append)
    assert "of one name in clusters.json are joined, 9 are left" in lines[0]
    stages = {**stages_of(run), "assign": told}
    record(run.out, run.recipe, vars(run.context.sources), stages)
    assert 4 not in clusters_of(run).values()
    assert Run(run.out.uri).cluster_names[0] == "zeros"
    again, _ = with_edits(run.out, {}, run.done["assign"], run.done, said, lines.append)
    assert again == found
    rename_by_hand(run, {1: "ones"})  # a name that joins nothing needs no new assignments
    same, _ = with_edits(run.out, {}, run.done["assign"], run.done, said, lines.append)
    assert same == found


def test_a_torn_file_of_edits_is_said_so(run: DigitsRun) -> None:
    from rayscan.errors import ArtifactError

    name = next(name for name in run.out.child("edits").names())
    text = run.out.read(f"edits/{name}").decode()
    for torn in (text[:-20], "{}", text.replace('"join"', '"glue"'), json.dumps([])):
        run.out.write(f"edits/{name}", torn.encode())
        with pytest.raises(ArtifactError, match="cannot be read"):
            apply(run.out.uri, dry_run=True)
