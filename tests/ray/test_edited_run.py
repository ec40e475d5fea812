"""A real run on two networks after `rayscan apply`: page, scores, exports, predict and service honour it.

The service is started by Ray Serve itself from jobs/serve.yaml, so that this file is tried, too.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import timm
import torch
import yaml
from ray.serve.schema import ServeDeploySchema
from safetensors.torch import save_file

import rayscan
from rayscan.edits.history import fingerprint_of
from rayscan.run import Run
from testing.service import TOKEN, Service, free_port
from testing.textures import jpeg, texture
from tests.ray.tiny import run as run_command

pytestmark = [pytest.mark.timeout(1200), pytest.mark.usefixtures("joined")]
ROOT = Path(__file__).parents[2]
SERVE: dict[str, Any] = yaml.safe_load((ROOT / "jobs" / "serve.yaml").read_text())
SERVICE: dict[str, Any] = yaml.safe_load((ROOT / "jobs" / "kuberay" / "rayservice.yaml").read_text())
KNOWN, NEW = 72, 24


def command(*words: object) -> str:
    done = run_command([sys.executable, "-m", "rayscan", *map(str, words)])
    return done.stdout + done.stderr


def picture(number: int) -> bytes:
    return jpeg(texture(number, 200 + number % 7 * 60, 320))


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, int]]:
    """A run on two networks with edits, and the cluster of each image by the model, joined and wasted."""
    folder = tmp_path_factory.mktemp("edited")
    out = folder / "run"
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit").state_dict(), folder / "weights.safetensors")
    (folder / "photos").mkdir()
    for number in range(KNOWN):
        (folder / "photos" / f"{number:03d}.jpg").write_bytes(picture(number))
    words = ["--data", folder / "photos", "--out", out, "--num-clusters", 4, "--report.images", "none"]
    words += ["--features", "lite0", f"checkpoint:{folder}/weights.safetensors"]
    command("run", "custom", *words, "--pretext.backbone", "timm/test_vit")
    rows = rayscan.open(str(out)).assignments
    before = dict(zip(rows["gid"].to_pylist(), rows["cluster"].to_pylist(), strict=True))
    largest = sorted(set(before.values()), key=list(before.values()).count, reverse=True)
    assert len(largest) >= 3
    a, b, c = largest[:3]
    operations = [
        {"op": "join", "clusters": [b], "into": a},
        {"op": "rename", "cluster": a, "name": "joined \u732b"},
        {"op": "waste", "clusters": [c]},
        {"op": "move", "images": [0, 1], "to": a},
    ]
    fingerprint = fingerprint_of(Run(str(out)).artifact("assign"))
    tree = {"schema": 1, "fingerprint": fingerprint, "operations": operations}
    (folder / "edits.json").write_text(json.dumps(tree))
    assert "applied 4 edits" in command("apply", out, folder / "edits.json")
    now = {cluster: {b: a, c: -1}.get(cluster, cluster) for cluster in set(before.values())}
    wanted = {gid: a if gid in (0, 1) else now[cluster] for gid, cluster in before.items()}
    found = rayscan.open(str(out)).assignments
    assert dict(zip(found["gid"].to_pylist(), found["cluster"].to_pylist(), strict=True)) == wanted
    return out, {gid: now[cluster] for gid, cluster in before.items()}


@pytest.fixture(scope="module")
def predicted(edited: tuple[Path, dict[int, int]]) -> list[dict[str, Any]]:
    """The first images of the run as new ones."""
    out, _ = edited
    folder = out.parent / "new"
    folder.mkdir()
    for number in range(NEW):
        (folder / f"{number:03d}.jpg").write_bytes(picture(number))
    command("predict", out, "--data", folder, "--out", out.parent / "predicted")
    rows: list[dict[str, Any]] = rayscan.open(str(out.parent / "predicted")).assignments.to_pylist()
    return sorted(rows, key=lambda row: str(row["source"]))


def test_page_scores_and_exports_are_those_of_the_edits(edited: tuple[Path, dict[int, int]]) -> None:
    out, _ = edited
    command("report", out)
    page = (out / "report" / "index.html").read_text(encoding="utf-8")
    assert "joined \u732b" in page or "joined \\u732b" in page
    rows = rayscan.open(str(out)).assignments
    lines = [f"{row['source']},{row['gid'] % 3}" for row in rows.to_pylist()]
    (out.parent / "labels.csv").write_text("\n".join(["source,label", *lines]))
    command("evaluate", out, "--labels", out.parent / "labels.csv")
    scores = json.loads((out / "scores.json").read_text())
    waste = rows["cluster"].to_pylist().count(-1)
    assert waste > 0 and f'"waste": {waste}' in json.dumps(scores)
    command("export", out, "--to", "csv", out.parent / "rows.csv")
    with (out.parent / "rows.csv").open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    assert [int(row["cluster"]) for row in listed] == rows["cluster"].to_pylist()
    assert {row["name"] for row in listed if row["gid"] in "01"} == {"joined \u732b"}
    assert {row["name"] for row in listed if row["cluster"] == "-1"} == {"waste"}


def test_new_images_get_the_edited_clusters(
    edited: tuple[Path, dict[int, int]], predicted: list[dict[str, Any]]
) -> None:
    assert [row["cluster"] for row in predicted] == [edited[1][gid] for gid in range(NEW)]


@pytest.mark.parametrize(
    "config",
    [SERVE, yaml.safe_load(SERVICE["spec"]["serveConfigV2"])],
    ids=["serve.yaml", "rayservice.yaml"],
)
def test_ray_serve_takes_the_files(config: dict[str, Any]) -> None:
    found = ServeDeploySchema.model_validate(config)
    (application,) = found.applications
    assert (application.import_path, application.route_prefix) == ("rayscan.serving.application:build", "/")
    known = ServeDeploySchema.model_fields, type(application).model_fields
    assert config.keys() <= known[0].keys()
    assert config["applications"][0].keys() <= known[1].keys()
    assert config["http_options"].keys() <= type(found.http_options).model_fields.keys()


@pytest.fixture
def deployed(
    edited: tuple[Path, dict[int, int]], standing: dict[str, str], tmp_path: Path
) -> Iterator[Service]:
    """jobs/serve.yaml filled in as it says, and made small, by Ray Serve's own command and on its own Ray."""
    (tmp_path / "token").write_text(TOKEN)
    port = free_port()
    (application,) = SERVE["applications"]
    filled = {"run": str(edited[0]), "token_file": str(tmp_path / "token"), "threads": 1, "max_replicas": 2}
    args = {**application["args"], **filled}
    config = {
        **SERVE,
        "http_options": {**SERVE["http_options"], "port": port},
        "applications": [{**application, "args": args}],
    }
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))
    words = [sys.executable, "-m", "ray.serve.scripts", "run", str(tmp_path / "serve.yaml")]
    alone = {name: value for name, value in os.environ.items() if name not in standing}
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(words, stdout=said, stderr=said, cwd=tmp_path, env=alone)
        service = Service(process, port)
        try:
            service.wait()
            yield service
        finally:
            process.terminate()
            process.wait(120)


