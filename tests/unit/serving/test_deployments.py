"""Structure of jobs/serve.yaml and jobs/kuberay/rayservice.yaml: their arguments exist, nothing is open."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayscan.config.serve import ServeConfig
from rayscan.errors import ConfigError
from rayscan.serving.token import LEAST_TOKEN, new_token, read_token

ROOT = Path(__file__).parents[3]
SERVE: dict[str, Any] = yaml.safe_load((ROOT / "jobs" / "serve.yaml").read_text())
SERVICE: dict[str, Any] = yaml.safe_load((ROOT / "jobs" / "kuberay" / "rayservice.yaml").read_text())
INNER: dict[str, Any] = yaml.safe_load(SERVICE["spec"]["serveConfigV2"])
GROUPS = [SERVICE["spec"]["rayClusterConfig"]["headGroupSpec"],
          *SERVICE["spec"]["rayClusterConfig"]["workerGroupSpecs"]]  # fmt: skip


@pytest.mark.parametrize("config", [SERVE, INNER], ids=["serve.yaml", "rayservice.yaml"])
def test_the_arguments_are_those_of_the_builder(config: dict[str, Any]) -> None:
    (application,) = config["applications"]
    assert application["import_path"] == "rayscan.serving.application:build"
    args = dict(application["args"])
    own = [args.pop(name) for name in ("run", "token_file", "allow_store")]
    assert all(own[:2])
    assert own[2] == []
    assert args.keys() <= {field.name for field in fields(ServeConfig)}
    assert ServeConfig(**args).max_replicas > 1


def test_a_cluster_listens_on_loopback_unless_told() -> None:
    assert SERVE["http_options"]["host"] == "127.0.0.1"


def test_the_service_of_kubernetes_is_of_one_image_as_nobody_with_the_token_as_a_secret() -> None:
    assert (SERVICE["apiVersion"], SERVICE["kind"]) == ("ray.io/v1", "RayService")
    cluster = SERVICE["spec"]["rayClusterConfig"]
    assert cluster["authOptions"] == {"mode": "token"}
    lock = (ROOT / "requirements.lock").read_text()
    assert cluster["rayVersion"] == re.search(r"^ray(?:\[[^]]*\])?==(\S+)", lock, flags=re.MULTILINE)[1]
    for group in GROUPS:
        spec = group["template"]["spec"]
        (container,) = spec["containers"]
        assert container["image"] == GROUPS[0]["template"]["spec"]["containers"][0]["image"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        folder = INNER["applications"][0]["args"]["token_file"].rpartition("/")[0]
        assert mounts["token"] == folder
        assert "secret" in next(volume for volume in spec["volumes"] if volume["name"] == "token")
    args = INNER["applications"][0]["args"]
    for group in cluster["workerGroupSpecs"]:
        limit = group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"]
        assert int(limit) >= args["threads"]


def test_a_token_is_read_without_its_line_end_and_refused_if_it_can_be_guessed(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = new_token()
    assert len(token) >= 2 * LEAST_TOKEN
    assert token != new_token()
    path.write_text(token + "\n")
    assert read_token(str(path)) == token
    for text in ("", "short", "x" * 10 + " " + "y" * 10):
        path.write_text(text)
        with pytest.raises(ConfigError, match="token"):
            read_token(str(path))
    with pytest.raises(ConfigError, match="token"):
        read_token(str(tmp_path / "none"))
