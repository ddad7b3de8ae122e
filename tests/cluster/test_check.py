"""`python -m duel.cluster check`: what is wrong with a cluster file is found before it costs anything."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import MOUNTED
from league_runs import ROOT
from typer.testing import CliRunner

from duel.cluster.__main__ import app
from duel.cluster.check import faults
from duel.cluster.prices import ON_DEMAND, hourly

pytest.importorskip("boto3")


FILLED_IN = {"sg-FILL-ME-IN": "sg-0123456789abcdef0", "CIDR-FILL-ME-IN": "203.0.113.7/32", "BUCKET-FILL-ME-IN": "faces"}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A checkout with cluster.yaml filled in, and the secret that it wants."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    token = tmp_path / "home" / ".ray" / "auth_token"
    token.parent.mkdir(parents=True)
    token.write_text("secret")
    token.chmod(0o600)
    for name in MOUNTED:
        (tmp_path / name).symlink_to(ROOT / name)
    text = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
    for placeholder, value in FILLED_IN.items():
        assert text.count(placeholder) == 1
        text = text.replace(placeholder, value)
    (tmp_path / "cluster.yaml").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def config(folder) -> dict[str, Any]:
    return unaliased(yaml.safe_load((folder / "cluster.yaml").read_text(encoding="utf-8")))


def unaliased(value: Any) -> Any:
    """YAML's aliases are one object in several places; a planted fault should be in one."""
    return yaml.safe_load(yaml.dump(value, Dumper=NoAliases))


class NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True


def plant(config: dict[str, Any], path: str, value: Any) -> None:
    """Set the key at `path` (parts joined by /), or take it away where value is None."""
    *parents, last = path.split("/")
    at: Any = config
    for name in parents:
        at = at[int(name) if isinstance(at, list) else name]
    if value is None:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value


