"""`python -m duel.cluster prepare`: what cluster.yaml wants of an account, made in moto's; real AWS is not asked."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from botocore.awsrequest import AWSResponse
from league_runs import ROOT
from typer.testing import CliRunner

from duel.cluster.__main__ import app
from duel.cluster.file import nodes
from duel.cluster.policies import TRUST, Home, document, machines, storage
from duel.cluster.prepare import CLOSED

boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto")
REGION = "us-west-2"
VALUES = {"CIDR-FILL-ME-IN": "203.0.113.7/32", "BUCKET-FILL-ME-IN": "faces"}


class Session:
    """boto3's, with clients that serve every test: each takes half a second to make."""

    clients = cache(lambda service, region: boto3.client(service, region))

    def __init__(self, region_name: str):
        self.region_name = region_name

    def client(self, service: str) -> Any:
        return Session.clients(service, self.region_name)


@pytest.fixture
def aws(monkeypatch) -> Iterator[dict[str, Any]]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("duel.cluster.prepare.boto3", SimpleNamespace(Session=Session))
    with moto.mock_aws():
        yield {name: Session(REGION).client(name) for name in ("ec2", "iam", "s3", "sts")}


@pytest.fixture
def file(tmp_path) -> Path:
    text = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
    for placeholder, value in VALUES.items():
        text = text.replace(placeholder, value)
    (tmp_path / "cluster.yaml").write_text(text, encoding="utf-8")
    return tmp_path / "cluster.yaml"


def prepare(file: Path, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["prepare", str(file), *options])
    return done.exit_code, done.output


def group(aws: dict[str, Any], name: str = "duel") -> dict[str, Any]:
    (found,) = aws["ec2"].describe_security_groups(Filters=[{"Name": "group-name", "Values": [name]}])["SecurityGroups"]
    return found


def entries(aws: dict[str, Any]) -> set[tuple[str, int | None, str]]:
    """Who gets into the group: protocol, port, and from where."""
    return {
        (rule["IpProtocol"], rule.get("FromPort"), source.get("CidrIp") or source["GroupId"])
        for rule in group(aws)["IpPermissions"]
        for source in rule["IpRanges"] + rule["UserIdGroupPairs"]
    }


def policy(aws: dict[str, Any], role: str) -> dict[str, list[dict[str, Any]]]:
    """Action -> the statements that allow it."""
    statements = aws["iam"].get_role_policy(RoleName=role, PolicyName="duel")["PolicyDocument"]["Statement"]
    return {action: [s for s in statements if action in s["Action"]] for s in statements for action in s["Action"]}


def named(file: Path, cluster: str) -> Path:
    """The same file for a cluster of another name."""
    text = file.read_text(encoding="utf-8")
    for old, new in (("cluster_name: duel", f"cluster_name: {cluster}"), ("Name: duel-", f"Name: {cluster}-")):
        text = text.replace(old, new)
    other = file.with_name(f"{cluster}.yaml")
    other.write_text(text, encoding="utf-8")
    return other


def everything(aws: dict[str, Any]) -> str:
    """All of the account that `prepare` may touch."""
    iam = aws["iam"]
    roles = {role["RoleName"]: (role["AssumeRolePolicyDocument"], *(
        iam.get_role_policy(RoleName=role["RoleName"], PolicyName=name)["PolicyDocument"]
        for name in iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
    )) for role in iam.list_roles()["Roles"]}  # fmt: skip
    profiles = iam.list_instance_profiles()["InstanceProfiles"]
    groups = aws["ec2"].describe_security_groups()["SecurityGroups"]
    buckets = [bucket["Name"] for bucket in aws["s3"].list_buckets()["Buckets"]]
    return json.dumps([roles, profiles, groups, buckets], default=str, sort_keys=True)


def test_ssh_is_open_to_one_address_and_the_rest_to_the_group(aws, file):
    code, told = prepare(file)
    assert code == 0, told
    name = group(aws)["GroupId"]
    assert {e for e in entries(aws) if e[0] == "tcp"} == {("tcp", 22, "203.0.113.7/32")}
    assert {e[2] for e in entries(aws) if e[0] == "-1"} == {name}
    assert f"&security_group {name}" in file.read_text(encoding="utf-8")


def test_roles_are_made_with_their_policies(aws, file):
    code, told = prepare(file)
    assert code == 0, told
    account = aws["sts"].get_caller_identity()["Account"]
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    home = Home("duel", account, REGION, "faces", group(aws)["VpcId"], group(aws)["GroupId"])
    workers = [kind["node_config"] for _, kind, is_head in nodes(config) if not is_head]
    for name, wanted in (
        ("duel-worker", storage(home)),
        ("duel-head", [*storage(home), *machines(home, workers)]),
    ):
        made = aws["iam"].get_role_policy(RoleName=name, PolicyName="duel")["PolicyDocument"]["Statement"]
        assert made == wanted
        profile = aws["iam"].get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
        assert [role["RoleName"] for role in profile["Roles"]] == [name]
        assert profile["Roles"][0]["AssumeRolePolicyDocument"]["Statement"] == [TRUST]


