"""What Ray's AWS provider does with cluster.yaml, on a simulated EC2, held against the documented policy."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
PAGE = (ROOT / "docs" / "howto" / "cloud.md").read_text()
POLICIES = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
REGION = CONFIG["provider"]["region"]
NOT_CALLED = {"iam:PassRole", "ec2:CreateTags"}
"""Rights AWS asks for inside of RunInstances: no call of their own in a simulated EC2."""


class Cloud:
    """A simulated account with the network cluster.yaml names, and the calls made to it."""

    def __init__(self) -> None:
        import boto3

        self.calls: set[str] = set()
        self.ec2 = boto3.resource("ec2", region_name=REGION)
        vpc = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")
        self.subnet = vpc.create_subnet(CidrBlock="10.0.0.0/24", AvailabilityZone=f"{REGION}a").id
        self.ec2.meta.client.modify_subnet_attribute(
            SubnetId=self.subnet, MapPublicIpOnLaunch={"Value": not CONFIG["provider"]["use_internal_ips"]}
        )
        self.group = self.ec2.create_security_group(GroupName="g", Description="g", VpcId=vpc.id).id
        self.ec2.create_key_pair(KeyName="rayscan")
        iam = boto3.client("iam", region_name=REGION)
        for name in ("rayscan-head", "rayscan-worker"):
            iam.create_instance_profile(InstanceProfileName=name)
        images = boto3.client("ec2", region_name=REGION).describe_images(Owners=["amazon"])["Images"]
        self.image = images[0]["ImageId"]
        import botocore.client

        self._plain = botocore.client.BaseClient._make_api_call

    def config(self, key: Path) -> dict[str, Any]:
        """cluster.yaml with this account's identities filled in, as `ray up` prepares it."""
        from ray.autoscaler._private.util import prepare_config

        filled = copy.deepcopy(CONFIG)
        filled["auth"]["ssh_private_key"] = str(key)
        for kind in filled["available_node_types"].values():
            machine = {"ImageId": self.image, "SubnetIds": [self.subnet], "SecurityGroupIds": [self.group]}
            kind["node_config"] |= machine
        return prepare_config(filled)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with mock_aws():
        import botocore.client

        made = Cloud()

        def recorded(client: Any, operation: str, arguments: Any) -> Any:
            made.calls.add(f"{client.meta.service_model.service_name}:{operation}")
            return made._plain(client, operation, arguments)

        monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", recorded)
        yield made


def test_ray_up_starts_what_the_file_says_with_the_rights_the_page_gives(
    cloud: Cloud, tmp_path: Path
) -> None:
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    key = tmp_path / "rayscan.pem"
    key.touch()
    filled = AWSNodeProvider.fillout_available_node_types_resources(cloud.config(key))
    whole = AWSNodeProvider.bootstrap_config(filled)
    types = whole["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0
    assert types["gpu"]["resources"]["GPU"] == 4, "the named machine has what the file says"
    provider = AWSNodeProvider(whole["provider"], whole["cluster_name"])
    for name in types:
        tags = {"ray-node-kind": "worker", "ray-user-node-type": name, "ray-node-name": f"ray-rayscan-{name}"}
        assert provider.create_node(types[name]["node_config"], tags, 1)
    running = {tag_of(i, "ray-user-node-type"): i for i in cloud.ec2.instances.all()}
    assert set(running) == set(CONFIG["available_node_types"])
    for name, instance in running.items():
        assert instance.instance_type == CONFIG["available_node_types"][name]["node_config"]["InstanceType"]
        assert (instance.instance_lifecycle == "spot") == name.endswith("_spot")
        assert tag_of(instance, "ray-cluster-name") == "rayscan"
        wanted = "rayscan-head" if name == "head" else "rayscan-worker"
        assert instance.iam_instance_profile["Arn"].endswith(f"/{wanted}")
        assert [g["GroupId"] for g in instance.security_groups] == [cloud.group]
    nodes = provider.non_terminated_nodes({})
    assert len(nodes) == len(running)
    provider.terminate_nodes(nodes)
    assert {i.state["Name"] for i in cloud.ec2.instances.all()} <= {"shutting-down", "terminated"}
    allowed = {action for statement in POLICIES[1]["Statement"] for action in listed(statement["Action"])}
    assert cloud.calls <= allowed, "the page gives too few rights"
    assert allowed - NOT_CALLED <= cloud.calls, "the page gives more rights than are used"


def test_rights_to_change_anything_are_bound_to_the_cluster() -> None:
    for statement in POLICIES[1]["Statement"]:
        if statement["Sid"] not in ("Look", "StartFrom"):
            assert statement["Condition"], statement["Sid"]
            assert statement["Resource"] != "*"
    storage = [listed(statement["Resource"]) for statement in POLICIES[0]["Statement"]]
    assert all(resource.startswith("arn:aws:s3:::BUCKET") for group in storage for resource in group)


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def tag_of(instance: Any, key: str) -> str | None:
    return next((tag["Value"] for tag in instance.tags if tag["Key"] == key), None)
