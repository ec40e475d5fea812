"""cluster.yaml by Ray's own schema and defaults, without a cloud; Ray is imported, not started."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
TYPES: dict[str, Any] = CONFIG["available_node_types"]
WORKERS = {name: kind for name, kind in TYPES.items() if name != CONFIG["head_node_type"]}


def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` makes of a file before it asks the cloud, checked as it checks it."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    whole = prepare_config(copy.deepcopy(config))
    validate_config(whole)
    return whole


def test_ray_takes_it() -> None:
    whole = prepared(CONFIG)
    assert whole["provider"]["type"] == "aws"
    assert whole["available_node_types"]["gpu_spot"]["max_workers"] == 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"idle_timeout": 5},
        {"max_workers": "many"},
        {"head_node_type": "captain"},
        {"available_node_types": {**TYPES, "cpu": {"node_config": {}}}},
        {"available_node_types": {**TYPES, "cpu": {**TYPES["cpu"], "min_workers": 99}}},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_ray_refuses_what_is_wrong(wrong: dict[str, Any]) -> None:
    """The check above is not blind."""
    from jsonschema import ValidationError

    with pytest.raises((ValidationError, ValueError)):
        prepared({**CONFIG, **wrong})


def test_the_head_computes_nothing_and_the_others_come_when_needed() -> None:
    assert TYPES["head"]["resources"]["CPU"] == 0
    assert "--num-cpus=0" in start_of("head")
    for name, kind in WORKERS.items():
        assert kind["min_workers"] == 0, name
        assert 0 < kind["max_workers"] <= CONFIG["max_workers"], name
    assert sum(kind["max_workers"] for kind in WORKERS.values()) <= CONFIG["max_workers"]
    assert CONFIG["idle_timeout_minutes"] > 0


@pytest.mark.parametrize("resource", ["CPU", "GPU"])
def test_there_is_spot_and_on_demand_and_spot_goes_first(resource: str) -> None:
    having = [kind for kind in WORKERS.values() if ("GPU" in kind["resources"]) == (resource == "GPU")]
    spot = [k for k in having if "InstanceMarketOptions" in k["node_config"]]
    steady = [k for k in having if k not in spot]
    assert spot and steady
    assert min(k["priority"] for k in spot) > max(k["priority"] for k in steady)


def start_of(kind: str) -> str:
    return next(c for c in CONFIG[f"{kind}_start_ray_commands"] if "ray start" in c)


def test_nobody_talks_to_it_without_the_token() -> None:
    for kind in ("head", "worker"):
        assert "RAY_AUTH_MODE=token" in start_of(kind), kind
    assert "--dashboard-host=127.0.0.1" in start_of("head")
    assert any("chmod 600 ~/.ray/auth_token" in c for c in CONFIG["setup_commands"])
    assert CONFIG["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/rayscan.token"


def test_a_node_has_a_role_of_its_own_kind_and_hides_it() -> None:
    profiles = {name: kind["node_config"]["IamInstanceProfile"]["Name"] for name, kind in TYPES.items()}
    assert profiles.pop("head") == "rayscan-head"
    assert set(profiles.values()) == {"rayscan-worker"}
    for name, kind in TYPES.items():
        assert kind["node_config"]["MetadataOptions"]["HttpTokens"] == "required", name
        assert kind["node_config"]["SecurityGroupIds"], f"{name}: Ray's own group lets the world reach SSH"


def test_every_node_installs_the_lock_and_the_wheel_and_nothing_else() -> None:
    assert CONFIG["file_mounts"]["/home/ubuntu/rayscan/dist"] == "dist"
    installs = [c.partition(" install ")[2] for c in CONFIG["setup_commands"] if "pip install" in c]
    assert installs == [
        "--quiet --require-hashes -r ~/rayscan/dist/requirements.lock",
        "--quiet --no-deps --force-reinstall ~/rayscan/dist/rayscan-*.whl",
    ]
