"""`rayscan apply` on a run over real digits: what changes, what stays, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from rayscan.cli import main
from rayscan.edits import applying
from rayscan.edits.applying import apply
from rayscan.errors import ConfigError, DataError
from rayscan.run import Run
from rayscan.vectors.prototypes import ClusterSummary, find_prototypes
from tests.unit.edits.recorded import clusters_of, copied, fingerprint, recorded, rename_by_hand, saved
from tests.unit.report.digits_run import DigitsRun

JOIN = {"op": "join", "clusters": [5, 7], "into": 3}
RENAME = {"op": "rename", "cluster": 3, "name": "sevens"}
WASTE = {"op": "waste", "clusters": [9]}
MOVE = {"op": "move", "images": [0, "scans/00001.png", "00002"], "to": 3}


@pytest.fixture
def run(tmp_path: Path) -> DigitsRun:
    return copied(tmp_path)


def files(run: DigitsRun) -> dict[str, bytes]:
    paths = [path for path in Path(run.out.uri).rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path): path.read_bytes() for path in paths}


def test_the_new_assignments_hold_the_edits_and_the_former_stay(run: DigitsRun) -> None:
    before, former = clusters_of(run), Run(run.out.uri).artifact("assign")
    told = apply(run.out.uri, saved(run, JOIN, RENAME, WASTE, MOVE))
    assert "applied 4 edits: 7 clusters, 1 in waste, 3 images moved by hand" in told
    wanted = {gid: {5: 3, 7: 3, 9: -1}.get(c, c) for gid, c in before.items()} | {0: 3, 1: 3, 2: 3}
    assert clusters_of(run) == wanted
    opened = Run(run.out.uri)
    assert opened.artifact("assign") != former
    former.verify(rehash=True)
    assert pq.read_table(f"{run.out.uri}/assignments.parquet").equals(opened.assignments)
    listed = {row["cluster"]: row for row in opened.clusters}
    assert sorted(listed) == [-1, 0, 1, 2, 3, 4, 6, 8]
    for number, row in listed.items():
        own = [gid for gid, cluster in wanted.items() if cluster == number]
        assert row["size"] == len(own)
        rows = opened.assignments.filter(np.array([c == number for c in wanted.values()]))
        mean = np.mean(rows["confidence"].to_numpy().astype(np.float64)) if own else 0.0
        assert row["mean_confidence"] == pytest.approx(mean, abs=1e-6)
        assert set(row["prototypes"]) <= set(own)
    assert (listed[3]["name"], listed[3]["joined"]) == ("sevens", [3, 5, 7])
    assert (listed[-1]["name"], listed[-1]["waste"]) == ("waste", [9])


def test_prototypes_are_those_of_the_edited_clusters(run: DigitsRun) -> None:
    apply(run.out.uri, saved(run, JOIN))
    table = Run(run.out.uri).assignments
    summary = ClusterSummary(10, run.recipe.assign.num_prototypes)
    summary.add(table["cluster"].to_numpy(), table["confidence"].to_numpy())
    wanted = find_prototypes(summary, run.done["embed"])
    rows = sorted(row for some in wanted.values() for row in some)
    assert np.flatnonzero(table["is_prototype"].to_numpy(zero_copy_only=False)).tolist() == rows
    listed = {row["cluster"]: row["prototypes"] for row in Run(run.out.uri).clusters}
    assert listed[3] == [int(run.gids[row]) for row in wanted[3]]


def test_twice_changes_nothing(run: DigitsRun) -> None:
    path = saved(run, JOIN, RENAME, MOVE)
    apply(run.out.uri, path)
    after = files(run)
    assert "nothing to change" in apply(run.out.uri, path)
    assert files(run) == after


def test_an_open_page_saves_its_former_edits_with_the_new_ones(run: DigitsRun) -> None:
    first = fingerprint(run)
    apply(run.out.uri, saved(run, JOIN))
    apply(run.out.uri, saved(run, JOIN, RENAME, MOVE, of=first))
    by_steps = clusters_of(run), Run(run.out.uri).cluster_names
    assert "nothing to change" in apply(run.out.uri, saved(run, JOIN, RENAME, of=first))
    apply(run.out.uri, reset=True)
    apply(run.out.uri, saved(run, JOIN, RENAME, MOVE))
    assert (clusters_of(run), Run(run.out.uri).cluster_names) == by_steps


def test_edits_of_edited_assignments_come_on_top(run: DigitsRun) -> None:
    apply(run.out.uri, saved(run, JOIN, WASTE))
    apply(run.out.uri, saved(run, {"op": "create", "cluster": 10, "name": "new"}, {**MOVE, "to": 10}))
    apply(
        run.out.uri,
        saved(run, {"op": "restore", "clusters": [9]}, {"op": "join", "clusters": [3], "into": 10}),
    )
    found = clusters_of(run)
    assert {found[0], found[1], found[2]} == {10}
    assert set(found.values()) == {0, 1, 2, 4, 6, 8, 9, 10}


def test_other_edits_than_those_applied_are_refused_with_both_fingerprints(run: DigitsRun) -> None:
    first = fingerprint(run)
    apply(run.out.uri, saved(run, JOIN))
    after = files(run)
    with pytest.raises(DataError) as caught:
        apply(run.out.uri, saved(run, RENAME, of=first))
    assert first in caught.value.text and fingerprint(run) in caught.value.text
    assert "which the run had before" in caught.value.text
    assert files(run) == {**after, **{k: v for k, v in files(run).items() if k.endswith("edits.json")}}


def test_edits_of_another_run_are_refused_with_both_fingerprints(run: DigitsRun, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = recorded(tmp_path / "other", num_images=240)
    assert fingerprint(other) != fingerprint(run)
    with pytest.raises(DataError) as caught:
        apply(run.out.uri, saved(other, JOIN))
    assert fingerprint(other) in caught.value.text and fingerprint(run) in caught.value.text


@pytest.mark.parametrize(
    ("images", "told"),
    [
        ([10**6], "not in the assignments"),
        ([249], "not in the assignments"),
        (["no such.png"], "'no such.png'"),
        ([str(i) for i in range(9)], "and 4 more"),
        (["twice.png"], "several images"),
    ],
)
def test_images_that_are_not_there_or_not_one(tmp_path: Path, images: list[object], told: str) -> None:
    run = recorded(tmp_path, names={3: "twice.png", 4: "twice.png"})
    before = files(run)
    with pytest.raises(DataError, match=told):
        apply(run.out.uri, saved(run, {**MOVE, "images": images}))
    assert files(run) == before
    assert 249 not in run.gids  # in quarantine


def test_a_dry_run_says_it_all_and_writes_nothing(run: DigitsRun) -> None:
    before = files(run)
    told = apply(run.out.uri, saved(run, JOIN, WASTE), dry_run=True)
    assert "would apply 2 edits: 7 clusters, 1 in waste" in told
    assert fingerprint(run) in told
    assert files(run) == before
    with pytest.raises(DataError, match="no more"):
        apply(run.out.uri, saved(run, JOIN, {**RENAME, "cluster": 5}), dry_run=True)


def test_reset_gives_the_clusters_of_the_model_back(run: DigitsRun) -> None:
    before = files(run)
    apply(run.out.uri, saved(run, JOIN, RENAME))
    assert "would forget 2 edits" in apply(run.out.uri, reset=True, dry_run=True)
    assert "forgot 2 edits" in apply(run.out.uri, reset=True)
    assert Run(run.out.uri).artifact("assign") == run.done["assign"]
    for path in ("assignments.parquet", "clusters.json"):
        assert run.out.read(path) == before[f"{run.out.uri}/{path}"]
    assert "nothing to forget" in apply(run.out.uri, reset=True)
    with pytest.raises(ConfigError, match="takes no edits"):
        apply(run.out.uri, saved(run, JOIN), reset=True)


def test_edits_that_undo_each_other_lead_back_to_the_former_result(run: DigitsRun) -> None:
    apply(run.out.uri, saved(run, WASTE))
    apply(run.out.uri, saved(run, {"op": "restore", "clusters": [9]}))
    assert Run(run.out.uri).artifact("assign") == run.done["assign"]
    assert "nothing to change" in apply(run.out.uri, saved(run))


def test_edits_that_change_nothing_leave_nothing(run: DigitsRun) -> None:
    before = files(run)
    path = saved(run, {**RENAME, "name": "cluster 3"})
    assert "the clusters are so already" in apply(run.out.uri, path)
    assert {name for name in files(run) if "edits.json" not in name} == set(before)
    assert not run.out.child("edits").names()


def test_names_of_clusters_json_are_taken_up_before_the_edits(run: DigitsRun) -> None:
    rename_by_hand(run, {0: "zeros", 1: "ones", 2: "zeros", 3: "threes"})
    apply(run.out.uri, saved(run, RENAME))
    names = Run(run.out.uri).cluster_names
    assert {n: names[n] for n in (0, 1, 3)} == {0: "zeros", 1: "ones", 3: "sevens"}
    assert 2 not in names and 2 not in clusters_of(run).values()
    rename_by_hand(run, {1: "eins"})  # names of a person who came later
    assert "nothing to change" not in apply(run.out.uri)
    assert Run(run.out.uri).cluster_names[1] == "eins"
    assert "nothing to change" in apply(run.out.uri)


def test_a_crash_between_the_two_writes_is_made_good(run: DigitsRun, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(run, JOIN, RENAME)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(applying, "_publish", crash)
        with pytest.raises(KeyboardInterrupt):
            apply(run.out.uri, path)
    assert 5 in clusters_of(run).values()
    apply(run.out.uri, path)
    assert 5 not in clusters_of(run).values()
    assert Run(run.out.uri).cluster_names[3] == "sevens"


def test_scores_of_before_are_forgotten(run: DigitsRun) -> None:
    record = json.loads(run.out.read("run.json"))
    record["stages"] |= {"evaluate": record["stages"]["assign"], "report": record["stages"]["assign"]}
    run.out.write("run.json", json.dumps(record).encode())
    run.out.write("scores.json", b"{}")
    apply(run.out.uri, saved(run, JOIN))
    stages = Run(run.out.uri).record["stages"]
    assert "evaluate" not in stages and "report" not in stages
    assert stages["mine"] == record["stages"]["mine"]
    assert run.out.size("scores.json") is None


def test_the_command_line(run: DigitsRun, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(run, JOIN)
    assert main(["apply", run.out.uri, path, "--dry-run"]) == 0
    assert "would apply 1 edits" in capsys.readouterr().out
    assert main(["apply", run.out.uri, path]) == 0
    assert "rayscan report" in capsys.readouterr().out
    assert main(["apply", run.out.uri]) == 0
    assert fingerprint(run) in capsys.readouterr().out
    assert main(["apply", run.out.uri, f"{path}.gone"]) == 2
    assert "no such file of edits" in capsys.readouterr().err
    assert main(["apply", run.out.uri, saved(run, RENAME, of="0" * 64)]) == 1
    assert "made for other assignments" in capsys.readouterr().err
    assert main(["apply", run.out.uri, "--reset"]) == 0
    assert "as the model made them" in capsys.readouterr().out
    assert main(["apply", str(run.folder / "nothing"), path]) == 1
    assert "no run here" in capsys.readouterr().err
