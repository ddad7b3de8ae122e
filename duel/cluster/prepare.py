"""What cluster.yaml wants of an AWS account, made once: a closed security group, roles that may do little, a bucket.

Each part is made where it is missing and mended where it differs, so that it can be run again. What is there under the
same name and was not made for this cluster is refused before anything is changed.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from duel.cluster import policies, roles
from duel.cluster.file import Config, cluster_name, filled_in, nodes
from duel.cluster.network import network
from duel.cluster.policies import Home
from duel.cluster.roles import Say
from duel.errors import DuelError, UsageError

DESCRIPTION = "duel"  # of the security group: by it `prepare` knows its own
KINDS = {"IpRanges": "CidrIp", "Ipv6Ranges": "CidrIpv6", "UserIdGroupPairs": "GroupId", "PrefixListIds": "PrefixListId"}
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
CLOSED = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)


def prepare(config: Config, vpc: str | None, say: Say) -> str:
    """Make what the file's metadata.fill_in asks for in the account of this machine's AWS credentials.

    config: the settings of cluster.yaml. vpc: the group's, else the region's default. Returns the group's ID.
    UsageError for values that are none, DuelError for what AWS refuses and for what is there and not this cluster's.
    """
    ssh_from, bucket = _values(config)
    session = boto3.Session(region_name=config["provider"]["region"])
    try:
        ec2, iam, s3 = (session.client(service) for service in ("ec2", "iam", "s3"))
        home = _home(session, cluster_name(config), bucket, vpc or _default_vpc(ec2))
        workers = [kind["node_config"] for _, kind, is_head in nodes(config) if not is_head]
        policies.machines(home, workers)  # what is wrong with the file is told before anything is made
        there = _is_there(s3, home, say)
        for name in (home.head, home.worker):
            roles.refuse_foreign(iam, name, home.region)
        known = _known_group(ec2, home)
        if not there:
            _make_bucket(s3, home, say)
        home = replace(home, group=_group(ec2, known, home, ssh_from, say))
        roles.make(iam, home, policies.storage(home), policies.machines(home, workers), say)
        return home.group
    except (ClientError, BotoCoreError) as error:
        raise DuelError(f"AWS refuses: {error}") from None


def _values(config: Config) -> tuple[str, str]:
    """The network that SSH is open to, and the bucket."""
    values = filled_in(config)
    if missing := {"ssh_from", "bucket", "security_group"} - set(values):
        raise UsageError(f"metadata.fill_in: {', '.join(sorted(missing))} missing; cluster.yaml has them")
    if not isinstance(region := config["provider"].get("region"), str):
        raise UsageError(f"provider.region: must be a region of AWS's, as us-west-2, got {region!r}")
    try:
        ssh_from = network(values["ssh_from"])
    except UsageError as error:
        raise UsageError(f"metadata.fill_in.ssh_from: {error}") from None
    bucket = values["bucket"]
    if not isinstance(bucket, str) or not BUCKET.fullmatch(bucket):
        raise UsageError(f"metadata.fill_in.bucket: must be the name of an S3 bucket, got {bucket!r}")
    return ssh_from, bucket


def _home(session: Any, cluster: str, bucket: str, vpc: str) -> Home:
    """Where the cluster is to live; its group is still to be made."""
    me = session.client("sts").get_caller_identity()
    return Home(cluster, me["Account"], session.region_name, bucket, vpc, "", me["Arn"].split(":")[1])


def _is_there(s3: Any, home: Home, say: Say) -> bool:
    """Whether there is such a bucket of this account. DuelError for somebody else's, and for one that may be open."""
    try:
        found = s3.head_bucket(Bucket=home.bucket, ExpectedBucketOwner=home.account)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in ("404", "NoSuchBucket"):
            return False
        if code == "403":
            raise DuelError(f"bucket {home.bucket}: not of your account, {home.account}; choose another") from None
        raise
    if open_by := _open_by(s3, home):
        raise DuelError(
            f"bucket {home.bucket}: it could be open to the public, as {', '.join(open_by)} are off; close it by "
            f"`aws s3api put-public-access-block`, or choose another"
        )
    where = found.get("BucketRegion", home.region)
    far = f"; it lies in {where}, the machines in {home.region}: traffic between is paid for" * (where != home.region)
    say(f"bucket {home.bucket}: there already, yours and closed to the public, left as it is{far}")
    return True


def _open_by(s3: Any, home: Home) -> list[str]:
    """Which of the four locks against the public are off."""
    try:
        block = s3.get_public_access_block(Bucket=home.bucket, ExpectedBucketOwner=home.account)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchPublicAccessBlockConfiguration":
            raise
        return list(CLOSED)
    return [lock for lock in CLOSED if not block["PublicAccessBlockConfiguration"].get(lock)]


def _make_bucket(s3: Any, home: Home, say: Say) -> None:
    place = {} if home.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": home.region}}
    s3.create_bucket(Bucket=home.bucket, **place)
    s3.put_public_access_block(Bucket=home.bucket, PublicAccessBlockConfiguration=CLOSED)
    say(f"bucket {home.bucket}: made, closed to the public")


def _known_group(ec2: Any, home: Home) -> dict[str, Any] | None:
    """The cluster's security group, if there is one. DuelError for a group of that name that is none of duel's."""
    same = [{"Name": "group-name", "Values": [home.cluster]}, {"Name": "vpc-id", "Values": [home.vpc]}]
    found = ec2.describe_security_groups(Filters=same)["SecurityGroups"]
    if not found:
        return None
    if found[0]["Description"] != DESCRIPTION:
        raise DuelError(
            f"security group {home.cluster} ({found[0]['GroupId']}): not made by duel, as its description is "
            f"{found[0]['Description']!r}; choose another cluster_name"
        )
    return found[0]


def _group(ec2: Any, known: dict[str, Any] | None, home: Home, ssh_from: str, say: Say) -> str:
    """A group whose machines reach each other, and nobody else but SSH from one network."""
    name = home.cluster
    known = known or ec2.create_security_group(GroupName=name, Description=DESCRIPTION, VpcId=home.vpc)
    group = known["GroupId"]
    have = {source for rule in known.get("IpPermissions", []) for source in _sources(rule)}
    ssh = Source("tcp", (22, 22), "Ipv6Ranges" if ":" in ssh_from else "IpRanges", ssh_from)
    wanted = {ssh, Source("-1", None, "UserIdGroupPairs", group)}
    for source in have - wanted:
        ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[source.rule()])
        say(f"security group {name} ({group}): no longer open to {source.value}")
    for source in wanted - have:
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[source.rule()])
    say(f"security group {name} ({group}): SSH from {ssh_from}, all else between its own machines")
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