CLOSED = "export RAY_AUTH_MODE=token RAY_TMPDIR=$HOME/.ray; ray start --temp-dir=$RAY_TMPDIR/ray"
L4, HEAD = "available_node_types/gpu-l4", "available_node_types/head"
PLANTED: dict[str, tuple[str, Any, list[str]]] = {  # what: (key, value, what the one fault must say)
    "an unknown key": ("idle_timeout_minuets", 5, ["idle_timeout_minuets: unknown key", "idle_timeout_minutes"]),
    "an unknown key of auth": ("auth/ssh_usr", "x", ["auth.ssh_usr: unknown key", "ssh_user"]),
    "a wrong type": ("max_workers", "eight", ["max_workers", "eight", "integer"]),
    "a head that is no node type": ("head_node_type", "haed", ["head_node_type", "haed", "gpu-l4"]),
    "another cloud": ("provider/type", "gcp", ["provider.type", "gcp", "aws and local"]),
    "left to fill in": (
        f"{L4}/node_config/ImageId",
        "ami-FILL-ME-IN",
        ["gpu-l4.node_config.ImageId", "ami-FILL-ME-IN"],
    ),
    "open to the world": ("metadata/fill_in/ssh_from", "0.0.0.0/0", ["fill_in.ssh_from", "0.0.0.0/0", "/32"]),
    "open to the IPv6 world": ("metadata/fill_in/ssh_from", "::/0", ["fill_in.ssh_from", "::/0"]),
    "from no network": ("metadata/fill_in/ssh_from", "203.0.113.700", ["fill_in.ssh_from", "203.0.113.700", "/32"]),
    "a group of Ray's": (f"{L4}/node_config/SecurityGroupIds", None, ["gpu-l4.node_config.SecurityGroupIds", "SSH"]),
    "a group that Ray fills": ("provider/security_group", {"GroupName": "x"}, ["provider.security_group", "SSH"]),
    "a head with Ray's role": (
        f"{HEAD}/node_config/IamInstanceProfile",
        None,
        ["head.node_config.IamInstanceProfile", "full access"],
    ),
    "workers without a role": (
        f"{L4}/node_config/IamInstanceProfile",
        None,
        ["gpu-l4.node_config.IamInstanceProfile", "--storage"],
    ),
    "IMDSv1": (f"{L4}/node_config/MetadataOptions/HttpTokens", "optional", ["HttpTokens", "required", "'optional'"]),
    "a plain disk": (f"{L4}/node_config/BlockDeviceMappings/0/Ebs/Encrypted", False, ["[0].Ebs.Encrypted", "False"]),
    "a disk that stays": (
        f"{L4}/node_config/BlockDeviceMappings/0/Ebs/DeleteOnTermination",
        None,
        ["DeleteOnTermination", "None"],
    ),
    "the image's disk": (f"{L4}/node_config/BlockDeviceMappings", [], ["BlockDeviceMappings: missing"]),
    "a head on spot": (
        f"{HEAD}/node_config/InstanceMarketOptions",
        {"MarketType": "spot"},
        ["head.node_config.InstanceMarketOptions", "on demand"],
    ),
    "a head with CPUs": (f"{HEAD}/resources/CPU", 4, ["head.resources.CPU", "trials", "4"]),
    "a head whose CPUs Ray counts": (f"{HEAD}/resources", {}, ["head.resources.CPU", "None"]),
    "a head that starts with CPUs": (
        "head_start_ray_commands/1",
        f"{CLOSED} --head",
        ["head_start_ray_commands[1]", "--num-cpus=0"],
    ),
    "an open dashboard": (
        "head_start_ray_commands/1",
        f"{CLOSED} --head --num-cpus=0 --dashboard-host=0.0.0.0",
        ["--dashboard-host", "0.0.0.0"],
    ),
    "a head without a secret": (
        "head_start_ray_commands/1",
        CLOSED.replace("RAY_AUTH_MODE=token ", "") + " --head --num-cpus=0",
        ["head_start_ray_commands[1]", "RAY_AUTH_MODE=token"],
    ),
    "workers without a secret": (
        "worker_start_ray_commands/1",
        CLOSED.replace("RAY_AUTH_MODE=token ", "") + " --address=$RAY_HEAD_IP:6379",
        ["worker_start_ray_commands[1]", "RAY_AUTH_MODE=token"],
    ),
    "a Ray that never starts": (
        "worker_start_ray_commands",
        ["ray stop"],
        ["worker_start_ray_commands: no line starts Ray"],
    ),
    "no secret to copy": ("file_mounts/~/.ray/auth_token", None, ["file_mounts", "auth_token"]),
    "a mount that is not there": ("file_mounts/there", "not-here", ["file_mounts.there", "not-here"]),
    "packages of any version": (
        "setup_commands/3",
        "cd ~/checkout && pip install -r locked/cluster.txt",
        ["setup_commands[3]", "--require-hashes"],
    ),
    "a list that is not there": (
        "setup_commands/4",
        "pip install --require-hashes -r locked/more.txt && pip install --no-deps -e .",
        ["setup_commands[4]", "there is no locked/more.txt"],
    ),
    "no list": ("setup_commands/3", "true", ["no locked list", "ray None", "2.60.0"]),
    "no checkout": ("setup_commands/4", "true", ["setup_commands", "--no-deps", "-e ."]),
    "a line that is no shell": (
        "head_setup_commands/0",
        "if true; then",
        ["head_setup_commands[0]", "not a shell command"],
    ),
    "no workers": ("max_workers", 0, ["max_workers", "no worker"]),
    "workers with nothing": (f"{L4}/resources", {"CPU": 0}, ["gpu-l4.resources", "CPUs and GPUs"]),
    "stopped machines": ("provider/cache_stopped_nodes", True, ["cache_stopped_nodes", "false"]),
    "what EC2 does not know": (f"{L4}/node_config/InstancType", "g6.xlarge", ["gpu-l4.node_config", "InstancType"]),
    "what EC2 can't read": (f"{L4}/node_config/InstanceType", 6, ["gpu-l4.node_config", "InstanceType"]),
    "no token for drivers": ("setup_commands/6", "echo RAY_TMPDIR=x >> ~/.bashrc", ["RAY_AUTH_MODE", "~/.bashrc"]),
    "a half of the world": ("metadata/fill_in/ssh_from", "128.0.0.0/1", ["fill_in.ssh_from", "128.0.0.0/1", "/16"]),
    "the other half": ("metadata/fill_in/ssh_from", "0.0.0.0/1", ["fill_in.ssh_from", "0.0.0.0/1"]),
    "an IPv6 part of the world": ("metadata/fill_in/ssh_from", "2000::/3", ["fill_in.ssh_from", "2000::/3", "/32"]),
    "a command that lets the world in": (
        "head_setup_commands/0",
        "sudo ufw allow from 128.0.0.0/1 to any port 6379",
        ["head_setup_commands[0]", "128.0.0.0/1"],
    ),
    "another cluster's role": (
        f"{L4}/node_config/IamInstanceProfile",
        {"Name": "other-worker"},
        ["gpu-l4.node_config.IamInstanceProfile", "duel-worker", "other-worker"],
    ),
    "workers as the head": (
        f"{L4}/node_config/IamInstanceProfile",
        {"Name": "duel-head"},
        ["gpu-l4.node_config.IamInstanceProfile", "duel-worker", "duel-head"],
    ),
    "a name that AWS would not take": ("cluster_name", "faces/*", ["cluster_name", "'faces/*'", "letters"]),
    "a shutdown that only stops": (
        f"{L4}/node_config/InstanceInitiatedShutdownBehavior",
        "stop",
        ["gpu-l4.node_config.InstanceInitiatedShutdownBehavior", "terminate", "'stop'"],
    ),
    "workers that outlive their head": (f"{L4}/node_config/UserData", None, ["gpu-l4.node_config.UserData", "raylet"]),
    "Ray's files where Ray puts them": (
        "head_start_ray_commands/1",
        CLOSED.replace(" --temp-dir=$RAY_TMPDIR/ray", " --head --num-cpus=0"),
        ["head_start_ray_commands[1]", "--temp-dir", "/tmp/ray"],
    ),
    "Ray's files where others are": (
        "worker_start_ray_commands/1",
        CLOSED.replace("$RAY_TMPDIR", "/tmp/mine") + " --address=$RAY_HEAD_IP:6379",
        ["worker_start_ray_commands[1]", "--temp-dir", "/tmp/mine"],
    ),
    "Ray's files where others are, by another name": (
        "worker_start_ray_commands/1",
        CLOSED.replace("$HOME/.ray", "/dev/shm/me") + " --address=$RAY_HEAD_IP:6379",
        ["worker_start_ray_commands[1]", "--temp-dir", "/dev/shm/me"],
    ),
    "Ray's files where nobody looks": (
        "worker_start_ray_commands/1",
        CLOSED.replace(" RAY_TMPDIR=$HOME/.ray", "") + " --address=$RAY_HEAD_IP:6379",
        ["worker_start_ray_commands[1]", "RAY_TMPDIR=$HOME/.ray"],
    ),
    "a folder that is open": ("setup_commands/5", "true", ["setup_commands", "chmod 700 ~/.ray"]),
    "no folder for drivers": ("setup_commands/6", "echo RAY_AUTH_MODE=token >> ~/.bashrc", ["RAY_TMPDIR", "~/.bashrc"]),
}


