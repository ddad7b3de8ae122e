"""What the machines' roles allow and deny: by IAM's rules in small, and by its grammar as cfn-lint knows it.

What no test here can show: that AWS tells IAM of each request what these say that it does.
"""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import yaml
from iam import Asked, allows, listed
from league_runs import ROOT

from duel.cluster.file import nodes
from duel.cluster.policies import TRUST, Home, document, machines, storage
from duel.errors import UsageError

MINE, OTHERS, REGION = "111111111111", "222222222222", "us-west-2"
HOME = Home("duel", MINE, REGION, "faces", "vpc-1", "sg-1")
OURS, TAG = {"ec2:ResourceTag/ray-cluster-name": "duel"}, "aws:RequestTag/ray-cluster-name"
SET = {"aws:TagKeys": ["ray-node-status"], "aws:RequestTag/ray-node-status": "up-to-date"}
LAUNCH = {"ec2:CreateAction": "RunInstances", TAG: "duel", "aws:TagKeys": ["Name", "ray-cluster-name", "ray-node-kind"]}
STORED = {"aws:ResourceAccount": MINE}


def worker_nodes() -> list[dict[str, Any]]:
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    return [kind["node_config"] for _, kind, is_head in nodes(config) if not is_head]


HEAD = [*storage(HOME), *machines(HOME, worker_nodes())]


def ec2(kind: str, name: str = "x", region: str = REGION, account: str = MINE) -> str:
    return f"arn:aws:ec2:{region}:{account}:{kind}/{name}"


def launch(region: str = REGION, **changes: Any) -> list[Asked]:
    """What IAM is asked when a machine is started: one question a resource. changes: what is unlike a worker."""
    known = {
        "type": "g6.2xlarge", "profile": "duel-worker", "cluster": "duel", "disk": 150, "disk_type": "gp3",
        "group": "sg-1", "vpc": "vpc-1", "image_owner": "amazon", "snapshot_owner": None, **changes,
    }  # fmt: skip
    instance = {
        "ec2:InstanceType": known["type"],
        "ec2:InstanceProfile": known["profile"] and f"arn:aws:iam::{MINE}:instance-profile/{known['profile']}",
        TAG: known["cluster"],
    }
    about = [
        (ec2("instance", "*", region), instance),
        (ec2("volume", "*", region), {"ec2:VolumeSize": known["disk"], "ec2:VolumeType": known["disk_type"]}),
        (ec2("network-interface", "*", region), {}),
        (ec2("spot-instances-request", "*", region), {}),
        (ec2("key-pair", "ray", region), {}),
        (ec2("subnet", "subnet-1", region), {"ec2:Vpc": ec2("vpc", known["vpc"], region)}),
        (ec2("security-group", known["group"], region), {}),
        (ec2("image", "ami-1", region, ""), {"ec2:Owner": known["image_owner"]}),
    ]
    if known["snapshot_owner"]:
        about.append((ec2("snapshot", "snap-1", region, ""), {"ec2:Owner": known["snapshot_owner"]}))
    return [Asked("ec2:RunInstances", resource, context) for resource, context in about]


def tag(context: dict[str, Any], resource: str | None = None) -> list[Asked]:
    return [Asked("ec2:CreateTags", resource or ec2("instance", "i-1"), context)]


def objects(action: str, key: str, context: dict[str, Any] | None = None, bucket: str = "faces") -> list[Asked]:
    resource = f"arn:aws:s3:::{bucket}/{key}"
    return [Asked(f"s3:{action}", resource, STORED if context is None else context)]


def listing(prefix: str | None, bucket: str = "faces") -> list[Asked]:
    return [
        Asked("s3:ListBucket", f"arn:aws:s3:::{bucket}", STORED | ({} if prefix is None else {"s3:prefix": prefix}))
    ]


def passing(role: str, service: str = "ec2.amazonaws.com") -> list[Asked]:
    return [Asked("iam:PassRole", f"arn:aws:iam::{MINE}:role/{role}", {"iam:PassedToService": service})]


PARAMETER = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"


def parameter(name: str, account: str = "") -> list[Asked]:
    return [Asked("ssm:GetParameters", f"arn:aws:ssm:{REGION}:{account}:parameter{name}")]


