"""The report stage and the page it writes, over real artifacts and real pictures."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rayscan.config import ReportConfig
from rayscan.run import record
from rayscan.stages import evaluate, report
from tests.unit.report.digits_run import DigitsRun

HOSTILE = {
    0: "<img src=x onerror=alert(1)>.png",
    1: "</script><script>alert(2)</script>.png",
    2: "<!--<script>.png",
    3: "{{ 7 * 7 }}${alert(3)} & ' \" \u2028.png",
    248: "<svg onload=alert(4)>.png",
}

pytestmark = pytest.mark.usefixtures("local_pool")


class Page(HTMLParser):
    """What a browser would make of the page: elements, and the text of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.bodies: dict[str, list[str]] = {"script": [], "style": []}
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in self.bodies:
            self.bodies[self._inside].append(data)

    @property
    def data(self) -> dict[str, Any]:
        block: dict[str, Any] = json.loads(self.bodies["script"][0])
        return block

    def with_tag(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.elements if name == tag)


def written(run: DigitsRun, *, has_labels: bool = True) -> tuple[str, Page]:
    if has_labels:
        run.add_labels()
        step = evaluate.plan(run.recipe, run.done, run.context.sources)
        run.done["evaluate"] = evaluate.run(run.recipe, run.done, step, run.context)
    step = report.plan(run.recipe, run.done, run.context.sources)
    html = report.run(run.recipe, run.done, step, run.context).read("index.html").decode()
    return html, Page(html)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    html, page = written(DigitsRun(tmp_path, names=HOSTILE, num_clusters=40))
    assert [a.get("type") for a in page.with_tag("script")] == ["application/json", None]
    names = {record[0] for record in page.data["pictures"].values()}
    assert {HOSTILE[gid] for gid in range(4)} <= names  # unchanged where they belong
    assert all(str(a.get("src")).startswith("data:image/") for a in page.with_tag("img"))
    assert not [
        key for _, attributes in page.elements for key in attributes if key.startswith("on") or key == "style"
    ]
    assert "&lt;svg onload=alert(4)&gt;.png" in html  # the quarantine list
    assert "49" not in [record[0] for record in page.data["pictures"].values()]


