"""`rayscan fetch` against a server on loopback.

It runs in a process of its own, because the library reads HF_* when it is imported. The repositories hold a
small transformer of timm with random weights. dino-small is used where the file alone matters, because what
the catalog lists is found without importing torch.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save

from rayscan.catalog import CATALOG, pretrained
from rayscan.errors import ArtifactError, ConfigError
from rayscan.pretrained.cache import find_weights
from rayscan.pretrained.read import read_pretrained
from testing.frozen_net import frozen_net
from tests.unit.pretrained.hub_server import COMMIT, TOKEN, Hub, serving

ROOT = Path(__file__).parents[3]
TINY = "timm/test_vit.r160_in1k"
SMALL = CATALOG["dino-small"]
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def tiny() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_vit.r160_in1k").eval()


@pytest.fixture
def hub(tiny: torch.nn.Module) -> Iterator[Hub]:
    data = save(tiny.state_dict())
    files = {WEIGHTS: data, "config.json": b'{"architecture": "test_vit"}', "README.md": b"words"}
    with serving({TINY: dict(files), str(SMALL.repo): dict(files)}) as hub:
        yield hub


def environment(home: Path, hub: Hub | None, **more: str) -> dict[str, str]:
    """That of this process, without what is set of the hub or a proxy."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and "proxy" not in k.lower()}
    own = {"HF_HOME": str(home / "hf"), "XDG_CACHE_HOME": str(home / "cache"), "PYTHONPATH": str(ROOT)}
    endpoint = {"HF_ENDPOINT": hub.endpoint} if hub is not None else {}
    return kept | own | endpoint | {"HF_HUB_DISABLE_TELEMETRY": "1"} | more


