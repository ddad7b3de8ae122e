"""The Ray cluster a run works on: one that is joined, or this machine alone; kept quiet."""

import logging
import os
import platform
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray

from duel.config import Resources
from duel.errors import UsageError


@dataclass(frozen=True)
class Cluster:
    """What Ray has to offer at this moment."""

    joined: bool
    nodes: int
    cpus: int
    gpus: int
    gpu_names: list[str]
    cpu_model: str
    memory_gib: float

    def hardware(self) -> dict:
        """As it goes into run.json."""
        return {key: value for key, value in asdict(self).items() if key != "joined"}

    def fit(self, wanted: Resources) -> dict[str, float]:
        """The cpu and gpu that one trial reserves here.

        On this machine alone a GPU that is not there counts as 0 and CPUs are no more than there are. A joined
        cluster may still grow, so it is asked for what the sweep file says.
        """
        if self.joined:
            return {"cpu": wanted.cpu, "gpu": wanted.gpu}
        return {"cpu": min(wanted.cpu, self.cpus), "gpu": wanted.gpu if self.gpus else 0.0}


def connect(address: str | None) -> Cluster:
    """Join the cluster at `address` (or RAY_ADDRESS), else start Ray on this machine with all that it has.

    UsageError where no cluster answers at the address.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # a task that reserves no GPU sees none
    os.environ.setdefault("RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune's own tables, which verbose=0 alone does not stop
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address:
        _check_reachable(address)
    try:
        options: dict[str, Any] = {} if address else {"include_dashboard": False}
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())[:300]
        raise UsageError(f"--address {address}: can't join a Ray cluster there: {text}") from None
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return describe(joined=address is not None)


def _check_reachable(address: str) -> None:
    """Ray itself tries a dead address for minutes before it gives up."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        if address not in ("auto", "local"):
            raise UsageError(f"--address {address}: use auto, or HOST:PORT of a cluster's head, e.g. 10.0.0.5:6379")
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UsageError(f"--address {address}: no cluster answers there: {error}") from None


def describe(joined: bool) -> Cluster:
    """The connected cluster's nodes and what they have."""
    resources, nodes = ray.cluster_resources(), [n for n in ray.nodes() if n["Alive"]]
    names = sorted(key.split(":", 1)[1] for key in resources if key.startswith("accelerator_type:"))
    return Cluster(
        joined=joined,
        nodes=len(nodes),
        cpus=int(resources.get("CPU", 0)),
        gpus=int(resources.get("GPU", 0)),
        gpu_names=names,
        cpu_model=cpu_model(),
        memory_gib=round(sum(n["Resources"].get("memory", 0) + n["Resources"].get("object_store_memory", 0)
                             for n in nodes) / 2**30, 1),
    )  # fmt: skip


def cpu_model() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def disconnect() -> None:
    """Leave the cluster; ends Ray where this process started it."""
    ray.shutdown()