def test_the_policy_admits_exactly_our_style_and_script(tmp_path: Path) -> None:
    html, page = written(DigitsRun(tmp_path))
    (policy,) = [
        str(a["content"]) for a in page.with_tag("meta") if a.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    (style,), script = page.bodies["style"], page.bodies["script"][1]
    for text, rule in ((style, "style-src"), (script, "script-src")):
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert not re.findall(r"(?:https?:)?//[\w.]+\.\w+", html.replace(script, ""))
    assert not [
        a for tag, a in page.elements if tag in ("link", "iframe", "object") and a.get("href") != "data:,"
    ]


def test_numbers_are_those_of_scores_json(tmp_path: Path) -> None:
    run = DigitsRun(tmp_path)
    _, page = written(run)
    scores = run.done["evaluate"].read_json("scores.json")
    shown = [float(str(a["value"])) for a in page.with_tag("data")]
    for split in scores["splits"].values():
        for method in split["methods"].values():
            assert set(method.values()) <= set(shown)
    assert set(scores["neighbor_purity"].values()) <= set(shown)
    headline = {a["id"]: a["value"] for a in page.with_tag("data") if a.get("id")}
    assert float(str(headline["headline-acc"])) == scores["splits"]["eval"]["methods"]["scan"]["acc"]


def test_clusters_show_prototypes_and_the_least_confident_others(tmp_path: Path) -> None:
    run = DigitsRun(tmp_path, report=ReportConfig(images_per_cluster=8))
    _, page = written(run)
    table = run.done["assign"].read_table("assignments.parquet").to_pydict()
    for row, listed in zip(page.data["clusters"], run.done["assign"].read_json("clusters.json"), strict=True):
        number, name, size, confidence, _, _, typical, doubtful = row[:8]
        assert (number, size, name) == (listed["cluster"], listed["size"], "")
        assert confidence == pytest.approx(listed["mean_confidence"], abs=1e-4)
        assert typical == listed["prototypes"][:4]
        mine = [
            (c, g)
            for c, g, k in zip(table["confidence"], table["gid"], table["cluster"], strict=True)
            if k == number
        ]
        assert doubtful == [gid for _, gid in sorted(mine) if gid not in typical][:4]
    for gid, (name, cluster, confidence, margin, url) in page.data["pictures"].items():
        i = table["gid"].index(int(gid))
        assert (name, cluster) == (table["source"][i], table["cluster"][i])
        assert (confidence, margin) == pytest.approx((table["confidence"][i], table["margin"][i]), abs=1e-4)
        assert url.startswith("data:image/webp;base64,")


def test_names_that_a_user_gave_are_on_the_page_and_make_it_anew(tmp_path: Path) -> None:
    run = DigitsRun(tmp_path)
    before = report.plan(run.recipe, run.done, run.context.sources)
    assign = run.done["assign"]
    said = {"directory": assign.place.uri.rpartition("/")[2], "seconds": 1.0, "reused": False}
    record(run.out, run.recipe, vars(run.context.sources), {"assign": said})
    assert report.plan(run.recipe, run.done, run.context.sources) == before
    clusters = json.loads(run.out.read("clusters.json"))
    run.out.write("clusters.json", json.dumps([{**clusters[0], "name": "zeros"}, *clusters[1:]]).encode())
    assert report.plan(run.recipe, run.done, run.context.sources).fingerprint != before.fingerprint
    _, page = written(run, has_labels=False)
    assert [row[1] for row in page.data["clusters"]] == ["zeros", *[""] * 9]


def test_neighbor_rows_are_mined_rows(tmp_path: Path) -> None:
    run = DigitsRun(tmp_path)
    _, page = written(run)
    assert len(page.data["neighbors"]) == report.NUM_ANCHORS
    for anchor, ids, scores in page.data["neighbors"]:
        row = int(np.flatnonzero(run.gids == anchor)[0])
        assert ids == run.neighbors[row, :8].tolist()
        assert scores == sorted(scores, reverse=True)
        assert {str(gid) for gid in (anchor, *ids)} <= set(page.data["pictures"])


def test_the_cap_in_megabytes_holds_thins_evenly_and_is_said(tmp_path: Path) -> None:
    html, page = written(DigitsRun(tmp_path, num_clusters=60, report=ReportConfig(max_megabytes=0.15)))
    assert len(html.encode()) <= 150_000
    shown = [sum(str(g) in page.data["pictures"] for g in (*c[6], *c[7])) for c in page.data["clusters"]]
    wanted = [len(c[6]) + len(c[7]) for c in page.data["clusters"]]
    assert 0 < sum(shown) < sum(wanted)
    assert all(count >= 1 for count, all_of_it in zip(shown, wanted, strict=True) if all_of_it)
    assert "pictures fit into report.max_megabytes" in html


def test_pictures_can_be_left_out(tmp_path: Path) -> None:
    html, page = written(DigitsRun(tmp_path, report=ReportConfig(images="none")))
    assert "data:image" not in html
    assert all(url is None for *_, url in page.data["pictures"].values())
    assert "left out on request" in html


def test_without_labels_the_page_shows_label_free_facts(tmp_path: Path) -> None:
    run = DigitsRun(tmp_path)
    html, page = written(run, has_labels=False)
    sections = {a.get("id") for a in page.with_tag("section")}
    assert {"shape", "clusters", "neighbors", "training", "run"} <= sections
    assert not {"scores", "confusion"} & sections
    clusters = (
        run.done["assign"].read_table("assignments.parquet")["cluster"].to_numpy()[: len(run.neighbors)]
    )
    assert f"{100 * np.bincount(clusters).max() / len(clusters):.2f}" in html
    assert all(c[4] is None and c[5] is None for c in page.data["clusters"])


@pytest.mark.parametrize(
    ("method", "epochs", "title"),
    [
        ("scan", 200, "SCAN with self-labelling"),
        ("scan", 0, "SCAN"),
        ("sela", 200, "SeLa"),
        ("kmeans", 200, "k-means"),
    ],
)
def test_the_page_is_headed_by_its_own_method(tmp_path: Path, method: Any, epochs: int, title: str) -> None:
    """Only SCAN has a self-labelling stage, and only what is not k-means stands beside k-means."""
    run = DigitsRun(tmp_path)
    selflabel = replace(run.recipe.selflabel, epochs=epochs)
    run.recipe = replace(run.recipe, method=method, selflabel=selflabel)
    html, _ = written(run)
    assert re.findall(r"<span>seed 0</span> <span>(.*?)</span>", html) == [title]
    beside = " beside k-means on the same embeddings" if method != "kmeans" else ""
    assert f'<p class="lead">{title}{beside}, in percent.' in html
    assert ("SCAN learns" in html) == (method == "scan")
    heads = re.findall(r'<th scope="col" class="number">(.*?)</th>', html)
    assert heads[: 1 + (method != "kmeans")] == [title.partition(" with")[0], "k-means"][-1 - bool(beside) :]


def test_a_prediction_shows_its_images_and_no_training(tmp_path: Path) -> None:
    """All images are new: no train split, no neighbors, no scores; the model's own curves stay out."""
    run = DigitsRun(tmp_path)
    assigned = run.done["assign"].read_table("assignments.parquet")
    column = assigned.schema.get_field_index("split")
    predicted = assigned.set_column(column, "split", pa.array(["eval"] * len(assigned)))
    clusters = run.done["assign"].read_json("clusters.json")
    model = run.done["selflabel"]
    run.commit("assign", {"assignments.parquet": predicted, "clusters.json": clusters})
    run.done = {"index": run.done["index"], "assign": run.done["assign"], report.MODEL: model}
    html, page = written(run, has_labels=False)
    assert {a.get("id") for a in page.with_tag("section")} == {"shape", "clusters", "run", "quarantine"}
    assert f"clusters are those of the model in {model.place.uri}" in html
    sizes = np.bincount(predicted["cluster"].to_numpy(), minlength=10)
    shares = sizes[sizes > 0] / sizes.sum()
    assert f"<dd>{-(shares * np.log(shares)).sum() / np.log(10):.3f}<span>1 = all" in html
    assert f"<dd>{100 * sizes.max() / sizes.sum():.2f}<i>%</i><span>of the images" in html
    assert [row[2] for row in page.data["clusters"]] == sizes.tolist()
    wanted = {str(gid) for row in page.data["clusters"] for gid in (*row[6], *row[7])}
    assert set(page.data["pictures"]) == wanted
    assert all(url.startswith("data:image/webp") for *_, url in page.data["pictures"].values())


def test_stage_times_come_from_the_run_record(tmp_path: Path) -> None:
    run = DigitsRun(tmp_path)
    stages = {"mine": {"seconds": 12.34, "reused": False}, "scan": {"seconds": 7.0, "reused": True}}
    run.out.write("run.json", json.dumps({"stages": stages}).encode())
    html, _ = written(run, has_labels=False)
    assert "mine took" in html
    assert "12.3 s" in html
    assert "scan took" not in html


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    run = DigitsRun(tmp_path)
    first, _ = written(run)
    step = report.plan(run.recipe, run.done, run.context.sources)
    run.out.delete(step.directory)
    again = report.run(run.recipe, run.done, step, run.context)
    assert again.read("index.html").decode() == first
