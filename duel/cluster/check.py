"""What is wrong with a cluster file, found before `ray up` spends money on it.

A rule is a function from the file's settings to the faults it finds. Nothing here asks AWS or any machine.
"""

import ipaddress
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import ray.autoscaler

from duel.errors import UsageError

Config = dict[str, Any]
Rule = Callable[[Config, Path], Iterator[str]]

WORLD = {"0.0.0.0/0", "::/0"}
PLACEHOLDER = "FILL-ME-IN"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN = "~/.ray/auth_token"
TOKEN_MODE = "RAY_AUTH_MODE=token"
START = ("head_start_ray_commands", "worker_start_ray_commands")
COMMANDS = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands", *START)
PIN = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[\w,-]*\])?==([\w.+!-]+)")


def faults(config: Config, folder: Path) -> list[str]:
    """All that is wrong with the settings of a file that lies in `folder`: 'KEY: what is wrong, what is allowed'.

    Where Ray itself would refuse the file, only these faults: the others are of a file that has the right shape.
    """
    if shape := list(_shape(config)):
        return shape
    kind = config["provider"]["type"]
    if kind not in RULES:
        return [f"provider.type: this check knows {' and '.join(RULES)}, got {kind!r}"]
    return [fault for rule in (*EVERYWHERE, *RULES[kind]) for fault in rule(config, folder)]


def _shape(config: Config) -> Iterator[str]:
    """What Ray's own schema says."""
    schema = json.loads(Path(ray.autoscaler.__file__).with_name("ray-schema.json").read_text(encoding="utf-8"))
    for error in jsonschema.Draft7Validator(schema).iter_errors(config):
        key = ".".join(map(str, error.absolute_path))
        if error.validator == "additionalProperties":
            known = sorted(error.schema["properties"])
            for name in sorted(set(error.instance) - set(known)):
                yield f"{f'{key}.' * bool(key)}{name}: unknown key; allowed here are {', '.join(known)}"
        else:
            yield f"{key or 'file'}: {error.message}"
    if config.get("provider", {}).get("type") == "aws":
        types, head = config.get("available_node_types") or {}, config.get("head_node_type")
        if head not in types:
            yield f"head_node_type: must be one of available_node_types ({', '.join(types) or 'none'}), got {head!r}"


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every (key, string) in the settings."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _strings(part, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _strings(part, f"{key}[{number}]")
    elif isinstance(value, str):
        yield key, value


def _open_to_the_world(config: Config, folder: Path) -> Iterator[str]:
    for key, text in _strings(config):
        if WORLD & set(text.split()):
            yield f"{key}: {text} is the whole internet; give the address that you come from, as A.B.C.D/32"


def network(text: Any) -> str:
    """The CIDR that SSH is limited to. UsageError unless it is one, and not the whole internet."""
    try:
        found = ipaddress.ip_network(str(text))
    except ValueError:
        found = None
    if found is None or found.prefixlen == 0:
        raise UsageError(
            f"metadata.fill_in.ssh_from: must be the address that you come from, as 203.0.113.7/32, got {text!r}"
        )
    return str(found)


def filled_in(config: Config) -> Config:
    """What the user has put into cluster.yaml's metadata.fill_in; empty in a file without it."""
    return (config.get("metadata") or {}).get("fill_in") or {}


def _ssh_from(config: Config, folder: Path) -> Iterator[str]:
    text = str(filled_in(config).get("ssh_from", PLACEHOLDER))
    if text not in WORLD and PLACEHOLDER not in text:
        try:
            network(text)
        except UsageError as error:
            yield str(error)


def _left_to_fill_in(config: Config, folder: Path) -> Iterator[str]:
    places = {text: key for key, text in reversed(list(_strings(config))) if PLACEHOLDER in text}
    for text, key in reversed(places.items()):  # the first place of each, as YAML's aliases repeat it
        yield f"{key}: still to be filled in, got {text!r}; the file's first lines say with what"


def _lines(config: Config, key: str) -> list[tuple[str, str]]:
    """(key, line) of each command."""
    return [(f"{key}[{number}]", line) for number, line in enumerate(config.get(key) or [])]


def _commands(config: Config, folder: Path) -> Iterator[str]:
    """Lines that bash can't parse fail on every machine, after it has been paid for."""
    for key in COMMANDS:
        for at, line in _lines(config, key):
            done = subprocess.run(["bash", "-n", "-c", line], capture_output=True, text=True, check=False)
            if done.returncode:
                yield f"{at}: not a shell command: {' '.join(done.stderr.split())}"


