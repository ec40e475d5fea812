"""Structure of jobs/kuberay/rayjob.yaml and of the Dockerfile whose image it runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayscan.sections import Section

ROOT = Path(__file__).parents[2]
JOB: dict[str, Any] = yaml.safe_load((ROOT / "jobs" / "kuberay" / "rayjob.yaml").read_text())
CLUSTER: dict[str, Any] = JOB["spec"]["rayClusterSpec"]
GROUPS: list[dict[str, Any]] = [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]
LOCK = (ROOT / "requirements.lock").read_text()


def pod(group: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = group["template"]["spec"]
    return spec


def test_it_is_a_job_that_takes_its_cluster_away() -> None:
    assert (JOB["apiVersion"], JOB["kind"]) == ("ray.io/v1", "RayJob")
    assert JOB["spec"]["shutdownAfterJobFinishes"] is True
    assert JOB["spec"]["ttlSecondsAfterFinished"] > 0
    assert JOB["spec"]["submissionMode"] in ("K8sJobMode", "HTTPMode", "SidecarMode")


def test_it_runs_a_command_whose_settings_exist() -> None:
    words = shlex.split(JOB["spec"]["entrypoint"])
    assert words[:3] == ["python", "-m", "rayscan.full_imagenet"]
    from rayscan.recipes import by_name

    recipe = by_name("imagenet")
    for flag in (w[2:] for w in words if w.startswith("--") and "." in w):
        section, key = flag.replace("-", "_").split(".")
        found = getattr(recipe, section)
        assert isinstance(found, Section)
        assert hasattr(found, key), flag
    assert {"--data", "--out"} <= set(words)


def test_it_grows_and_shrinks() -> None:
    assert CLUSTER["enableInTreeAutoscaling"] is True
    assert CLUSTER["autoscalerOptions"]["version"] == "v2"
    assert CLUSTER["autoscalerOptions"]["idleTimeoutSeconds"] > 0
    for group in CLUSTER["workerGroupSpecs"]:
        assert 0 == group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    gpus = [g for g in CLUSTER["workerGroupSpecs"] if "nvidia.com/gpu" in str(g)]
    assert len(gpus) == 1
    assert len(CLUSTER["workerGroupSpecs"]) == 2


def test_the_workers_it_asks_for_fit() -> None:
    words = shlex.split(JOB["spec"]["entrypoint"])
    asked = float(words[words.index("--fleet.num-workers") + 1])
    limits = [(g["maxReplicas"], pod(g)["containers"][0]["resources"]["limits"])
              for g in CLUSTER["workerGroupSpecs"]]  # fmt: skip
    assert sum(n * int(limit.get("nvidia.com/gpu", 0)) for n, limit in limits) >= asked


@pytest.mark.parametrize("group", GROUPS, ids=lambda g: g.get("groupName", "head"))
def test_every_pod_runs_the_same_image_as_nobody(group: dict[str, Any]) -> None:
    spec = pod(group)
    (container,) = spec["containers"]
    assert container["image"] == pod(GROUPS[0])["containers"][0]["image"]
    assert container["resources"]["limits"] == container["resources"]["requests"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
    volumes = {v["name"]: v["emptyDir"]["medium"] for v in spec["volumes"]}
    assert mounts["shm"] == "/dev/shm"
    assert volumes["shm"] == "Memory"


def test_it_demands_a_token_and_the_ray_of_the_lock() -> None:
    assert CLUSTER["authOptions"] == {"mode": "token"}
    locked = re.search(r"^ray(?:\[[^]]*\])?==(\S+)", LOCK, flags=re.MULTILINE)
    assert locked is not None
    assert CLUSTER["rayVersion"] == locked[1]


def test_the_image_is_built_from_files_that_are_there() -> None:
    docker = (ROOT / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (\S+) ", docker, flags=re.MULTILINE)
    assert copied == ["requirements.lock", "dist/rayscan-*.whl"]
    assert (ROOT / "requirements.lock").is_file()
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert allowed == ["*", "!requirements.lock", "!dist/*.whl"]
    assert "--require-hashes" in docker
    users = re.findall(r"^USER (\S+)", docker, flags=re.MULTILINE)
    assert users == ["1000"]
    version = re.search(r"^FROM python:(\d+)\.(\d+)", docker, flags=re.MULTILINE)
    assert version is not None
    assert (3, 11) <= (int(version[1]), int(version[2])) < (3, 14)