def test_the_service_answers_as_predict_does(deployed: Service, predicted: list[dict[str, Any]]) -> None:
    pictures = [picture(number) for number in range(NEW)]
    with deployed.client() as client:
        found = [
            client.post("/classify", content=data, headers={"Content-Type": "image/jpeg"})
            for data in pictures
        ]
        refused = client.post("/classify", content=b"no picture", headers={"Content-Type": "image/jpeg"})
    assert [answer.status_code for answer in found] == [200] * NEW
    answers = [answer.json()["images"][0] for answer in found]
    assert [answer["cluster"] for answer in answers] == [row["cluster"] for row in predicted]
    confidence = [[row["confidence"] for row in rows] for rows in (answers, predicted)]
    np.testing.assert_allclose(*confidence, atol=1e-5)
    # they are pictures of the run: the nearest is the picture itself, by the joined features
    assert [answer["nearest"][0]["gid"] for answer in answers] == list(range(NEW))
    assert min(answer["nearest"][0]["cosine"] for answer in answers) > 0.999
    names = {answer["cluster"]: answer["name"] for answer in answers}
    assert "joined \u732b" in names.values() and names.get(-1, "waste") == "waste"
    assert 400 <= refused.status_code < 500 and refused.json()["error"]
    assert httpx.get(f"{deployed.url}/health", trust_env=False).json()["status"] == "ok"
    assert httpx.post(f"{deployed.url}/classify", content=pictures[0], trust_env=False).status_code == 401
