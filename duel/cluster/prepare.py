"""What cluster.yaml wants of an AWS account, made once: a closed security group, roles that may do little, a bucket.

Each part is made where it is missing and mended where it differs, so that it can be run again.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from duel.cluster.check import PLACEHOLDER, filled_in, network
from duel.errors import DuelError, UsageError

GROUP, HEAD, WORKER = "duel", "duel-head", "duel-worker"
FOLDER = "duel"  # in the bucket: the machines may touch nothing outside of it
KINDS = {"IpRanges": "CidrIp", "Ipv6Ranges": "CidrIpv6", "UserIdGroupPairs": "GroupId", "PrefixListIds": "PrefixListId"}
Say = Callable[[str], None]


def prepare(config: dict[str, Any], vpc: str | None, say: Say) -> str:
    """Make what the file's metadata.fill_in asks for in the account of this machine's AWS credentials.

    config: the settings of cluster.yaml. vpc: the group's, else the region's default. Returns the group's ID.
    UsageError for values that are none, DuelError for what AWS refuses.
    """
    values = filled_in(config)
    if missing := {"ssh_from", "bucket", "security_group"} - set(values):
        raise UsageError(f"metadata.fill_in: {', '.join(sorted(missing))} missing; cluster.yaml has them")
    ssh_from, bucket = network(values["ssh_from"]), _bucket_name(values["bucket"])
    session = boto3.Session(region_name=config["provider"]["region"])
    try:
        _bucket(session, bucket, say)
        _roles(session.client("iam"), bucket, config["cluster_name"], say)
        return _group(session.client("ec2"), ssh_from, vpc, say)
    except (ClientError, BotoCoreError) as error:
        raise DuelError(f"AWS refuses: {error}") from None


def _bucket_name(text: Any) -> str:
    if not isinstance(text, str) or PLACEHOLDER in text or "/" in text or not text:
        raise UsageError(f"metadata.fill_in.bucket: must be the name of an S3 bucket, got {text!r}")
    return text


def _bucket(session: Any, name: str, say: Say) -> None:
    """A private bucket; one that is there already stays as it is."""
    s3 = session.client("s3")
    try:
        s3.head_bucket(Bucket=name)
        say(f"bucket {name}: there already, left as it is")
        return
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise
    region = session.region_name
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=name, **place)
    closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=dict.fromkeys(closed, True))
    say(f"bucket {name}: made, closed to the public")


def _roles(iam: Any, bucket: str, cluster: str, say: Say) -> None:
    """The workers' role and the head's, each with an instance profile of the same name."""
    worker = _role(iam, WORKER, _storage(bucket), say)
    _role(iam, HEAD, [*_storage(bucket), *_machines(worker, cluster)], say)
    # There already: AWS says the first, moto the second.
    with suppress(iam.exceptions.InvalidInputException, iam.exceptions.EntityAlreadyExistsException):
        iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com")


def _role(iam: Any, name: str, statements: list[dict[str, Any]], say: Say) -> str:
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    with suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=_policy([trust]))
    iam.put_role_policy(RoleName=name, PolicyName=GROUP, PolicyDocument=_policy(statements))
    with suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_instance_profile(InstanceProfileName=name)
    with suppress(iam.exceptions.LimitExceededException):  # a profile holds one role, and it has it
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    say(f"role and instance profile {name}: may {', '.join(a for s in statements for a in s['Action'])}")
    return iam.get_role(RoleName=name)["Role"]["Arn"]


def _policy(statements: list[dict[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def _storage(bucket: str) -> list[dict[str, Any]]:
    objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    return [
        {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": f"arn:aws:s3:::{bucket}"},
        {"Effect": "Allow", "Action": objects, "Resource": f"arn:aws:s3:::{bucket}/{FOLDER}/*"},
    ]


def _machines(worker: str, cluster: str) -> list[dict[str, Any]]:
    """What Ray's autoscaler does on the head: start machines as workers, and end those of this cluster."""
    own = {"StringEquals": {"ec2:ResourceTag/ray-cluster-name": cluster}}
    start = ["ec2:DescribeInstances", "ec2:RunInstances", "ec2:CreateTags", "ssm:GetParameters"]
    return [
        {"Effect": "Allow", "Action": start, "Resource": "*"},
        {"Effect": "Allow", "Action": ["ec2:TerminateInstances"], "Resource": "*", "Condition": own},
        {"Effect": "Allow", "Action": ["iam:PassRole"], "Resource": worker},
    ]


def _group(ec2: Any, ssh_from: str, vpc: str | None, say: Say) -> str:
    """A group whose machines reach each other, and nobody else but SSH from one network."""
    vpc = vpc or _default_vpc(ec2)
    same = [{"Name": "group-name", "Values": [GROUP]}, {"Name": "vpc-id", "Values": [vpc]}]
    found = ec2.describe_security_groups(Filters=same)["SecurityGroups"]
    known = found[0] if found else ec2.create_security_group(GroupName=GROUP, Description="duel", VpcId=vpc)
    group = known["GroupId"]
    have = {source for rule in known.get("IpPermissions", []) for source in _sources(rule)}
    ssh = Source("tcp", (22, 22), "Ipv6Ranges" if ":" in ssh_from else "IpRanges", ssh_from)
    wanted = {ssh, Source("-1", None, "UserIdGroupPairs", group)}
    for source in have - wanted:
        ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[source.rule()])
        say(f"security group {GROUP} ({group}): no longer open to {source.value}")
    for source in wanted - have:
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[source.rule()])
    say(f"security group {GROUP} ({group}): SSH from {ssh_from}, all else between its own machines")
    return group


def _default_vpc(ec2: Any) -> str:
    found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not found:
        raise DuelError("this region has no default VPC; name one with --vpc, or: aws ec2 create-default-vpc")
    return found[0]["VpcId"]


@dataclass(frozen=True)
class Source:
    """Who may reach which ports: one part of an EC2 rule, which may hold many of them."""

    protocol: str
    ports: tuple[int, int] | None
    kind: str
    value: str

    def rule(self) -> dict[str, Any]:
        """As EC2's requests have it."""
        ports = dict(zip(("FromPort", "ToPort"), self.ports, strict=True)) if self.ports else {}
        return {"IpProtocol": self.protocol, **ports, self.kind: [{KINDS[self.kind]: self.value}]}


def _sources(rule: dict[str, Any]) -> list[Source]:
    ports = (rule["FromPort"], rule["ToPort"]) if "FromPort" in rule and rule["IpProtocol"] != "-1" else None
    return [
        Source(rule["IpProtocol"], ports, kind, part[key]) for kind, key in KINDS.items() for part in rule.get(kind, [])
    ]
