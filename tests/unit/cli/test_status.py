"""What a run will cost, what it took, how far it is: from settings and records alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rayscan.cli.results import plan_lines, took, unfinished
from rayscan.config import (
    EmbedConfig,
    ImagesConfig,
    MineConfig,
    Recipe,
    ScanLossConfig,
    SelaConfig,
    SimCLRConfig,
)
from rayscan.console.units import size
from rayscan.costs import PROCESS_BYTES, Cost, StagePlan, cost_of, cost_record, rates
from rayscan.lock import RunLock, holder
from rayscan.run import with_former_times
from rayscan.storage import Place

RECIPE = Recipe(
    name="test",
    num_clusters=10,
    images=ImagesConfig(size_px=32, canvas_px=40),
    pretext=SimCLRConfig(epochs=7, backbone="resnet18"),
    embed=EmbedConfig(num_views=3, dtype="float16"),
    mine=MineConfig(num_neighbors=50, num_shards=4),
    scan=ScanLossConfig(inputs="embeddings", head_epochs=5),
)


def cost(stage: str, dim: int | None = 512) -> Cost:
    found = cost_of(stage, RECIPE, 1_000, 1_200, dim)
    assert found is not None
    return found


def test_costs_by_hand() -> None:
    assert cost("pretext").work == 7 * 1_000
    assert cost("pretext").memory == PROCESS_BYTES + 1_000 * 40 * 40 * 3
    rows = 1_200 + 2 * 1_000  # plain images of both splits, two more views of train
    assert cost("embed").work == rows
    assert cost("embed").storage == rows * 512 * 2
    assert cost("embed", dim=None).storage is None, "D is not known before embed"
    assert cost("mine").work == 1_000 * 1_000
    assert cost("mine").memory == PROCESS_BYTES + 2 * 250 * 512 * 4, "a quarter of the rows, twice"
    assert cost("scan").work == 5 * 1_000
    assert cost("scan").memory == PROCESS_BYTES + rows * 512 * 2
    sela = cost_of("sela", replace(RECIPE, method="sela"), 1_000, 1_200, 512)
    assert sela is not None
    assert sela.work == 160 * 1_000, "its own epochs, not those of the pretext"
    assert sela.scale == "resnet18 at 32 px"
    assert sela.memory == PROCESS_BYTES + 1_000 * 40 * 40 * 3
    assert cost_of("report", RECIPE, 1_000, 1_200, 512) is None


def test_heads_of_sela_on_embeddings_cost_what_heads_do() -> None:
    """The paper's network on images is one thing, a head on cached rows another."""
    heads = replace(RECIPE, method="sela", sela=SelaConfig(inputs="embeddings", epochs=9))
    found = cost_of("sela", heads, 1_000, 1_200, 512)
    assert found is not None
    assert (found.work, found.scale) == (9 * 1_000, "heads on D 512")
    assert found.memory == PROCESS_BYTES + (1_200 + 2 * 1_000) * 512 * 2
    fresh = replace(RECIPE, method="sela", sela=SelaConfig(start="fresh", backbone="resnet50"))
    found = cost_of("sela", fresh, 1_000, 1_200, 512)
    assert found is not None
    assert found.scale == "resnet50 at 32 px"


def write_record(out: Path, stage: str, work: float, scale: str, did: float) -> None:
    out.mkdir(parents=True, exist_ok=True)
    record = {"stages": {stage: {"directory": "d", "work": work, "scale": scale, "did": did}}}
    (out / "run.json").write_text(json.dumps(record))


def test_rates_come_from_this_run_or_else_from_the_runs_beside_it(tmp_path: Path) -> None:
    for name, seconds in (("a", 10.0), ("b", 20.0), ("c", 40.0)):
        write_record(tmp_path / name, "pretext", 1_000, "resnet18 at 32 px", seconds)
    (tmp_path / "photo.jpg").touch()
    key = ("pretext", "resnet18 at 32 px")
    assert rates(Place(str(tmp_path / "new"))) == {key: 50.0}, "the median"
    assert rates(Place(str(tmp_path / "c"))) == {key: 25.0}


def test_a_resumed_stage_keeps_what_its_record_said() -> None:
    first = {"directory": "embed-1", "seconds": 60.0, "reused": False, **cost_record(cost("embed"), 60.0)}
    again = with_former_times({"directory": "embed-1", "seconds": 0.01, "reused": True}, first)
    assert (again["did"], again["seconds"], again["reused"]) == (60.0, 60.0, True)
    assert took(again) == "in 1 min 00 s, 53.33/s"
    other = with_former_times({"directory": "embed-2", "seconds": 0.01, "reused": True}, first)
    assert took(other) == "?", "done by nobody we know"


def test_the_plan_adds_up_what_is_known() -> None:
    lines = list(
        plan_lines(
            [
                StagePlan("index", True, "index-1", "index-1", None, 0.0),
                StagePlan(
                    "pretext", False, "no result yet", "pretext-1", Cost(7e3, "", None, 2 * 10**9), 60.0
                ),
                StagePlan(
                    "embed", False, "pretext runs before it", None, Cost(3200, "", 3_276_800, None), 5.0
                ),
                StagePlan("report", False, "pretext runs before it"),
            ]
        )
    )
    assert lines[0] == "index      reused  index-1"
    assert lines[1] == (
        "pretext    run     no result yet  [7,000 images, 2 GB of memory a process, about 1 min 00 s]"
    )
    assert "3.28 MB on storage" in lines[2]
    assert not any("once the images are counted" in line for line in lines)
    assert "once the images are counted" in list(plan_lines([StagePlan("index", False, "no result yet")]))[-1]
    assert lines[-1] == (
        "left: about 1 min 05 s at the rate of former runs, without report, of which no rate is known"
    )


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 B"), (999, "999 B"), (12_345, "12.3 kB"), (2.5e12, "2.5 TB")]
)
def test_sizes_are_said_in_words(count: float, said: str) -> None:
    assert size(count) == said


def test_unfinished_stages_tell_their_parts_and_checkpoints(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    assert unfinished(place, "embed-1") == ""
    place.write("embed-1/parts/part-00000.npy.json", b"{}")
    place.write(".work/embed-1/step-000000120-aa/meta.json", b"{}")
    place.write(".work/embed-1/step-000000040-aa/meta.json", b"{}")
    place.write(".work/embed-1/heads/step-000000007-aa/meta.json", b"{}")
    said = unfinished(place, "embed-1")
    assert said == "1 parts finished, checkpoint at step 120, checkpoint of the heads at step 7"


def test_a_run_is_running_while_its_lock_is_held(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    assert holder(place) is None
    with RunLock(place):
        assert "process" in str(holder(place))
    assert holder(place) is None
