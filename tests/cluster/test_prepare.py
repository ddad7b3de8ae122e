"""`python -m duel.cluster prepare`: what cluster.yaml wants of an account, made in moto's; real AWS is not asked."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from league_runs import ROOT
from typer.testing import CliRunner

from duel.cluster.__main__ import app

boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto")
REGION = "us-west-2"
VALUES = {"CIDR-FILL-ME-IN": "203.0.113.7/32", "BUCKET-FILL-ME-IN": "faces"}


@pytest.fixture
def aws(monkeypatch) -> Iterator[dict[str, Any]]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    with moto.mock_aws():
        yield {name: boto3.client(name, REGION) for name in ("ec2", "iam", "s3")}


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


def group(aws: dict[str, Any]) -> dict[str, Any]:
    (found,) = aws["ec2"].describe_security_groups(Filters=[{"Name": "group-name", "Values": ["duel"]}])[
        "SecurityGroups"
    ]
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


def test_ssh_is_open_to_one_address_and_the_rest_to_the_group(aws, file):
    code, told = prepare(file)
    assert code == 0, told
    name = group(aws)["GroupId"]
    assert {e for e in entries(aws) if e[0] == "tcp"} == {("tcp", 22, "203.0.113.7/32")}
    assert {e[2] for e in entries(aws) if e[0] == "-1"} == {name}
    assert f"&security_group {name}" in file.read_text(encoding="utf-8")


def test_roles_reach_the_bucket_and_the_head_its_own_machines(aws, file):
    prepare(file)
    worker, head = policy(aws, "duel-worker"), policy(aws, "duel-head")
    assert set(worker) == {
        "s3:ListBucket",
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
    }
    for allowed in (worker, head):
        assert {s["Resource"] for s in allowed["s3:PutObject"]} == {"arn:aws:s3:::faces/duel/*"}
        assert {s["Resource"] for s in allowed["s3:ListBucket"]} == {"arn:aws:s3:::faces"}
    (passed,) = head["iam:PassRole"]
    assert passed["Resource"].endswith(":role/duel-worker")
    (ended,) = head["ec2:TerminateInstances"]
    assert ended["Condition"] == {"StringEquals": {"ec2:ResourceTag/ray-cluster-name": "duel"}}
    for name in ("duel-head", "duel-worker"):
        profile = aws["iam"].get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
        assert [role["RoleName"] for role in profile["Roles"]] == [name]
        assert "ec2.amazonaws.com" in json.dumps(profile["Roles"][0]["AssumeRolePolicyDocument"])


def test_the_bucket_is_closed_to_the_public_and_one_that_is_there_stays(aws, file):
    prepare(file)
    closed = aws["s3"].get_public_access_block(Bucket="faces")["PublicAccessBlockConfiguration"]
    assert set(closed.values()) == {True}
    aws["s3"].put_object(Bucket="faces", Key="mine", Body=b"kept")
    assert prepare(file)[0] == 0
    assert aws["s3"].get_object(Bucket="faces", Key="mine")["Body"].read() == b"kept"


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
    ("bucket: faces", "bucket: s3://faces", "fill_in.bucket"),
    ("    bucket: faces", "    packet: faces", "fill_in: bucket missing"),
    ("type: aws", "type: local", "provider.type"),
])  # fmt: skip
def test_wrong_values_are_told_before_anything_is_made(aws, file, old, new, said):
    file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    code, told = prepare(file)
    assert code == 2
    assert "cluster.yaml" in told
    assert said in told
    assert aws["iam"].list_roles()["Roles"] == []


def test_what_aws_refuses(aws, file):
    file.write_text(file.read_text(encoding="utf-8").replace("bucket: faces", "bucket: x"), encoding="utf-8")
    code, told = prepare(file)
    assert code == 1
    assert "AWS refuses" in told
    assert "bucket" in told
    assert "sg-FILL-ME-IN" in file.read_text(encoding="utf-8")
