"""What a cluster file says, for those who check it and those who make what it names."""

import re
from collections.abc import Iterator
from typing import Any

from duel.errors import UsageError

Config = dict[str, Any]

PLACEHOLDER = "FILL-ME-IN"
START = ("head_start_ray_commands", "worker_start_ray_commands")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,49}")


def filled_in(config: Config) -> Config:
    """What the user has put into cluster.yaml's metadata.fill_in; empty in a file without it."""
    return (config.get("metadata") or {}).get("fill_in") or {}


def cluster_name(config: Config) -> str:
    """The cluster's name, which roles and the security group are named after. UsageError if AWS would not take it."""
    name = config.get("cluster_name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UsageError(f"cluster_name: must be a letter, then at most 49 letters, digits and -, got {name!r}")
    return name


def strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every (key, string) in the settings."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from strings(part, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from strings(part, f"{key}[{number}]")
    elif isinstance(value, str):
        yield key, value


def lines(config: Config, key: str) -> list[tuple[str, str]]:
    """(key, line) of each command."""
    return [(f"{key}[{number}]", line) for number, line in enumerate(config.get(key) or [])]


def starts(config: Config, key: str) -> list[tuple[str, str]]:
    """(key, line) of the lines that start Ray."""
    return [(at, line) for at, line in lines(config, key) if "ray start" in line]


def nodes(config: Config) -> Iterator[tuple[str, Config, bool]]:
    """(key, node type, whether it is the head's) of a file for AWS."""
    for name, kind in config["available_node_types"].items():
        yield f"available_node_types.{name}", kind, name == config["head_node_type"]
