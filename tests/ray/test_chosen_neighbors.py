"""Mutual neighbors through the whole river: nothing is mined again, all read the choice."""

from __future__ import annotations

import json
import re
import shutil
from collections import defaultdict
from pathlib import Path

import pytest

import rayscan
from tests.ray.tiny import command, run

pytestmark = pytest.mark.usefixtures("joined")


def test_all_stages_read_the_choice(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    before = rayscan.open(str(finished))
    extra = ["--mine.mutual", "8", "--scan.neighbors-per-step", "all"]
    done = run(command(out, *extra, "--scan.inputs", "embeddings", "--selflabel.inputs", "embeddings"))
    assert "1e9 pairs/s" not in done.stdout + done.stderr
    now = rayscan.open(str(out))
    assert len(list(out.glob("mine-*/manifest.json"))) == 2
    rows, plain = now.neighbors.to_pylist(), before.neighbors.to_pylist()
    assert [(row["gid"], row["ids"]) for row in rows] == [(row["gid"], row["ids"]) for row in plain]
    near = {
        row["gid"]: [j for j, is_in in zip(row["ids"], row["chosen"], strict=True) if is_in] for row in rows
    }
    mean = sum(map(len, near.values())) / len(near)
    assert now.artifact("mine").facts["chosen"]["mean"] == pytest.approx(mean)
    assert 1 < mean < 9  # of 10
    lists = {row["gid"]: set(row["ids"]) for row in plain}
    lonely = [gid for gid, ids in near.items() if len(ids) == 1]
    assert all(i in lists[j] for i, ids in near.items() if i not in lonely for j in ids)

    labels = now.artifact("labels").read_table("labels.parquet").to_pylist()
    label = defaultdict(lambda: -1, {row["gid"]: row["label"] for row in labels})
    for k, purity in now.scores["neighbor_purity"].items():
        same = [label[i] == label[j] for i, ids in near.items() for j in ids[: int(k)]]
        assert purity == pytest.approx(sum(same) / len(same))
    assert now.scores["neighbor_purity"]["5"] >= before.scores["neighbor_purity"]["5"]

    page = (out / "report" / "index.html").read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    shown = json.loads(found[1])["neighbors"]
    assert len(shown) == 8
    assert all(ids == near[anchor][:8] for anchor, ids, _ in shown)