def test_clusters_of_two_names_keep_out_of_each_others_way(aws, file):
    prepare(file)
    before = {name: policy(aws, name) for name in ("duel-head", "duel-worker")}, group(aws)
    other = named(file, "race")
    other.write_text(other.read_text(encoding="utf-8").replace("203.0.113.7/32", "198.51.100.0/24"), encoding="utf-8")
    code, told = prepare(other)
    assert code == 0, told
    assert ({name: policy(aws, name) for name in ("duel-head", "duel-worker")}, group(aws)) == before
    (ended,) = policy(aws, "race-head")["ec2:TerminateInstances"]
    assert ended["Condition"] == {"StringEquals": {"ec2:ResourceTag/ray-cluster-name": "race"}}
    assert group(aws, "race")["GroupId"] in other.read_text(encoding="utf-8")


def test_again_with_other_workers_gives_the_head_these(aws, file):
    prepare(file)
    file.write_text(file.read_text(encoding="utf-8").replace("g5.2xlarge", "g5.4xlarge"), encoding="utf-8")
    assert prepare(file)[0] == 0
    started = next(s for s in policy(aws, "duel-head")["ec2:RunInstances"] if "instance/" in str(s["Resource"]))
    assert started["Condition"]["StringEquals"]["ec2:InstanceType"] == ["g5.4xlarge", "g6.2xlarge"]


def with_trust(iam: Any, principal: dict[str, str]) -> None:
    iam.create_role(RoleName="duel-worker", AssumeRolePolicyDocument=document({**TRUST, "Principal": principal}))


def with_policy(iam: Any, name: str) -> None:
    iam.create_role(RoleName="duel-head", AssumeRolePolicyDocument=document(TRUST))
    iam.put_role_policy(RoleName="duel-head", PolicyName=name, PolicyDocument=document({**STAR, "Action": "s3:*"}))


def with_attached_policy(iam: Any) -> None:
    iam.create_role(RoleName="duel-head", AssumeRolePolicyDocument=document(TRUST))
    made = iam.create_policy(PolicyName="everything", PolicyDocument=document({**STAR, "Action": "*"}))
    iam.attach_role_policy(RoleName="duel-head", PolicyArn=made["Policy"]["Arn"])


def with_profile(iam: Any) -> None:
    iam.create_role(RoleName="admin", AssumeRolePolicyDocument=document(TRUST))
    iam.create_instance_profile(InstanceProfileName="duel-worker")
    iam.add_role_to_instance_profile(InstanceProfileName="duel-worker", RoleName="admin")


