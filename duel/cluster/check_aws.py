"""What is wrong with a cluster file for AWS: open machines, missing rights, machines that would never end."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from duel.cluster.file import PLACEHOLDER, Config, cluster_name, filled_in, nodes
from duel.cluster.network import network
from duel.errors import UsageError


def ssh_from(config: Config, folder: Path) -> Iterator[str]:
    """Who reaches SSH."""
    text = str(filled_in(config).get("ssh_from", PLACEHOLDER))
    if PLACEHOLDER not in text:
        try:
            network(text)
        except UsageError as error:
            yield f"metadata.fill_in.ssh_from: {error}"


def machines_are_closed(config: Config, folder: Path) -> Iterator[str]:
    """Ports, keys and disks."""
    if "security_group" in config["provider"]:
        yield "provider.security_group: Ray opens SSH to the world in a group that it fills; use SecurityGroupIds"
    for key, kind, _ in nodes(config):
        node, at = kind["node_config"], f"{key}.node_config"
        if not node.get("SecurityGroupIds"):
            yield f"{at}.SecurityGroupIds: missing; Ray would make a group whose SSH is open to the world"
        tokens = (node.get("MetadataOptions") or {}).get("HttpTokens")
        if tokens != "required":
            yield f"{at}.MetadataOptions.HttpTokens: must be required (IMDSv2), got {tokens!r}"
        disks = node.get("BlockDeviceMappings") or []
        if not disks:
            yield f"{at}.BlockDeviceMappings: missing; the image's disk is small and not encrypted"
        for number, disk in enumerate(disks):
            for name in ("Encrypted", "DeleteOnTermination"):
                if (got := disk.get("Ebs", {}).get(name)) is not True:
                    yield f"{at}.BlockDeviceMappings[{number}].Ebs.{name}: must be true, got {got!r}"


def profiles(config: Config, folder: Path) -> Iterator[str]:
    """The roles that `prepare` makes, which are named after the cluster: two clusters may differ in theirs."""
    try:
        name = cluster_name(config)
    except UsageError as error:
        yield str(error)
        return
    for key, kind, is_head in nodes(config):
        at, profile = f"{key}.node_config.IamInstanceProfile", kind["node_config"].get("IamInstanceProfile")
        wanted = {"Name": f"{name}-{'head' if is_head else 'worker'}"}
        if not profile:
            what = (
                "Ray would give the head full access to EC2 and S3" if is_head else "workers could not reach --storage"
            )
            yield f"{at}: missing; {what}"
        elif filled_in(config) and profile != wanted:
            yield f"{at}: must be the role that `prepare` makes for cluster_name {name}, {wanted}, got {profile!r}"


def markets(config: Config, folder: Path) -> Iterator[str]:
    """A head that stays and workers that can come."""
    workers = 0
    for key, kind, is_head in nodes(config):
        market = kind["node_config"].get("InstanceMarketOptions")
        if is_head and market:
            yield f"{key}.node_config.InstanceMarketOptions: the head must be on demand: the run ends with it"
        if not is_head:
            workers += min(kind.get("max_workers", config.get("max_workers", 2)), config.get("max_workers", 2))
            if not any(kind.get("resources", {}).values()):
                yield f"{key}.resources: nothing fits on such a worker; say its CPUs and GPUs"
    if not workers:
        yield "max_workers: no worker can ever come, so no trial would run"
    if config["provider"].get("cache_stopped_nodes", True):
        yield "provider.cache_stopped_nodes: must be false: stopped machines keep paid disks and old code"


def orphans_end(config: Config, folder: Path) -> Iterator[str]:
    """A worker whose head is gone has nobody else to end it, and would be paid for until somebody looks."""
    for key, kind, is_head in nodes(config):
        node, at = kind["node_config"], f"{key}.node_config"
        if is_head:
            continue
        behavior = node.get("InstanceInitiatedShutdownBehavior")
        if behavior != "terminate":
            yield f"{at}.InstanceInitiatedShutdownBehavior: must be terminate, got {behavior!r}"
        if not all(word in str(node.get("UserData")) for word in ("raylet", "shutdown")):
            yield f"{at}.UserData: must shut the machine down when no raylet runs on it; cluster.yaml has the lines"


@cache
def _run_instances() -> Any:
    """What EC2's request for machines may hold; reading the description takes a second."""
    from botocore.session import get_session

    return get_session().get_service_model("ec2").operation_model("RunInstances").input_shape


def requests(config: Config, folder: Path) -> Iterator[str]:
    """What EC2 would say to the keys and types of node_config, from the description that boto3 holds."""
    try:
        from botocore.validate import ParamValidator

        request = _run_instances()
    except ImportError:
        yield "provider.type: `ray up` on AWS needs boto3 on this machine: pip install -c constraints.txt boto3"
        return
    for key, kind, _ in nodes(config):
        node = {name: value for name, value in kind["node_config"].items() if name != "SubnetIds"}  # Ray's own
        report = ParamValidator().validate({**node, "MinCount": 1, "MaxCount": 1}, request)
        for line in report.generate_report().splitlines():
            yield f"{key}.node_config: {line.split(', must be one of')[0].split(', valid types')[0]}"