def _starts(config: Config, key: str) -> list[tuple[str, str]]:
    """(key, line) of the lines that start Ray."""
    return [(at, line) for at, line in _lines(config, key) if "ray start" in line]


def _head_runs_no_trials(config: Config, folder: Path) -> Iterator[str]:
    for key, line in _starts(config, START[0]):
        if "--num-cpus=0" not in line:
            yield f"{key}: the head would take trials; `ray start --head` must say --num-cpus=0"
        host = re.search(r"--dashboard-host[= ](\S+)", line)
        if host and host[1] not in LOOPBACK:
            yield f"{key}: --dashboard-host must be {LOOPBACK[0]} (reach it by `ray dashboard`), got {host[1]}"
    kind = (config.get("available_node_types") or {}).get(config.get("head_node_type"), {})
    key = f"available_node_types.{config.get('head_node_type')}"
    if kind:
        for resource in ("CPU", "GPU"):
            have = kind.get("resources", {}).get(resource, 0 if resource == "GPU" else None)
            if have != 0:
                yield f"{key}.resources.{resource}: the head would take trials; must be 0, got {have!r}"


def _authentication(config: Config, folder: Path) -> Iterator[str]:
    """Ray's token: without it whoever reaches a port of the cluster runs code on it."""
    for part in START:
        starts = _starts(config, part)
        if not starts:
            yield f"{part}: no line starts Ray with `ray start`"
        for key, line in starts:
            if TOKEN_MODE not in line.split("ray start")[0]:
                yield f"{key}: `export {TOKEN_MODE}` must come before `ray start`, or Ray starts open to all"
    if TOKEN_MODE not in " ".join(config.get("setup_commands") or []):
        yield f"setup_commands: no line puts {TOKEN_MODE} into ~/.bashrc, so no league could join the cluster"
    mounts = config.get("file_mounts") or {}
    if TOKEN not in mounts:
        yield f'file_mounts: the secret is missing; add "{TOKEN}": {TOKEN}'


def _mounts(config: Config, folder: Path) -> Iterator[str]:
    for remote, local in (config.get("file_mounts") or {}).items():
        key, path = f"file_mounts.{remote}", folder / Path(local).expanduser()
        if not path.exists():
            how = "; make it with: umask 077; ray get-auth-token --generate" if remote == TOKEN else ""
            yield f"{key}: there is no {local}{how}"
        elif remote == TOKEN and path.stat().st_mode & 0o077:
            yield f"{key}: others on this machine can read {local}; chmod 600 {local}"
        elif (path / ".git").exists():
            yield f"{key}: {local} is a whole checkout; name what the machines need, as Ray copies every byte of it"


def _versions(config: Config, folder: Path) -> Iterator[str]:
    """What the machines install against this checkout's constraints and the Ray that `ray up` runs with."""
    installs = [(key, line) for key, line in _lines(config, "setup_commands") if "pip install" in line]
    if not any("-c constraints.txt" in line and re.search(r"-e \S*\.|-e \S*checkout", line) for _, line in installs):
        yield "setup_commands: no line installs this checkout with its versions: pip install -c constraints.txt -e ."
    constraints = folder / "constraints.txt"
    pins = dict(PIN.findall(constraints.read_text(encoding="utf-8"))) if constraints.exists() else {}
    pins["ray"] = version("ray")
    stated = [(key, name, number) for key, line in installs for name, number in PIN.findall(line)]
    for key, name, number in stated:
        if pins.get(name, number) != number:
            yield f"{key}: installs {name} {number}, but this checkout has {name} {pins[name]}"
    if installs and "ray" not in [name for _, name, _ in stated]:
        yield f"setup_commands: Ray's version must be named as well: 'ray[default]=={pins['ray']}'"


def _nodes(config: Config) -> Iterator[tuple[str, Config, bool]]:
    """(key, node type, whether it is the head's)."""
    for name, kind in config["available_node_types"].items():
        yield f"available_node_types.{name}", kind, name == config["head_node_type"]


