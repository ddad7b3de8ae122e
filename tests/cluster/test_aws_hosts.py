"""cluster.yaml on real hosts over SSH, with moto in EC2's and S3's place: what it starts, it starts in earnest."""

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
import yaml
from account import BUCKET, REGION, account, asked_by, credentials
from lab import Lab
from league_runs import worked_on
from rack import long_trials

pytestmark = pytest.mark.cluster
FILE = "cluster.yaml"
FIRST = 4  # moto gives a subnet's machines the addresses from .4 on


@pytest.fixture
def aws(lab, monkeypatch) -> Iterator[dict[str, Any]]:
    """moto on the hosts' network: an account with their network in it and a key that lets into them."""
    boto3 = pytest.importorskip("boto3")
    secrets, theirs = credentials(lab.launcher), credentials(lab.launcher, key="machines")
    lab.environment = "export " + " ".join(f"{name}={value}" for name, value in theirs.items())
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    with account(lab.launcher, lab.folder / "requests"):
        ec2 = boto3.client("ec2", REGION)
        vpc = ec2.create_vpc(CidrBlock=f"{lab.network}.0/24")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=f"{lab.network}.0/24")["Subnet"]["SubnetId"]
        ec2.import_key_pair(KeyName="lab", PublicKeyMaterial=lab.key.with_suffix(".pub").read_bytes())
        iam = boto3.client("iam", REGION)
        yield {"ec2": ec2, "iam": iam, "vpc": vpc, "subnet": subnet, "secrets": secrets}


def in_the_lab(text: str, aws: dict[str, Any]) -> dict[str, Any]:
    """cluster.yaml, filled in, with another provider, login and size of machines."""
    config = yaml.safe_load(text)
    config["provider"] |= {"use_internal_ips": True, "key_pair": {"key_name": "lab"}}
    config["auth"] = {"ssh_user": "root"}
    config["max_workers"] = 2
    for name, kind in config["available_node_types"].items():
        kind["node_config"]["SubnetIds"] = [aws["subnet"]]
        if name != config["head_node_type"]:
            kind["resources"], kind["max_workers"] = {"CPU": 2}, 1
    return config


def machines(ec2: Any) -> list[dict[str, Any]]:
    found = ec2.describe_instances(Filters=[{"Name": "instance-state-name", "Values": ["running"]}])
    return [machine for reservation in found["Reservations"] for machine in reservation["Instances"]]


def check_requests(lab: Lab, iam: Any) -> None:
    """What the machines asked of the account is what their roles allow; moto itself lets everybody do everything."""
    asked = list(asked_by(lab.folder / "requests", "machines"))
    allowed = iam.get_role_policy(RoleName="duel-head", PolicyName="duel")["PolicyDocument"]["Statement"]
    names = {action for statement in allowed for action in statement["Action"]}
    assert {action for action, _ in asked} <= names
    assert {"ec2:RunInstances", "ec2:CreateTags", "s3:ListBucket"} <= {a for a, _ in asked}
    for action, parameters in asked:
        if action == "s3:ListBucket":
            assert parameters["prefix"].startswith("duel/")
        elif action.startswith("s3:") and "delete" not in parameters:
            assert parameters["key"].startswith("duel/")
        elif action == "ec2:CreateTags":
            assert parameters["ResourceId.1"].startswith("i-")
            assert parameters["Tag.1.Key"].startswith("ray-")
            assert parameters["Tag.1.Key"] != "ray-cluster-name"
        elif action == "ec2:RunInstances":
            assert parameters["TagSpecification.1.ResourceType"] == "instance"
            assert ("ray-cluster-name", "duel") in [
                (parameters[key], parameters[key.replace("Key", "Value")])
                for key in parameters if key.startswith("TagSpecification.1.Tag.") and key.endswith(".Key")
            ]  # fmt: skip


def test_a_league_on_aws(aws, lab: Lab, launcher, tmp_path):
    for number, name in enumerate(("head", "w1", "w2"), start=FIRST):
        lab.add(name, number)
    path = launcher.project / FILE
    text = path.read_text(encoding="utf-8").replace("CIDR-FILL-ME-IN", f"{lab.launcher}/32")
    path.write_text(text.replace("BUCKET-FILL-ME-IN", BUCKET), encoding="utf-8")
    ssh = launcher.home / ".ssh"
    ssh.mkdir(mode=0o700)
    (ssh / "lab.pem").write_bytes(lab.key.read_bytes())
    (ssh / "lab.pem").chmod(0o600)
    launcher.environment |= aws["secrets"]
    launcher.run("python", "-m", "duel.cluster", "prepare", FILE, "--vpc", aws["vpc"])
    path.write_text(yaml.safe_dump(in_the_lab(path.read_text(encoding="utf-8"), aws)), encoding="utf-8")
    assert "nothing wrong" in launcher.run("python", "-m", "duel.cluster", "check", FILE)

    launcher.run("ray", "up", "-y", "--no-config-cache", FILE)
    assert [machine["InstanceType"] for machine in machines(aws["ec2"])] == ["m6i.xlarge"], "no worker without work"
    # Long enough for the second worker to come while there are trials left.
    launcher.run("ray", "rsync-up", FILE, long_trials(tmp_path / "sweep.yaml"), "~/sweep.yaml")
    league = ["--sweep", "~/sweep.yaml", "--trials", "6", "--name", "lab", "--gpus-per-trial", "0",
              "--cpus-per-trial", "2", "--out", "~/checkout/reports", "--storage", f"s3://{BUCKET}/duel"]  # fmt: skip
    print(launcher.run("ray", "submit", FILE, "duel/league.py", *league, timeout=900))
    workers = [machine for machine in machines(aws["ec2"]) if machine["InstanceType"] != "m6i.xlarge"]
    assert {machine.get("InstanceLifecycle") for machine in workers} == {"spot"}
    # The report comes to whoever asks for it, here or there, with the head's help or without.
    league = ["python", "-m", "duel.league", "--resume", "lab", "--storage", f"s3://{BUCKET}/duel"]
    assert launcher.run(*league).splitlines()[-1] == str(launcher.project / "reports" / "lab" / "index.html")
    report = launcher.project / "reports" / "lab"
    assert (report / "index.html").exists()
    assert set(pd.read_csv(report / "trials.csv")["side"]) == {"generator", "detector"}
    assert json.loads((report / "run.json").read_text())["status"] == "complete"
    launcher.run("ray", "rsync-down", FILE, "~/checkout/reports/", "from-the-head/")
    assert (launcher.project / "from-the-head" / "lab" / "index.html").read_bytes() == (
        report / "index.html"
    ).read_bytes()
    at_work = worked_on(launcher.project / "from-the-head" / "lab")
    assert at_work == {machine["PrivateIpAddress"] for machine in workers}, "trials on each worker and none on the head"
    assert len(at_work) == 2

    for name in ("head", "w1", "w2"):
        assert lab.rays_folders(name) == ["700", "ray"], "nobody else reaches Ray's sockets and objects"
    check_requests(lab, aws["iam"])

    launcher.run("ray", "down", "-y", FILE)
    assert machines(aws["ec2"]) == []