def test_the_projects_own_file_filled_in_has_no_fault(config, folder):
    assert faults(config, folder) == []


def test_as_it_comes_it_only_waits_to_be_filled_in(folder):
    found = faults(yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8")), folder)
    assert [fault.split(":")[0].rpartition(".")[2] for fault in found] == ["ssh_from", "bucket", "security_group"]
    assert all("FILL-ME-IN" in fault for fault in found)


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_fault_is_found_and_nothing_else(what, config, folder):
    path, value, words = PLANTED[what]
    if path == "file_mounts/~/.ray/auth_token":
        del config["file_mounts"]["~/.ray/auth_token"]
    else:
        plant(config, path, value)
    (fault,) = faults(config, folder)
    for word in words:
        assert word in fault


def test_every_fault_has_a_message_of_its_own(config, folder):
    found = []
    for path, value, _ in PLANTED.values():
        if "auth_token" not in path:
            broken = unaliased(config)
            plant(broken, path, value)
            found += faults(broken, folder)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("own", ["203.0.113.7/32", "198.51.0.0/16", "10.0.0.0/8", "100.64.0.0/10", "2001:db8::/32"])
def test_a_network_of_ones_own_may_reach_ssh(own, config, folder):
    config["metadata"]["fill_in"]["ssh_from"] = own
    assert faults(config, folder) == []


def test_a_cluster_of_another_name_has_roles_of_that_name(config, folder):
    config["cluster_name"] = "race"
    assert len(faults(config, folder)) == 3
    for name, kind in config["available_node_types"].items():
        kind["node_config"]["IamInstanceProfile"]["Name"] = "race-head" if name == "head" else "race-worker"
    assert faults(config, folder) == []


def test_ones_own_machines_keep_rays_files_to_themselves(folder):
    config = yaml.safe_load((ROOT / "cluster-local.yaml").read_text(encoding="utf-8"))
    config["provider"] |= {"head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2"]}
    config["auth"] = {"ssh_user": "me"}
    assert faults(config, folder) == []
    for part in ("head_start_ray_commands", "worker_start_ray_commands"):
        config[part][1] = config[part][1].replace("--temp-dir=$RAY_TMPDIR/ray", "")
    assert [fault.split(":")[0] for fault in faults(config, folder)] == [
        "head_start_ray_commands[1]", "worker_start_ray_commands[1]",
    ]  # fmt: skip


