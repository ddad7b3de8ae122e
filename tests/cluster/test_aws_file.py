"""cluster.yaml: Ray accepts it, it is no more open than it has to be, and it installs this checkout.

What no test here can show: that AWS itself accepts it (quota, capacity, permissions, images).
"""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parent.parent.parent
FILE = ROOT / "cluster.yaml"
TEXT = FILE.read_text(encoding="utf-8")
COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load(TEXT)


def head(config: dict[str, Any]) -> dict[str, Any]:
    return config["available_node_types"][config["head_node_type"]]


def workers(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    types = config["available_node_types"]
    return {name: kind for name, kind in types.items() if name != config["head_node_type"]}


def test_ray_accepts_it(config):
    prepared = prepare_config(config)
    validate_config(prepared)
    assert set(config) <= set(prepared)


def test_ray_refuses_an_unknown_key(config):
    """The check above can fail at all."""
    with pytest.raises(Exception, match="idle_timeout_minuets"):
        validate_config(prepare_config(config | {"idle_timeout_minuets": 5}))


def test_head_is_on_demand_and_runs_no_trials(config):
    assert head(config)["resources"] == {"CPU": 0}
    assert head(config)["max_workers"] == 0
    assert "InstanceMarketOptions" not in head(config)["node_config"]
    assert "--num-cpus=0" in " ".join(config["head_start_ray_commands"])


def test_workers_are_spot_gpus_that_come_and_go(config):
    assert len({kind["node_config"]["InstanceType"] for kind in workers(config).values()}) > 1
    for kind in workers(config).values():
        assert kind["min_workers"] == 0
        assert 0 < kind["max_workers"] <= config["max_workers"]
        assert kind["resources"]["GPU"] > 0
        assert kind["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert 0 < config["idle_timeout_minutes"] <= 30
    assert config["provider"]["cache_stopped_nodes"] is False


def test_every_machine_is_closed(config):
    for kind in config["available_node_types"].values():
        node = kind["node_config"]
        assert node["MetadataOptions"]["HttpTokens"] == "required"
        assert node["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
        for disk in node["BlockDeviceMappings"]:
            assert disk["Ebs"]["Encrypted"] is True
            assert disk["Ebs"]["VolumeType"] == "gp3"
            assert disk["Ebs"]["DeleteOnTermination"] is True
        assert node["SecurityGroupIds"], "without one, Ray makes a group with SSH open to the internet"
        assert "IamInstanceProfile" in node, "without one, Ray gives the head full EC2 and S3 access"


def test_nothing_is_open_to_the_world(config):
    assert "0.0.0.0" not in TEXT
    assert "::/0" not in TEXT
    assert "security_group" not in config["provider"], "Ray opens SSH in every group that it writes itself"
    start = " ".join(config["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in start


def test_token_authentication_is_on(config):
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        (start,) = [line for line in commands if "ray start" in line]
        assert start.index("export RAY_AUTH_MODE=token") < start.index("ray start")
    assert "RAY_AUTH_MODE=token" in " ".join(config["setup_commands"]), "drivers need it too"


def test_workers_listen_for_the_end_of_a_spot_machine(config):
    listen = config["worker_start_ray_commands"][-1]
    assert "python -m duel.cluster notice" in listen
    assert listen.endswith("< /dev/null &"), "ray up would wait for it"


@pytest.mark.parametrize(("seen", "ended_after"), [
    ("", 30),  # Ray never came: the head went during the set-up
    (20 * "-" + "R", 31),
    ("R" * 50, 60),
    ("R" + 9 * "-" + "R" + 9 * "-" + "R", 31),  # a head that starts again, twice
])  # fmt: skip
def test_a_worker_ends_itself_when_ray_is_gone(config, tmp_path, seen, ended_after):
    """seen: whether a raylet (R) is there in each minute; later there is none."""
    for name, does in {
        "systemd-run": 'shift; exec "$@"',
        "sleep": f"echo >> {tmp_path}/minutes",
        "pgrep": f'test "$(echo {seen}. | cut -c "$(wc -l < {tmp_path}/minutes)")" = R',
        "shutdown": f'echo "$@" > {tmp_path}/ended',
    }.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
        path.chmod(0o755)
    kind = workers(config)["gpu-l4"]["node_config"]
    assert kind["InstanceInitiatedShutdownBehavior"] == "terminate"
    environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    subprocess.run(["sh", "-c", kind["UserData"]], env=environment, check=True, timeout=30)
    assert (tmp_path / "ended").read_text(encoding="utf-8").split() == ["-h", "now"]
    assert (tmp_path / "minutes").read_text(encoding="utf-8").count("\n") == ended_after


def test_rays_files_are_in_a_folder_of_its_users_own(config):
    assert "chmod 700 ~/.ray &&" in " ".join(config["setup_commands"])
    for part in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = [line for line in config[part] if "ray start" in line]
        assert "RAY_TMPDIR=$HOME/.ray" in start
        assert "--temp-dir=$RAY_TMPDIR/ray" in start


def test_it_installs_what_is_locked_and_the_synced_checkout(config):
    packages, duel = [line for line in config["setup_commands"] if "pip install" in line]
    assert packages.startswith("cd ~/checkout && ")
    assert packages.endswith("--require-hashes -r locked/cluster.txt")
    assert duel.endswith("--no-deps --no-build-isolation -e .")


def test_only_what_the_package_needs_is_synced(config):
    """Ray hashes and copies whole folders, so nothing large or private may lie under a mount."""
    mounts = {local: remote for remote, local in config["file_mounts"].items()}
    assert not {".", "./", ".git", ".venv", "reports", "shared"} & set(mounts)
    assert {"duel", "sweeps", "pyproject.toml", "locked"} <= set(mounts)
    assert all(mounts[local] == f"~/checkout/{local}" for local in mounts if not local.startswith("~"))


def test_what_is_synced_exists_and_suffices_for_a_build(config):
    """Ray reads the mounts only after it has started the head: a missing one is found too late there."""
    project = ROOT / "pyproject.toml"
    if not project.exists():
        pytest.skip("no pyproject.toml in this checkout")
    mounts = set(config["file_mounts"].values())
    for local in mounts:
        assert local.startswith("~") or (ROOT / local).exists(), local
    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    readme = table.get("readme", "README.md")
    assert (readme if isinstance(readme, str) else readme["file"]) in mounts
    assert set(table.get("license-files", [])) <= mounts


def test_ray_version_is_the_locked_one():
    assert f"\nray=={version('ray')} " in (ROOT / "locked" / "cluster.txt").read_text(encoding="utf-8")
    assert f"Ray {version('ray')}" in TEXT.split("\n\n")[0]


@pytest.mark.parametrize("key", COMMANDS)
def test_commands_are_shell(config, key):
    for line in config.get(key, []):
        done = subprocess.run(["bash", "-n", "-c", line], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), line


def test_setup_can_run_again(config, tmp_path):
    """The set-up commands themselves, twice, in a home where pip and sudo only note that they were called."""
    calls = tmp_path / "calls"
    for stub in ("duel-env/bin/pip", "bin/sudo"):
        path = tmp_path / stub
        path.parent.mkdir(parents=True)
        path.write_text(f'#!/bin/sh\necho "$(basename $0) $*" >> {calls}\n', encoding="utf-8")
        path.chmod(0o755)
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("secret", encoding="utf-8")
    (tmp_path / "checkout").mkdir()
    environment = {"HOME": str(tmp_path), "PATH": f"{tmp_path / 'bin'}:/usr/local/bin:/usr/bin:/bin"}
    for line in 2 * (config["setup_commands"] + config["head_setup_commands"]):
        subprocess.run(["bash", "-c", line], env=environment, check=True, timeout=30)
    assert token.stat().st_mode & 0o777 == 0o600
    assert calls.read_text(encoding="utf-8").count("pip install -q --require-hashes -r locked/cluster.txt") == 2
    lines = (tmp_path / ".bashrc").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(set(lines)) == 2, "each line once, however often it ran"


# --- the same file against moto, a stand-in for AWS's interface in this process ---


@pytest.fixture
def aws(monkeypatch, tmp_path) -> Iterator[Any]:
    """A moto account with what steps 3 and 4 of cluster.yaml make: (ec2 client, iam client, group ID)."""
    moto, boto3 = pytest.importorskip("moto"), pytest.importorskip("boto3")
    from ray.autoscaler._private.aws import utils

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes its key pair to ~/.ssh
    caches = (utils.resource_cache, utils.client_cache)  # a client from outside moto would call the real AWS
    with moto.mock_aws():
        for cache in caches:
            cache.cache_clear()
        region = yaml.safe_load(TEXT)["provider"]["region"]
        ec2, iam = boto3.client("ec2", region), boto3.client("iam", region)
        for profile in ("duel-head", "duel-worker"):
            iam.create_instance_profile(InstanceProfileName=profile)
        vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        group = ec2.create_security_group(GroupName="duel", Description="duel", VpcId=vpc)["GroupId"]
        ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "203.0.113.7/32"}]}
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[ssh])
        yield ec2, iam, group
        for cache in caches:
            cache.cache_clear()


def provider_class() -> Any:
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    return AWSNodeProvider


def fill_in(group: str) -> dict[str, Any]:
    """The file as a user has it who put the ID of their security group in."""
    assert TEXT.count("sg-FILL-ME-IN") == 1
    return yaml.safe_load(TEXT.replace("sg-FILL-ME-IN", group))


def check_launch(ec2: Any, provider: Any, node: dict[str, Any], group: str, lifecycle: str | None) -> None:
    """Launches one machine and compares what the account then holds with what the file says."""
    (created,) = provider.create_node(node, {}, 1)
    (machine,) = ec2.describe_instances(InstanceIds=[created])["Reservations"][0]["Instances"]
    assert machine["InstanceType"] == node["InstanceType"]
    assert machine.get("InstanceLifecycle") == lifecycle
    assert machine["MetadataOptions"]["HttpTokens"] == "required"
    assert [one["GroupId"] for one in machine["SecurityGroups"]] == [group]
    assert machine["IamInstanceProfile"]["Arn"].endswith("/" + node["IamInstanceProfile"]["Name"])
    attached = [{"Name": "attachment.instance-id", "Values": [created]}]
    disks = ec2.describe_volumes(Filters=attached)["Volumes"]
    assert [(disk["Encrypted"], disk["VolumeType"]) for disk in disks] == [(True, "gp3")]


def test_every_machine_launches_as_written(aws):
    ec2, iam, group = aws
    groups_before = {one["GroupId"] for one in ec2.describe_security_groups()["SecurityGroups"]}
    config = provider_class().bootstrap_config(prepare_config(fill_in(group)))
    provider = provider_class()(config["provider"], config["cluster_name"])
    check_launch(ec2, provider, head(config)["node_config"], group, None)
    for kind in workers(config).values():
        assert len(kind["node_config"]["SubnetIds"]) > 1, "more than one zone to find spot capacity in"
        check_launch(ec2, provider, kind["node_config"], group, "spot")

    groups = {one["GroupId"]: one for one in ec2.describe_security_groups()["SecurityGroups"]}
    assert set(groups) == groups_before, "Ray made a group of its own"
    ranges = [cidr["CidrIp"] for rule in groups[group]["IpPermissions"] for cidr in rule["IpRanges"]]
    assert ranges == ["203.0.113.7/32"]
    assert iam.list_roles()["Roles"] == [], "Ray made a role of its own"

    provider.terminate_nodes(list(provider.non_terminated_nodes({})))
    assert provider.non_terminated_nodes({}) == []


def test_resources_are_those_of_the_instance_types(aws):
    config = prepare_config(yaml.safe_load(TEXT))
    stated = {name: kind["resources"] for name, kind in workers(config).items()}
    for kind in workers(config).values():
        kind["resources"] = {}
    config = provider_class().fillout_available_node_types_resources(config)
    assert head(config)["resources"] == {"CPU": 0}, "Ray's own count must not come back"
    found = {name: kind["resources"] for name, kind in workers(config).items()}
    assert {name: {key: found[name][key] for key in stated[name]} for name in stated} == stated


def test_it_goes_nowhere_unless_filled_in(aws, capfd):
    ec2, _, _ = aws
    with pytest.raises(Exception):  # noqa: B017  (Ray prints the reason, its exception has no text)
        provider_class().bootstrap_config(prepare_config(yaml.safe_load(TEXT)))
    assert "Failed to detect a security group" in capfd.readouterr().err
    assert ec2.describe_instances()["Reservations"] == []
