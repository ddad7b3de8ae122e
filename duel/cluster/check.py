"""What is wrong with a cluster file, found before `ray up` spends money on it.

A rule is a function from the file's settings to the faults it finds. Nothing here asks AWS or any machine.
"""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import jsonschema
import ray.autoscaler

from duel.cluster import check_aws
from duel.cluster.file import PLACEHOLDER, START, Config, lines, starts, strings
from duel.cluster.network import wide

Rule = Callable[[Config, Path], Iterator[str]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN = "~/.ray/auth_token"
TOKEN_MODE = "RAY_AUTH_MODE=token"
TEMP = "~/.ray/ray, in the folder of the secret that nobody else may enter"
SHARED = ("/tmp", "/var/tmp", "/dev/shm")
COMMANDS = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands", *START)
PIN = re.compile(r"^([\w.-]+)==([\w.+!-]+)", re.MULTILINE)


def faults(config: Config, folder: Path) -> list[str]:
    """All that is wrong with the settings of a file that lies in `folder`: 'KEY: what is wrong, what is allowed'.

    Where Ray itself would refuse the file, only these faults: the others are of a file that has the right shape.
    """
    if found := list(shape(config)):
        return found
    kind = config["provider"]["type"]
    if kind not in RULES:
        return [f"provider.type: this check knows {' and '.join(RULES)}, got {kind!r}"]
    return [fault for rule in (*EVERYWHERE, *RULES[kind]) for fault in rule(config, folder)]


def shape(config: Config) -> Iterator[str]:
    """What Ray's own schema says is wrong, and of a file for AWS that its head is one of its machines."""
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


def _open_to_the_world(config: Config, folder: Path) -> Iterator[str]:
    for key, text in strings(config):
        if key != "metadata.fill_in.ssh_from":  # which has a rule of its own
            for found in wide(text):
                yield f"{key}: {found} is a part of the internet; give the address that you come from, as A.B.C.D/32"


def _left_to_fill_in(config: Config, folder: Path) -> Iterator[str]:
    places = {text: key for key, text in reversed(list(strings(config))) if PLACEHOLDER in text}
    for text, key in reversed(places.items()):  # the first place of each, as YAML's aliases repeat it
        yield f"{key}: still to be filled in, got {text!r}; the file's first lines say with what"


def _commands(config: Config, folder: Path) -> Iterator[str]:
    """Lines that bash can't parse fail on every machine, after it has been paid for."""
    for key in COMMANDS:
        for at, line in lines(config, key):
            done = subprocess.run(["bash", "-n", "-c", line], capture_output=True, text=True, check=False)
            if done.returncode:
                yield f"{at}: not a shell command: {' '.join(done.stderr.split())}"


def _head_runs_no_trials(config: Config, folder: Path) -> Iterator[str]:
    for key, line in starts(config, START[0]):
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
        found = starts(config, part)
        if not found:
            yield f"{part}: no line starts Ray with `ray start`"
        for key, line in found:
            if TOKEN_MODE not in line.split("ray start")[0]:
                yield f"{key}: `export {TOKEN_MODE}` must come before `ray start`, or Ray starts open to all"
    if TOKEN_MODE not in " ".join(config.get("setup_commands") or []):
        yield f"setup_commands: no line puts {TOKEN_MODE} into ~/.bashrc, so no league could join the cluster"
    mounts = config.get("file_mounts") or {}
    if TOKEN not in mounts:
        yield f'file_mounts: the secret is missing; add "{TOKEN}": {TOKEN}'


def _temporary_files(config: Config, folder: Path) -> Iterator[str]:
    """Ray's sockets and spilled objects let in whoever on the machine reaches them: Ray opens their folder to all."""
    for part in START:
        for key, line in starts(config, part):
            places = re.findall(r"(?:--temp-dir[= ]|RAY_TMPDIR=)(\S+)", line.replace(";", " "))
            if "--temp-dir" not in line or any(place.startswith(SHARED) for place in places):
                got = " and ".join(places) if "--temp-dir" in line else "none, which is /tmp/ray"
                yield f"{key}: `ray start` must have its --temp-dir in {TEMP}; got {got}"
            elif "RAY_TMPDIR=" not in line.split("ray start")[0]:
                yield f"{key}: `export RAY_TMPDIR=$HOME/.ray` must come before `ray start`, or others can't find it"
    setup = " ".join(config.get("setup_commands") or [])
    if "RAY_TMPDIR=" not in setup:
        yield "setup_commands: no line puts RAY_TMPDIR into ~/.bashrc, so no league could find the cluster"
    if "chmod 700 ~/.ray" not in setup:
        yield "setup_commands: no line closes the folder of Ray's files and secret to others: chmod 700 ~/.ray"


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
    """What the machines install: locked files, this checkout, and the Ray that `ray up` runs with."""
    installs = [(key, line) for key, line in lines(config, "setup_commands") if "pip install" in line]
    if not any("--no-deps" in line and re.search(r"-e \S*\.|-e \S*checkout", line) for _, line in installs):
        yield "setup_commands: no line installs this checkout: pip install --no-deps --no-build-isolation -e ."
    for key, line in installs:
        if "--no-deps" not in line and "--require-hashes" not in line:
            yield f"{key}: pip would take whatever it is given; say --require-hashes -r locked/cluster.txt, got {line}"
    lists = [(key, name) for key, line in installs for name in re.findall(r"-r (\S+)", line)]
    pins: dict[str, str] = {}
    for key, name in lists:
        if (folder / name).exists():
            pins |= dict(PIN.findall((folder / name).read_text(encoding="utf-8")))
        else:
            yield f"{key}: there is no {name}"
    if (ray := pins.get("ray")) != version("ray"):
        named = " and ".join(name for _, name in lists) or "no locked list"
        yield f"setup_commands: {named} installs ray {ray}, but `ray up` runs here with ray {version('ray')}"


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
    _left_to_fill_in, _open_to_the_world, _commands, _head_runs_no_trials, _authentication,
    _temporary_files, _mounts, _versions,
)  # fmt: skip
RULES: dict[str, tuple[Rule, ...]] = {
    "aws": (
        check_aws.ssh_from, check_aws.machines_are_closed, check_aws.profiles, check_aws.markets,
        check_aws.orphans_end, check_aws.requests,
    ),
    "local": (_own_machines,),
}  # fmt: skip