def test_a_secret_that_others_can_read_or_that_is_missing(config, folder):
    token = folder / "home" / ".ray" / "auth_token"
    token.chmod(0o644)
    (fault,) = faults(config, folder)
    assert "chmod 600" in fault
    token.unlink()
    (fault,) = faults(config, folder)
    assert "ray get-auth-token --generate" in fault


def test_another_ray_than_here(config, folder):
    locked = (folder / "locked" / "cluster.txt").read_text(encoding="utf-8")
    (folder / "locked").unlink()
    (folder / "locked").mkdir()
    (folder / "locked" / "cluster.txt").write_text(locked.replace("ray==2.60.0", "ray==2.9.0"), encoding="utf-8")
    (fault,) = faults(config, folder)
    assert "locked/cluster.txt installs ray 2.9.0" in fault
    assert "2.60.0" in fault


def test_a_whole_checkout_is_not_copied(config, folder):
    (folder / ".git").mkdir()
    config["file_mounts"]["~/all"] = "."
    (fault,) = faults(config, folder)
    assert "whole checkout" in fault


def test_the_command_says_what_it_found_and_what_the_cluster_costs(folder):
    done = subprocess.run([sys.executable, "-m", "duel.cluster", "check", folder / "cluster.yaml"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing wrong" in done.stdout
    assert "$0.19 an hour" in done.stdout
    (folder / "cluster.yaml").write_text(
        (folder / "cluster.yaml").read_text(encoding="utf-8").replace("HttpTokens: required", "HttpTokens: optional")
    )
    done = CliRunner().invoke(app, ["check", str(folder / "cluster.yaml")])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.count("HttpTokens") == 3  # a line a node type
    assert str(folder / "cluster.yaml") in done.stderr


@pytest.mark.parametrize(("content", "says"), [(None, "can't be read"), ("a: [", "not a YAML"), ("- 1", "settings")])
def test_what_is_no_cluster_file_is_wrong_usage(content, says, tmp_path):
    if content is not None:
        (tmp_path / "x.yaml").write_text(content)
    done = CliRunner().invoke(app, ["check", str(tmp_path / "x.yaml")])
    assert done.exit_code == 2
    assert says in done.stderr


def test_the_price_is_of_the_fewest_and_of_the_dearest_machines(config):
    head, l4, a10g = (ON_DEMAND[kind] for kind in ("m6i.xlarge", "g6.2xlarge", "g5.2xlarge"))
    assert f"${head:.2f} an hour" in hourly(config)
    assert f"${head + 8 * a10g:.2f} with 8 workers" in hourly(config)
    config["available_node_types"]["gpu-a10g"]["max_workers"] = 3
    config["available_node_types"]["gpu-l4"]["min_workers"] = 1
    assert f"${head + l4:.2f} an hour" in hourly(config)
    assert f"${head + 3 * a10g + 5 * l4:.2f} with 8 workers" in hourly(config)


def test_a_price_that_is_not_known_is_not_made_up(config):
    config["provider"]["region"] = "eu-central-1"
    assert "not known for the region eu-central-1" in hourly(config)
    config["provider"]["region"] = "us-east-1"
    config["available_node_types"]["gpu-l4"]["node_config"]["InstanceType"] = "p9.huge"
    assert "not known for p9.huge" in hourly(config)
    assert "$" not in hourly({"provider": {"type": "local"}})
