"""`rayscan serve` on a real run: answers of predict, refusals, edits as they come, a replica that dies."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import rayscan
from rayscan.data.reader import Reader
from rayscan.data.table import ImageTable
from rayscan.edits.history import fingerprint_of
from rayscan.vectors.parts import EmbeddingRows
from testing.service import TOKEN, Service, running
from testing.textures import jpeg, texture
from tests.ray.tiny import run as run_command

COUNT, KNOWN = 24, 96
pytestmark = pytest.mark.timeout(1200)
BAD = 240
MOST_BYTES = 2_000_000


def files(first: int = 1000, count: int = COUNT) -> list[bytes]:
    """Pictures of several sizes and two formats."""
    made = []
    for number in range(first, first + count):
        pixels, buffer = texture(number, 200 + number % 7 * 60, 320), io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        made.append(jpeg(pixels) if number % 2 else buffer.getvalue())
    return made


@pytest.fixture(scope="module")
def finished(standing: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`--out` of a run on features of a pretrained network."""
    folder = tmp_path_factory.mktemp("known")
    (folder / "photos").mkdir()
    for number, data in enumerate(files(0, KNOWN)):
        (folder / "photos" / f"{number:03d}.png").write_bytes(data)
    arguments = ["--data", str(folder / "photos"), "--num-clusters", "4", "--out", str(folder / "run")]
    words = [sys.executable, "-m", "rayscan", "run", "custom", *arguments, "--report.images", "none"]
    run_command(words, **standing)
    return folder / "run"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new") / "photos"
    folder.mkdir()
    for number, data in enumerate(files()):
        (folder / f"{number:03d}.png").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def service(finished: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    arguments = [
        "--allow-store",
        str(photos),
        "--serve.max-bytes",
        str(MOST_BYTES),
        "--serve.max-replicas",
        "2",
    ]
    arguments += ["--serve.min-replicas", "2", "--serve.reload-seconds", "0.5"]
    with running(finished, tmp_path_factory.mktemp("service"), *arguments) as one:
        yield one


def ask(client: httpx.Client, data: bytes) -> dict[str, Any]:
    answer = client.post("/classify", content=data, headers={"Content-Type": "image/png"})
    assert answer.status_code == 200, answer.text
    (image,) = answer.json()["images"]
    return image


def test_answers_are_those_of_predict_however_the_images_come(
    service: Service, finished: Path, photos: Path, standing: dict[str, str], tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "rayscan", "predict", str(finished), "--data", str(photos)]
    run_command([*words, "--out", str(tmp_path / "new")], **standing)
    expected = rayscan.open(str(tmp_path / "new")).assignments.sort_by("source").to_pylist()
    as_json = {"images": [{"data": base64.b64encode(data).decode()} for data in files()]}
    as_uris = {"images": [{"uri": str(photos / f"{number:03d}.png")} for number in range(COUNT)]}
    with service.client() as client:
        several = [
            client.post(
                "/classify", files=[("images", (f"{n}.png", data)) for n, data in enumerate(files())]
            ),
            client.post("/classify", json=as_json),
            client.post("/classify", json=as_uris),
        ]
        alone = [ask(client, data) for data in files()]
    for answer in (*(one.json()["images"] for one in several), alone):
        assert [image["cluster"] for image in answer] == [row["cluster"] for row in expected]
        for name in ("confidence", "margin"):
            found, wanted = ([row[name] for row in rows] for rows in (answer, expected))
            np.testing.assert_allclose(found, wanted, atol=1e-5)
        assert [[b["cluster"] for b in image["best"]] for image in answer] == [
            [n for n, p in zip(row["top5"], row["top5_probs"], strict=True) if p > 0] for row in expected
        ]


def test_nearest_known_images_are_the_nearest_of_the_stored_features(
    service: Service, finished: Path
) -> None:
    run = rayscan.open(str(finished))
    row = run.assignments.slice(5, 1).to_pylist()[0]
    (data,) = Reader(ImageTable.from_artifact(run.artifact("index"))).read([row["gid"]])
    with service.client() as client:
        nearest = ask(client, data)["nearest"]
    assert (nearest[0]["gid"], len(nearest)) == (row["gid"], 5)
    assert nearest[0]["cosine"] == pytest.approx(1, abs=1e-4)
    assert [n["cosine"] for n in nearest] == sorted((n["cosine"] for n in nearest), reverse=True)
    rows = EmbeddingRows(run.artifact("embed"))
    cosines = rows.read(0, KNOWN) @ rows.read(row["gid"], row["gid"] + 1)[0]
    assert [n["gid"] for n in nearest] == np.argsort(-cosines, kind="stable")[:5].tolist()


def bad_requests(seed: int) -> Iterator[dict[str, Any]]:
    """Requests that cannot be answered, drawn by a seed: each a body, headers and perhaps another path."""
    draw, good = random.Random(seed), files()[0]
    kinds = ["image/png", "application/json", "multipart/form-data; boundary=x", "application/octet-stream"]
    uris = [
        "http://127.0.0.1/x",
        "https://[::1]/",
        "file:///etc/passwd",
        "/etc/passwd",
        "s3://b/a.jpg",
        "gopher://x",
        "http://169.254.169.254/latest",
        "\u0000",
        "../../etc/passwd",
    ]
    bomb = io.BytesIO()
    Image.new("L", (9000, 9000)).save(bomb, "PNG")
    for _ in range(BAD):
        match draw.randrange(9):
            case 0:
                yield {
                    "content": draw.randbytes(draw.randrange(1, 3000)),
                    "headers": {"Content-Type": draw.choice(kinds)},
                }
            case 1:
                cut = bytearray(good[: draw.randrange(8, len(good) - 12)])
                yield {"content": bytes(cut), "headers": {"Content-Type": "image/png"}}
            case 2:
                yield {"json": {"images": [{"uri": draw.choice(uris)}]}}
            case 3:
                yield {
                    "json": draw.choice([[], {}, {"images": 5}, {"images": [5]}, {"images": [{"data": "?"}]}])
                }
            case 4:
                yield {"content": bomb.getvalue(), "headers": {"Content-Type": "image/png"}}
            case 5:
                yield {"content": b"x" * (MOST_BYTES + 1), "headers": {"Content-Type": "image/png"}}
            case 6:
                body = b"--x\r\n" + draw.randbytes(200) + draw.choice([b"", b"\r\n--x--"])
                yield {"content": body, "headers": {"Content-Type": kinds[2]}}
            case 7:
                given = draw.choice(["", "Bearer x", TOKEN, "Basic \u00e9"]).encode("latin-1")
                yield {"content": good, "headers": {"Authorization": given, "Content-Type": "image/png"}}
            case _:
                yield {"content": good, "path": draw.choice(["/nothing", "/classify/x", "/%2e%2e/", "//"])}


def test_bad_requests_are_refused_with_a_reason_and_harm_nobody(service: Service) -> None:
    with service.client() as client:
        before = ask(client, files()[0])
        for number, request in enumerate(bad_requests(0)):
            answer = client.post(request.pop("path", "/classify"), **request)
            assert 400 <= answer.status_code < 500, (number, request, answer.status_code, answer.text[:300])
            assert answer.json()["error"], (number, answer.text)
        assert client.get("/classify").status_code == 405
        assert ask(client, files()[0]) == before


def test_nobody_is_answered_without_the_token_but_the_health_check(service: Service) -> None:
    with service.client(token=None) as client:
        assert client.get("/health").json()["status"] == "ok"
        for path in ("/classify", "/metrics"):
            assert client.get(path).status_code == 401
    with service.client() as client:
        told = client.get("/metrics").text
    assert "# TYPE rayscan_requests_total counter" in told
    assert TOKEN not in told


def test_listens_on_loopback_alone(service: Service) -> None:
    hexed = f"{service.port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines() + Path("/proc/net/tcp6").read_text().splitlines()
    listening = [
        line.split()[1] for line in lines if line.split()[1].endswith(f":{hexed}") and line.split()[3] == "0A"
    ]
    assert listening == [f"0100007F:{hexed}"]


def test_edits_are_answered_soon_after_they_are_applied(
    service: Service, finished: Path, tmp_path: Path
) -> None:
    with service.client() as client:
        before = ask(client, files()[0])
    run = rayscan.open(str(finished))
    rename = {"op": "rename", "cluster": before["cluster"], "name": "round ones"}
    edits = {"schema": 1, "fingerprint": fingerprint_of(run.artifact("assign")), "operations": [rename]}
    (tmp_path / "edits.json").write_text(json.dumps(edits))
    applied = [sys.executable, "-m", "rayscan", "apply", str(finished)]
    try:
        run_command([*applied, str(tmp_path / "edits.json")])
        with service.client() as client:
            end = time.monotonic() + 60
            while (now := ask(client, files()[0]))["name"] != "round ones" and time.monotonic() < end:
                time.sleep(0.2)
        assert now["name"] == "round ones"
        assert now["confidence"] == pytest.approx(before["confidence"], abs=1e-6)
    finally:
        subprocess.run([*applied, "--reset"], check=True, capture_output=True)


def test_no_request_is_lost_while_a_replica_is_killed(service: Service) -> None:
    sent = files()

    def one(number: int) -> int:
        with service.client() as client:
            return client.post(
                "/classify", content=sent[number % COUNT], headers={"Content-Type": "image/png"}
            ).status_code

    victims = service.replicas()
    assert victims
    with ThreadPoolExecutor(8) as pool:
        coming = [pool.submit(one, number) for number in range(200)]
        while sum(future.done() for future in coming) < 40:
            time.sleep(0.01)
        os.kill(victims[0], signal.SIGKILL)
        assert [future.result() for future in coming] == [200] * 200
