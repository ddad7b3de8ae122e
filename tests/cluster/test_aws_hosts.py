"""cluster.yaml on real hosts over SSH, with moto in EC2's and S3's place: what it starts, it starts in earnest."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
import yaml
from lab import NETWORK, Lab
from league_runs import TINY

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
FILE, REGION, PORT = "cluster.yaml", "us-west-2", 5000
FIRST = 4  # moto gives a subnet's machines the addresses from .4 on
ENDPOINT = f"http://{NETWORK}.1:{PORT}"
ACCOUNT = {
    "AWS_ENDPOINT_URL": ENDPOINT, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": REGION,
}  # fmt: skip


@pytest.fixture
def aws(lab, monkeypatch) -> Iterator[dict[str, Any]]:
    """moto on the hosts' network, with the account that cluster.yaml's first lines ask for: its clients and IDs."""
    boto3 = pytest.importorskip("boto3")
    lab.environment = "export " + " ".join(f"{name}={value}" for name, value in ACCOUNT.items())
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", lab.launcher, "-p", str(PORT)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        wait_for_moto()
        ec2, iam, s3 = (boto3.client(name, REGION) for name in ("ec2", "iam", "s3"))
        vpc = ec2.create_vpc(CidrBlock=f"{NETWORK}.0/24")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=f"{NETWORK}.0/24")["Subnet"]["SubnetId"]
        group = ec2.create_security_group(GroupName="duel", Description="duel", VpcId=vpc)["GroupId"]
        ec2.import_key_pair(KeyName="lab", PublicKeyMaterial=lab.key.with_suffix(".pub").read_bytes())
        for profile in ("duel-head", "duel-worker"):
            iam.create_instance_profile(InstanceProfileName=profile)
        s3.create_bucket(Bucket="lab", CreateBucketConfiguration={"LocationConstraint": REGION})
        yield {"ec2": ec2, "s3": s3, "subnet": subnet, "group": group}
    finally:
        server.kill()
        server.wait()


def wait_for_moto() -> None:
    end = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(ENDPOINT, timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def in_the_lab(text: str, aws: dict[str, Any]) -> dict[str, Any]:
    """cluster.yaml as a user fills it in, with another provider, login and size of machines."""
    config = yaml.safe_load(text.replace("sg-FILL-ME-IN", aws["group"]))
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


def test_a_league_on_aws(aws, lab: Lab, launcher):
    for number, name in enumerate(("head", "w1", "w2"), start=FIRST):
        lab.add(name, number)
    path = launcher.project / FILE
    path.write_text(yaml.safe_dump(in_the_lab(path.read_text(encoding="utf-8"), aws)), encoding="utf-8")
    ssh = launcher.home / ".ssh"
    ssh.mkdir(mode=0o700)
    (ssh / "lab.pem").write_bytes(lab.key.read_bytes())
    (ssh / "lab.pem").chmod(0o600)
    launcher.environment |= ACCOUNT
    assert "nothing wrong" in launcher.run("python", "-m", "duel.cluster", "check", FILE)

    launcher.run("ray", "up", "-y", "--no-config-cache", FILE)
    assert [machine["InstanceType"] for machine in machines(aws["ec2"])] == ["m6i.xlarge"], "no worker without work"
    launcher.run("ray", "rsync-up", FILE, TINY, "~/tiny.yaml")
    league = ["--sweep", "~/tiny.yaml", "--trials", "6", "--name", "lab", "--gpus-per-trial", "0",
              "--cpus-per-trial", "2", "--out", "~/checkout/reports", "--storage", "s3://lab/duel"]  # fmt: skip
    print(launcher.run("ray", "submit", FILE, "duel/league.py", *league, timeout=900))
    workers = [machine for machine in machines(aws["ec2"]) if machine["InstanceType"] != "m6i.xlarge"]
    assert {machine.get("InstanceLifecycle") for machine in workers} == {"spot"}
    launcher.run("ray", "rsync-down", FILE, "~/checkout/reports/", "reports/")
    report = launcher.project / "reports" / "lab"
    assert (report / "index.html").exists()
    assert set(pd.read_csv(report / "trials.csv")["side"]) == {"generator", "detector"}
    assert json.loads((report / "run.json").read_text())["status"] == "complete"
    at_work = nodes_at_work(aws["s3"])
    assert at_work == {machine["PrivateIpAddress"] for machine in workers}, "trials on each worker and none on the head"
    assert len(at_work) == 2

    launcher.run("ray", "down", "-y", FILE)
    assert machines(aws["ec2"]) == []


def nodes_at_work(s3: Any) -> set[str]:
    """Addresses of the nodes that reported a trial's results, from what Tune keeps in the bucket."""
    keys = [o["Key"] for o in s3.list_objects_v2(Bucket="lab").get("Contents", []) if o["Key"].endswith("result.json")]
    lines = [line for key in keys for line in s3.get_object(Bucket="lab", Key=key)["Body"].read().splitlines()]
    return {json.loads(line)["node_ip"] for line in lines}