NEEDED = {  # by Ray's node provider (autoscaler/_private/aws/node_provider.py), by EC2 on its behalf, by duel's store
    "to see its machines": [Asked("ec2:DescribeInstances", "*", {"ec2:Region": REGION})],
    "to start a worker": launch(),
    "... of the other kind": launch(type="g5.2xlarge"),
    "... with the image's snapshot named": launch(snapshot_owner="amazon"),
    "... from AWS's image": parameter(PARAMETER),
    "... and pass it its role": passing("duel-worker"),
    "to tag it at its launch": tag(LAUNCH, ec2("instance", "*")),
    "to say how far it is": tag(OURS | SET),
    "to say what was copied there": tag(OURS | SET | {"aws:TagKeys": ["ray-file-mounts-contents"]}),
    "to end it": [Asked("ec2:TerminateInstances", ec2("instance", "i-1"), OURS)],
    "to read": objects("GetObject", "duel/run/x"),
    "to write": objects("PutObject", "duel/run/x"),
    "to write the folder's mark": objects("PutObject", "duel/"),
    "to delete": objects("DeleteObject", "duel/run/x"),
    "to give up an upload": objects("AbortMultipartUpload", "duel/run/x"),
    "to list": listing("duel/run/"),
    "to ask for the folder": listing("duel"),
    "to learn that an object is not there": listing("duel/run/probe"),
}

ATTACKS = {
    "ends a stranger's machine": [Asked("ec2:TerminateInstances", ec2("instance", "i-2"), {})],
    "ends another cluster's": [
        Asked("ec2:TerminateInstances", ec2("instance", "i-2"), {"ec2:ResourceTag/ray-cluster-name": "other"})
    ],
    "ends one elsewhere": [Asked("ec2:TerminateInstances", ec2("instance", "i-2", "us-east-1"), OURS)],
    "stops its own": [Asked("ec2:StopInstances", ec2("instance", "i-1"), OURS)],
    "makes a stranger's machine its own": tag({TAG: "duel", "aws:TagKeys": ["ray-cluster-name"]}),
    "makes another cluster's machine its own": tag(
        {TAG: "duel", "aws:TagKeys": ["ray-cluster-name"], "ec2:ResourceTag/ray-cluster-name": "other"}
    ),
    "gives a machine of its own to another cluster": tag(OURS | {TAG: "other", "aws:TagKeys": ["ray-cluster-name"]}),
    "tags a stranger's machine": tag(SET),
    "gives its own a tag that others' rights go by": tag(OURS | {"aws:TagKeys": ["project"]}),
    "launches with such a tag": tag(LAUNCH | {"aws:TagKeys": ["ray-cluster-name", "project"]}),
    "tags as another action's part": tag(LAUNCH | {"ec2:CreateAction": "CreateVolume"}),
    "launches as another cluster": launch(cluster="other"),
    "launches without the tag": launch(cluster=None),
    "tags such a launch": tag(LAUNCH | {TAG: "other"}),
    "tags a disk": tag(OURS | SET, ec2("volume")),
    "starts a dearer machine": launch(type="p5.48xlarge"),
    "starts one elsewhere": launch("us-east-1"),
    "starts one with a larger disk": launch(disk=16384),
    "starts one with a dearer disk": launch(disk_type="io2"),
    "starts one as head": launch(profile="duel-head"),
    "starts one with another role": launch(profile="admin"),
    "starts one without a role": launch(profile=None),
    "starts one in an open group": launch(group="sg-2"),
    "starts one in another network": launch(vpc="vpc-2"),
    "reads an image of the account": launch(image_owner=MINE),
    "reads a snapshot of the account": launch(snapshot_owner=MINE),
    "passes the head's role": passing("duel-head"),
    "passes another role": passing("admin"),
    "passes the workers' role to another service": passing("duel-worker", "lambda.amazonaws.com"),
    "reads a parameter of the account": parameter("/database/password", MINE),
    "sees machines elsewhere": [Asked("ec2:DescribeInstances", "*", {"ec2:Region": "us-east-1"})],
    "lists the whole bucket": listing(None),
    "lists the bucket's root": listing(""),
    "lists another folder": listing("private/"),
    "lists a folder with the same beginning": listing("duel-private/"),
    "lists another bucket": listing("duel/", "other"),
    "reads another folder": objects("GetObject", "private/x"),
    "writes to another folder": objects("PutObject", "duel-private/x"),
    "writes to another bucket": objects("PutObject", "duel/x", bucket="other"),
    "writes to a bucket that is somebody else's now": objects("PutObject", "duel/x", {"aws:ResourceAccount": OTHERS}),
    "makes itself a user": [Asked("iam:CreateUser", f"arn:aws:iam::{MINE}:user/x")],
}


@pytest.mark.parametrize("what", NEEDED)
def test_what_ray_and_a_run_do_is_allowed(what):
    for asked in NEEDED[what]:
        assert allows(HEAD, asked), asked


@pytest.mark.parametrize("what", ATTACKS)
def test_what_a_head_in_foreign_hands_would_do_is_denied(what):
    assert not all(allows(HEAD, asked) for asked in ATTACKS[what])