def command(name: str, home: Path, hub: Hub | None, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rayscan", "fetch", name],
        env=environment(home, hub, **more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache of the commands above, for this process too."""
    path = tmp_path / "hf" / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(path))
    return path


def test_a_fetched_network_is_the_one_that_was_served(
    hub: Hub, cache: Path, tmp_path: Path, tiny: torch.nn.Module
) -> None:
    done = command(TINY, tmp_path, hub)
    assert done.returncode == 0, done.stderr
    served = hub.files[TINY][WEIGHTS]
    weights = find_weights(pretrained(TINY))
    assert weights.path.read_bytes() == served
    assert sorted(p.name for p in weights.path.parent.iterdir()) == ["config.json", WEIGHTS]
    lines = {line[2:16].strip(): line[16:].strip() for line in done.stdout.splitlines()[1:]}
    assert (lines["licence"], lines["trained with"]) == ("apache-2.0", "labels of ImageNet")
    assert (lines["revision"], lines["sha256"], lines["file"]) == (COMMIT, weights.sha256, str(weights.path))
    record = json.loads((tmp_path / "cache/rayscan/fetched/timm--test_vit.r160_in1k.json").read_text())
    assert {"licence": "apache-2.0", "sha256": weights.sha256, "revision": COMMIT}.items() <= record.items()

    tensors, facts = read_pretrained(pretrained(TINY))
    net, pictures = frozen_net(json.loads(json.dumps(facts)), tensors)
    tiny.reset_classifier(0)  # type: ignore[operator]
    x = torch.randn(2, 3, pictures.size_px, pictures.size_px)
    assert torch.equal(net(x), tiny(x))
    assert facts["source"] == TINY
    assert (facts["revision"], facts["layout"], facts["left_out"]) == (COMMIT, "timm", ["head"])


def test_fetching_again_downloads_nothing_and_works_offline(hub: Hub, cache: Path, tmp_path: Path) -> None:
    assert command(SMALL.name, tmp_path, hub).returncode == 0
    assert [name for name, _ in hub.gets()] == [WEIGHTS, "config.json"]
    hub.asked.clear()
    again = command(SMALL.name, tmp_path, hub)
    assert again.returncode == 0
    assert hub.gets() == []
    hub.asked.clear()
    offline = command(SMALL.name, tmp_path, hub, HF_HUB_OFFLINE="1")
    assert (offline.returncode, offline.stdout) == (0, again.stdout)
    assert hub.asked == []


def test_a_connection_that_is_cut_is_taken_up_where_it_broke(hub: Hub, cache: Path, tmp_path: Path) -> None:
    """To the 10 MiB that the library reads at once."""
    served = bytes(range(256)) * 100_000
    hub.files[str(SMALL.repo)][WEIGHTS] = served
    hub.cuts.append(15_000_000)
    done = command(SMALL.name, tmp_path, hub)
    assert done.returncode == 0, done.stderr
    assert [part for name, part in hub.gets() if name == WEIGHTS] == [None, f"bytes={10 * 2**20}-"]
    assert find_weights(SMALL).path.read_bytes() == served


def test_half_a_file_is_no_file(hub: Hub, cache: Path, tmp_path: Path) -> None:
    """The command is killed in the middle; the next one downloads a whole file."""
    hub.stalls = True
    running = subprocess.Popen(
        [sys.executable, "-m", "rayscan", "fetch", SMALL.name],
        env=environment(tmp_path, hub),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert hub.stalled.wait(60)
    running.kill()
    running.wait()
    with pytest.raises(ConfigError, match="rayscan fetch dino-small"):
        find_weights(SMALL)
    hub.stalls = False
    assert command(SMALL.name, tmp_path, hub).returncode == 0
    assert find_weights(SMALL).path.read_bytes() == hub.files[str(SMALL.repo)][WEIGHTS]


def test_a_gate_is_explained_and_opened_by_a_token(hub: Hub, cache: Path, tmp_path: Path) -> None:
    hub.gated.add(str(SMALL.repo))
    refused = command(SMALL.name, tmp_path, hub, HF_TOKEN="hf_wrong")
    assert refused.returncode == 2
    assert "accept the licence" in refused.stderr
    assert "HF_TOKEN=... rayscan fetch dino-small" in refused.stderr
    assert "hf_wrong" not in refused.stdout + refused.stderr
    assert command(SMALL.name, tmp_path, hub, HF_TOKEN=TOKEN).returncode == 0
    assert find_weights(SMALL).licence == "apache-2.0"


@pytest.mark.parametrize("token", ["", TOKEN])
def test_an_unknown_repository_is_named(token: str, hub: Hub, tmp_path: Path) -> None:
    """401 to strangers, 404 to those the hub knows."""
    del hub.files[str(SMALL.repo)]
    done = command(SMALL.name, tmp_path, hub, HF_TOKEN=token)
    assert done.returncode == 2
    assert "the hub shows no such repository" in done.stderr
    assert str(SMALL.repo) in done.stderr


def test_older_repositories_have_another_file(hub: Hub, cache: Path, tmp_path: Path) -> None:
    files = hub.files[str(SMALL.repo)]
    files["pytorch_model.bin"] = files.pop(WEIGHTS)
    del files["config.json"]
    assert command(SMALL.name, tmp_path, hub).returncode == 0
    assert find_weights(SMALL).path.name == "pytorch_model.bin"
    del files["pytorch_model.bin"]
    none = command(SMALL.name, tmp_path / "other", hub)
    assert none.returncode == 2
    assert "model.safetensors or pytorch_model.bin" in none.stderr


def test_a_hub_that_is_not_there_or_fails_is_told_at_once(hub: Hub, tmp_path: Path) -> None:
    hub.status = 500
    failed = command(SMALL.name, tmp_path, hub)
    assert failed.returncode == 1
    assert "the hub cannot be reached, or broke off" in failed.stderr
    assert "500" in failed.stderr
    secret = command(SMALL.name, tmp_path, None, HF_ENDPOINT=hub.endpoint.replace("//", "//user:secret@"))
    assert secret.returncode == 1
    assert "secret" not in secret.stdout + secret.stderr
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    refused = command(SMALL.name, tmp_path, None, HF_ENDPOINT=f"http://127.0.0.1:{port}")
    assert refused.returncode == 1
    assert "refused" in refused.stderr
    assert "without a network" in refused.stderr
    assert "--features checkpoint:PATH --pretext.backbone timm/vit_small_patch16_224.dino" in refused.stderr


def test_offline_without_the_file_is_said(hub: Hub, tmp_path: Path) -> None:
    done = command(SMALL.name, tmp_path, hub, HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert "HF_HUB_OFFLINE is set" in done.stderr
    assert hub.asked == []


def test_a_full_disk_is_said(hub: Hub, cache: Path, tmp_path: Path) -> None:
    """A limit on the size of files is the full disk of this test."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)); "
        f"from rayscan.cli import main; sys.exit(main(['fetch', '{SMALL.name}']))"
    )
    assert len(hub.files[str(SMALL.repo)][WEIGHTS]) > 10_000
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(tmp_path, hub),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "there is no room for the weights" in done.stderr
    with pytest.raises(ConfigError):
        find_weights(SMALL)


def test_a_record_that_cannot_be_written_is_said(hub: Hub, cache: Path, tmp_path: Path) -> None:
    """Its folder is a file."""
    (tmp_path / "cache").write_text("")
    done = command(SMALL.name, tmp_path, hub)
    assert done.returncode == 1
    assert "set XDG_CACHE_HOME" in done.stderr
    assert find_weights(SMALL).path.is_file()


def test_a_run_asks_nobody(hub: Hub, tmp_path: Path) -> None:
    """What is not on this machine ends a run with the command to type, and no request."""
    code = (
        "from rayscan.catalog import pretrained; from rayscan.pretrained.read import read_pretrained; "
        f"read_pretrained(pretrained({TINY!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(tmp_path, hub),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "ConfigError" in done.stderr
    assert f"rayscan fetch {TINY}" in done.stderr
    assert hub.asked == []


def test_a_damaged_file_is_refused(hub: Hub, cache: Path, tmp_path: Path) -> None:
    """The cache names a file by its hash, so one changed bit is seen; and one cut off by its header."""
    assert command(SMALL.name, tmp_path, hub).returncode == 0
    blob = find_weights(SMALL).path.resolve()
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(ArtifactError, match="damaged"):
        read_pretrained(SMALL)
    again = command(SMALL.name, tmp_path, hub)
    assert again.returncode == 1
    assert "remove the file, and fetch it again" in again.stderr


def test_weights_of_another_network_are_refused(hub: Hub, cache: Path, tmp_path: Path) -> None:
    """The server's file is no dino-small."""
    assert command(SMALL.name, tmp_path, hub).returncode == 0
    with pytest.raises(ArtifactError, match=r"does not fit the backbone(?s:.)*missing model\.blocks"):
        read_pretrained(SMALL)


def test_position_embeddings_follow_the_size(hub: Hub, cache: Path, tmp_path: Path) -> None:
    assert command(TINY, tmp_path, hub).returncode == 0
    tensors, facts = read_pretrained(pretrained(TINY), 96)
    net, pictures = frozen_net(facts, tensors)
    assert pictures.size_px == 96
    assert net(torch.zeros(1, 3, 96, 96)).shape == (1, net.dim)