STAR = {"Effect": "Allow", "Resource": "*"}
FOREIGN: dict[str, tuple[Any, list[str]]] = {  # what is there: (how it comes there, what is said)
    "a role that trusts another account": (
        lambda aws: with_trust(aws["iam"], {"AWS": "arn:aws:iam::222222222222:root"}),
        ["duel-worker", "trusts", "222222222222"],
    ),
    "a role that trusts another service": (
        lambda aws: with_trust(aws["iam"], {"Service": "lambda.amazonaws.com"}), ["lambda.amazonaws.com"]),
    "a role with a policy of its own": (lambda aws: with_policy(aws["iam"], "mine"), ["duel-head", "policies: mine"]),
    "a role with a policy of AWS's": (lambda aws: with_attached_policy(aws["iam"]), ["duel-head", "everything"]),
    "a profile with another role": (lambda aws: with_profile(aws["iam"]), ["duel-worker", "another role: admin"]),
    "a group of somebody else's": (
        lambda aws: aws["ec2"].create_security_group(GroupName="duel", Description="web servers"),
        ["security group duel", "'web servers'", "cluster_name"],
    ),
    "a bucket that could be opened": (
        lambda aws: aws["s3"].create_bucket(Bucket="faces", CreateBucketConfiguration={"LocationConstraint": REGION}),
        ["bucket faces", "open to the public", "BlockPublicAcls"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_there_and_foreign_is_refused_and_nothing_touched(what, aws, file):
    come, words = FOREIGN[what]
    come(aws)
    before = everything(aws)
    code, told = prepare(file)
    assert code == 1
    assert all(word in told for word in words), told
    assert everything(aws) == before


def test_a_cluster_of_the_same_name_in_another_region_is_left_alone(aws, file):
    prepare(file)
    before = everything(aws)
    file.write_text(file.read_text(encoding="utf-8").replace(f"&region {REGION}", "&region us-east-2"))
    code, told = prepare(file)
    assert code == 1
    assert f"cluster of the same name in {REGION}" in told
    assert everything(aws) == before


@contextmanager
def refusing(client: Any, event: str, code: int, error: str) -> Iterator[list[dict[str, Any]]]:
    """Inside, a client gets an error in place of moto's answer; the requests that got it."""
    asked = []

    def refuse(model, params, **_):
        asked.append(params)
        return AWSResponse("", code, {}, None), {"Error": {"Code": error, "Message": "no"}}

    client.meta.events.register(f"before-call.{event}", refuse)
    try:
        yield asked
    finally:
        client.meta.events.unregister(f"before-call.{event}", refuse)


def test_a_bucket_that_is_not_ones_own_is_refused(aws, file):
    """moto does not look at whose bucket is meant."""
    account = aws["sts"].get_caller_identity()["Account"]
    with refusing(aws["s3"], "s3.HeadBucket", 403, "403") as asked:
        code, told = prepare(file)
    assert code == 1
    assert "bucket faces: not of your account" in told
    assert [request["headers"]["x-amz-expected-bucket-owner"] for request in asked] == [account]
    assert aws["iam"].list_roles()["Roles"] == []


def test_the_bucket_is_closed_to_the_public_and_one_that_is_there_stays(aws, file):
    prepare(file)
    closed = aws["s3"].get_public_access_block(Bucket="faces")["PublicAccessBlockConfiguration"]
    assert set(closed.values()) == {True}
    aws["s3"].put_object(Bucket="faces", Key="mine", Body=b"kept")
    code, told = prepare(file)
    assert code == 0
    assert "there already, yours and closed" in told
    assert "lies in" not in told
    assert aws["s3"].get_object(Bucket="faces", Key="mine")["Body"].read() == b"kept"


def test_a_bucket_in_another_region_is_told(aws, file):
    there = Session("eu-central-1").client("s3")
    there.create_bucket(Bucket="faces", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    there.put_public_access_block(Bucket="faces", PublicAccessBlockConfiguration=CLOSED)
    code, told = prepare(file)
    assert code == 0, told
    assert "it lies in eu-central-1, the machines in us-west-2" in told


def test_again_with_another_address_closes_the_old_one(aws, file):
    prepare(file)
    before = group(aws)["GroupId"]
    everybody = {"IpProtocol": "tcp", "FromPort": 8000, "ToPort": 9000, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    aws["ec2"].authorize_security_group_ingress(GroupId=before, IpPermissions=[everybody])
    file.write_text(file.read_text(encoding="utf-8").replace("203.0.113.7/32", "198.51.100.0/24"), encoding="utf-8")
    code, told = prepare(file)
    assert code == 0, told
    assert "no longer open to 203.0.113.7/32" in told
    assert "no longer open to 0.0.0.0/0" in told
    assert group(aws)["GroupId"] == before
    assert {e for e in entries(aws) if e[0] == "tcp"} == {("tcp", 22, "198.51.100.0/24")}


def test_a_network_of_ones_own(aws, file):
    vpc = aws["ec2"].create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    assert prepare(file, "--vpc", vpc)[0] == 0
    assert group(aws)["VpcId"] == vpc


@pytest.mark.parametrize(("old", "new", "said"), [
    ("203.0.113.7/32", "CIDR-FILL-ME-IN", "fill_in.ssh_from"),
    ("203.0.113.7/32", "0.0.0.0/0", "fill_in.ssh_from"),
    ("203.0.113.7/32", "0.0.0.0/1", "fill_in.ssh_from"),
    ("bucket: faces", "bucket: s3://faces", "fill_in.bucket"),
    ("bucket: faces", "bucket: '*'", "fill_in.bucket"),
    ("bucket: faces", "bucket: x", "fill_in.bucket"),
    ("cluster_name: duel", "cluster_name: duel/*", "cluster_name"),
    ("resolve:ssm:/aws/service/deeplearning", "resolve:ssm:/mine", "ImageId"),
    ("    bucket: faces", "    packet: faces", "fill_in: bucket missing"),
    ("type: aws", "type: local", "provider.type"),
    ("  region: *region", "  availability_zone: a", "provider.region"),
    ("head_node_type: head", "head_node_type: haed", "head_node_type"),
])  # fmt: skip
def test_wrong_values_are_told_before_anything_is_made(aws, file, old, new, said):
    file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    code, told = prepare(file)
    assert code == 2
    assert "cluster.yaml" in told
    assert said in told
    assert aws["iam"].list_roles()["Roles"] == []


def test_what_aws_refuses(aws, file):
    with refusing(aws["ec2"], "ec2.CreateSecurityGroup", 403, "UnauthorizedOperation"):
        code, told = prepare(file)
    assert code == 1
    assert "AWS refuses" in told
    assert "UnauthorizedOperation" in told
    assert "sg-FILL-ME-IN" in file.read_text(encoding="utf-8")