def test_an_attack_fails_by_what_it_changes_alone():
    """Each launch above is refused for one of its resources; the others are those of any worker."""
    for what, asked in ATTACKS.items():
        if what.startswith("starts one") and what != "starts one elsewhere":
            assert sum(not allows(HEAD, one) for one in asked) == 1, what


def test_a_worker_reaches_the_folder_and_no_machine():
    worker = storage(HOME)
    assert {action.split(":")[0] for statement in worker for action in statement["Action"]} == {"s3"}
    assert all(allows(worker, asked) for asked in [*NEEDED["to read"], *NEEDED["to list"]])


def test_an_image_of_ones_own_is_named_by_its_id():
    mine = [node | {"ImageId": "ami-mine"} for node in worker_nodes()]
    statements = machines(HOME, mine)
    assert allows(statements, Asked("ec2:RunInstances", ec2("image", "ami-mine", account=""), {"ec2:Owner": MINE}))
    assert not allows(statements, launch(image_owner=MINE)[-1])
    assert "ssm" not in json.dumps(statements)


@pytest.mark.parametrize(("change", "says"), [
    ({"ImageId": "resolve:ssm:/mine"}, "'/mine'"),
    ({"ImageId": None}, "ImageId"),
    ({"InstanceType": None}, "InstanceType"),
    ({"BlockDeviceMappings": []}, "VolumeSize"),
    ({"BlockDeviceMappings": [{"Ebs": {"VolumeSize": 8}}]}, "VolumeType"),
])  # fmt: skip
def test_a_worker_that_is_left_open_is_refused(change, says):
    with pytest.raises(UsageError, match=says):
        machines(HOME, [node | change for node in worker_nodes()])


def test_a_file_without_workers_is_refused():
    with pytest.raises(UsageError, match="there must be a worker"):
        machines(HOME, [])


# --- the grammar: which actions, kinds of resources and conditions there are, as AWS describes them to cfn-lint ---

GLOBAL = {"aws:ResourceAccount", "aws:TagKeys", "aws:RequestTag"}
OF_ACTIONS = {"ec2:CreateAction", "ec2:Region", "s3:prefix", "iam:PassedToService"}  # not in its data: of no resource

ELSEWHERE = {"accesspoint", "accesspointobject"}  # other ways to a bucket, whose names its own fits


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    pytest.importorskip("cfnlint")
    from cfnlint.data import AdditionalSpecs
    from cfnlint.helpers import load_resource

    return load_resource(AdditionalSpecs, "Policies.json")


def named(kind: dict[str, Any], resource: str) -> bool:
    """Whether an ARN is of a kind of resources."""
    return any(re.fullmatch(re.sub(r"\$\{\w+\}", "[^:]*", form), resource) for form in kind["ARNFormats"])


@pytest.mark.parametrize("statement", HEAD, ids=lambda one: f"{one['Action'][0]} {str(one['Resource'])[:50]}")
def test_actions_resources_and_conditions_are_ones_that_aws_has(services, statement):
    keys = [key for names in statement.get("Condition", {}).values() for key in names]
    for action in statement["Action"]:
        service, name = action.split(":")
        known = services[service]["Actions"][name.lower()]
        for resource in listed(statement["Resource"]):
            if resource == "*":
                assert not known.get("Resources"), f"{action} can be limited to resources"
                continue
            kinds = services[service]["Resources"]
            (kind,) = [k for k in known["Resources"] if k not in ELSEWHERE and named(kinds[k], resource)]
            of_kind = {key.split("/")[0] for key in kinds[kind]["ConditionKeys"]}
            for key in keys:
                assert key.split("/")[0] in of_kind | GLOBAL | OF_ACTIONS, f"IAM knows no {key} of a {kind}"


def test_cfn_lint_finds_no_fault_with_the_policies(services, tmp_path):
    from cfnlint.api import lint_file

    properties = {
        "AssumeRolePolicyDocument": json.loads(document(TRUST)),
        "Policies": [{"PolicyName": "duel", "PolicyDocument": json.loads(document(*HEAD))}],
    }
    template = tmp_path / "head.json"
    template.write_text(json.dumps({"Resources": {"Head": {"Type": "AWS::IAM::Role", "Properties": properties}}}))
    assert [str(match) for match in lint_file(template)] == []
    template.write_text(template.read_text().replace("ec2:TerminateInstances", "ec2:TerminateInstance"))
    assert lint_file(template), "the check above can fail at all"


def test_the_head_is_within_what_a_role_may_hold():
    assert len(re.sub(r"\s", "", document(*HEAD))) < 10_240, "IAM's limit on a role's own policies"


def test_other_partitions_have_other_names():
    china = replace(HOME, partition="aws-cn")
    assert all(r == "*" or r.startswith("arn:aws-cn:") for s in storage(china) for r in listed(s["Resource"]))