def _machines_are_closed(config: Config, folder: Path) -> Iterator[str]:
    if "security_group" in config["provider"]:
        yield "provider.security_group: Ray opens SSH to the world in a group that it fills; use SecurityGroupIds"
    for key, kind, _ in _nodes(config):
        node, at = kind["node_config"], f"{key}.node_config"
        if not node.get("SecurityGroupIds"):
            yield f"{at}.SecurityGroupIds: missing; Ray would make a group whose SSH is open to the world"
        tokens = (node.get("MetadataOptions") or {}).get("HttpTokens")
        if tokens != "required":
            yield f"{at}.MetadataOptions.HttpTokens: must be required (IMDSv2), got {tokens!r}"
        disks = node.get("BlockDeviceMappings") or []
        if not disks:
            yield f"{at}.BlockDeviceMappings: missing; the image's disk is small and not encrypted"
        for number, disk in enumerate(disks):
            for name in ("Encrypted", "DeleteOnTermination"):
                if (got := disk.get("Ebs", {}).get(name)) is not True:
                    yield f"{at}.BlockDeviceMappings[{number}].Ebs.{name}: must be true, got {got!r}"


def _profiles(config: Config, folder: Path) -> Iterator[str]:
    for key, kind, is_head in _nodes(config):
        if not kind["node_config"].get("IamInstanceProfile"):
            what = (
                "Ray would give the head full access to EC2 and S3" if is_head else "workers could not reach --storage"
            )
            yield f"{key}.node_config.IamInstanceProfile: missing; {what}"


def _markets(config: Config, folder: Path) -> Iterator[str]:
    workers = 0
    for key, kind, is_head in _nodes(config):
        market = kind["node_config"].get("InstanceMarketOptions")
        if is_head and market:
            yield f"{key}.node_config.InstanceMarketOptions: the head must be on demand: the run ends with it"
        if not is_head:
            workers += min(kind.get("max_workers", config.get("max_workers", 2)), config.get("max_workers", 2))
            if not any(kind.get("resources", {}).values()):
                yield f"{key}.resources: nothing fits on such a worker; say its CPUs and GPUs"
    if not workers:
        yield "max_workers: no worker can ever come, so no trial would run"
    if config["provider"].get("cache_stopped_nodes", True):
        yield "provider.cache_stopped_nodes: must be false: stopped machines keep paid disks and old code"


@cache
def _run_instances() -> Any:
    """What EC2's request for machines may hold; reading the description takes a second."""
    from botocore.session import get_session

    return get_session().get_service_model("ec2").operation_model("RunInstances").input_shape


def _requests(config: Config, folder: Path) -> Iterator[str]:
    """What EC2 would say to the keys and types of node_config, from the description that boto3 holds."""
    try:
        from botocore.validate import ParamValidator

        request = _run_instances()
    except ImportError:
        yield "provider.type: `ray up` on AWS needs boto3 on this machine: pip install -c constraints.txt boto3"
        return
    for key, kind, _ in _nodes(config):
        node = {name: value for name, value in kind["node_config"].items() if name != "SubnetIds"}  # Ray's own
        report = ParamValidator().validate({**node, "MinCount": 1, "MaxCount": 1}, request)
        for line in report.generate_report().splitlines():
            yield f"{key}.node_config: {line.split(', must be one of')[0].split(', valid types')[0]}"


def _own_machines(config: Config, folder: Path) -> Iterator[str]:
    provider, auth = config["provider"], config.get("auth") or {}
    if not provider.get("head_ip"):
        yield "provider.head_ip: missing; the address of the machine that leads"
    workers = provider.get("worker_ips") or []
    if not workers:
        yield "provider.worker_ips: no worker is named, so no trial would run"
    if provider.get("head_ip") in workers:
        yield f"provider.worker_ips: {provider['head_ip']} is the head; it takes no trials"
    if len(set(workers)) < len(workers):
        yield f"provider.worker_ips: a machine is named twice: {', '.join(workers)}"
    key = auth.get("ssh_private_key")
    if key and not Path(key).expanduser().exists():
        yield f"auth.ssh_private_key: there is no {key}"


EVERYWHERE: tuple[Rule, ...] = (
    _left_to_fill_in, _open_to_the_world, _commands, _head_runs_no_trials, _authentication, _mounts, _versions,
)  # fmt: skip
RULES: dict[str, tuple[Rule, ...]] = {
    "aws": (_ssh_from, _machines_are_closed, _profiles, _markets, _requests),
    "local": (_own_machines,),
}
