"""What a cluster's machines may do in an AWS account: IAM's statements, as data. What none of them allows is denied.

IAM can't count: it limits which machines may be started, not how many. A service quota does, or a budget's alarm.
"""

import json
from dataclasses import dataclass
from typing import Any

from duel.errors import UsageError

Config = dict[str, Any]
Statement = dict[str, Any]
FOLDER = "duel"  # in the bucket: the machines may touch nothing outside of it
TAG = "ray-cluster-name"  # Ray gives it to every machine at its launch, and finds the machines by it
SSM = "resolve:ssm:"  # in place of an image's ID: a parameter that holds it
PUBLIC = "/aws/service/"  # AWS's own parameters
TRUST = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}


@dataclass(frozen=True)
class Home:
    """A cluster's place: what its machines' policies are limited to. group: the security group's ID."""

    cluster: str
    account: str
    region: str
    bucket: str
    vpc: str
    group: str
    partition: str = "aws"

    def arn(self, service: str, resource: str, region: str | None = None, account: str | None = None) -> str:
        """A resource's name in the cluster's region and account, unless others are given."""
        region = self.region if region is None else region
        return f"arn:{self.partition}:{service}:{region}:{self.account if account is None else account}:{resource}"

    @property
    def head(self) -> str:
        """The name of the head's role and instance profile."""
        return f"{self.cluster}-head"

    @property
    def worker(self) -> str:
        """The same of the workers'."""
        return f"{self.cluster}-worker"


def document(*statements: Statement) -> str:
    """A policy as IAM takes it."""
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def storage(home: Home) -> list[Statement]:
    """The run's folder in the bucket: for every machine."""
    bucket = home.arn("s3", home.bucket, region="", account="")
    objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    ours = {"aws:ResourceAccount": home.account}  # should somebody else come to own a bucket of this name
    # S3 takes a missing object's key for the prefix, too: it says 404 where this allows, else 403.
    inside: Config = {"StringLike": {"s3:prefix": [FOLDER, f"{FOLDER}/*"]}, "StringEquals": ours}
    return [
        _allow(["s3:ListBucket"], bucket, **inside),
        _allow(objects, f"{bucket}/{FOLDER}/*", StringEquals=ours),
    ]


def machines(home: Home, workers: list[Config]) -> list[Statement]:
    """What Ray's autoscaler does on the head: it starts machines as the file's workers, tags, sees and ends them.

    workers: each worker type's node_config. UsageError where one leaves open what a worker is.
    """
    own = {f"ec2:ResourceTag/{TAG}": home.cluster}
    instances = home.arn("ec2", "instance/*")
    role = home.arn("iam", f"role/{home.worker}", region="")
    return [
        _allow(["ec2:DescribeInstances"], "*", StringEquals={"ec2:Region": home.region}),
        *_launch(home, workers),
        *_tags(home, workers),
        _allow(["ec2:TerminateInstances"], instances, StringEquals=own),
        _allow(["iam:PassRole"], role, StringEquals={"iam:PassedToService": "ec2.amazonaws.com"}),
    ]


def _allow(actions: list[str], resources: str | list[str], **conditions: dict[str, Any]) -> Statement:
    statement = {"Effect": "Allow", "Action": actions, "Resource": resources}
    return {**statement, "Condition": conditions} if conditions else statement


def _launch(home: Home, workers: list[Config]) -> list[Statement]:
    """RunInstances is asked about every resource that it makes or uses, and each kind knows conditions of its own."""
    types = sorted(_said(workers, "InstanceType"))
    profile = home.arn("iam", f"instance-profile/{home.worker}", region="")
    as_worker = {"ec2:InstanceType": types, f"aws:RequestTag/{TAG}": home.cluster}
    # Not this account's own images and snapshots, whose data a machine would lay open, but those that the file names.
    others = [home.arn("ec2", f"{kind}/*", account="") for kind in ("image", "snapshot")]
    images, parameters = _images(home, workers)
    used = [home.arn("ec2", f"{kind}/*") for kind in ("network-interface", "key-pair", "spot-instances-request")]
    used += [home.arn("ec2", f"security-group/{home.group}"), *images]
    run = ["ec2:RunInstances"]
    statements = [
        _allow(run, home.arn("ec2", "instance/*"), StringEquals=as_worker, ArnEquals={"ec2:InstanceProfile": profile}),
        _allow(run, home.arn("ec2", "volume/*"), **_disks(workers)),
        _allow(run, home.arn("ec2", "subnet/*"), ArnEquals={"ec2:Vpc": home.arn("ec2", f"vpc/{home.vpc}")}),
        _allow(run, others, StringNotEquals={"ec2:Owner": home.account}),
        _allow(run, used),
    ]
    return [*statements, _allow(["ssm:GetParameters"], parameters)] if parameters else statements


def _said(workers: list[Config], key: str) -> set[str]:
    """What the workers' node_config says under a key; UsageError where it is silent."""
    if not workers or any(not isinstance(node.get(key), str) for node in workers):
        raise UsageError(f"node_config.{key}: there must be a worker, and every one must say it")
    return {node[key] for node in workers}


def _disks(workers: list[Config]) -> dict[str, dict[str, Any]]:
    disks = [disk.get("Ebs", {}) for node in workers for disk in node.get("BlockDeviceMappings") or [{}]]
    for key in ("VolumeSize", "VolumeType"):
        if any(key not in disk for disk in disks):
            raise UsageError(f"node_config.BlockDeviceMappings: every worker's Ebs must say its {key}")
    kinds = sorted({disk["VolumeType"] for disk in disks})
    return {
        "NumericLessThanEquals": {"ec2:VolumeSize": str(max(disk["VolumeSize"] for disk in disks))},
        "StringEquals": {"ec2:VolumeType": kinds},
    }


def _images(home: Home, workers: list[Config]) -> tuple[list[str], list[str]]:
    """The images that the file names by ID, and the parameters that hold the others' IDs."""
    named = sorted(_said(workers, "ImageId"))
    held = [name.removeprefix(SSM).split(":")[0] for name in named if name.startswith(SSM)]
    for name in held:
        if not name.startswith(PUBLIC):
            raise UsageError(
                f"node_config.ImageId: a parameter must be AWS's own ({SSM}{PUBLIC}...); for an image of yours, "
                f"give its ID, ami-...; got {name!r}"
            )
    images = [home.arn("ec2", f"image/{name}", account="") for name in named if not name.startswith(SSM)]
    # AWS's own parameters belong to no account.
    return images, [home.arn("ssm", f"parameter{name}", account="*") for name in held]


def _tags(home: Home, workers: list[Config]) -> list[Statement]:
    """At launch; afterwards on the cluster's own machines, but never the tag that makes them its own."""
    instances, tag = home.arn("ec2", "instance/*"), ["ec2:CreateTags"]
    specified = [spec for node in workers for spec in node.get("TagSpecifications") or []]
    keys = sorted({"ray-*", "Name", *(pair["Key"] for spec in specified for pair in spec["Tags"])})
    launch = {"ec2:CreateAction": "RunInstances", f"aws:RequestTag/{TAG}": home.cluster}
    known = {"ForAllValues:StringLike": {"aws:TagKeys": keys}}
    own: Config = {"StringEquals": {f"ec2:ResourceTag/{TAG}": home.cluster}, "Null": {f"aws:RequestTag/{TAG}": "true"}}
    return [_allow(tag, instances, StringEquals=launch, **known), _allow(tag, instances, **own, **known)]
