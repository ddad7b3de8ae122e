"""The Ray cluster a run works on: one that is joined, or this machine alone; kept quiet."""

import logging
import os
import platform
import socket
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray._private.utils import get_num_cpus  # what ray.init counts by itself; no public name

from duel.cluster import mps
from duel.config import Resources, SideSweep, places
from duel.errors import DuelError, UsageError
from duel.store import Store
from duel.tasks import Note, Room, Task, sized
from duel.watchdog import limit

# A worker process costs 3 CPU seconds to start, mostly imports. Kept idle for so long, it serves later stages too.
IDLE_MINUTES = 10
MOST_CORES = 8  # of a trial, unless its sweep asks for more: a guess, as small networks gain little from many threads


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
    mps: bool = False  # whether trials share GPUs by a daemon of this run's; those of a cluster's machines don't count

    def hardware(self) -> dict:
        """As it goes into run.json."""
        return {key: value for key, value in asdict(self).items() if key != "joined"}

    def fit(self, wanted: Resources) -> Room:
        """The cpu and gpu that one task reserves here, of what the sweep file says.

        CPUs are no more than this machine has, and where there is no GPU the GPU counts as 0. A joined cluster
        without a single CPU is one whose workers are still to come (cluster.yaml's head runs no trials): it is
        asked for what the sweep file says.
        """
        if self.joined and not self.cpus:
            return {"cpu": wanted.cpu, "gpu": wanted.gpu}
        cpu = wanted.cpu if self.joined else min(wanted.cpu, self.cpus)
        return {"cpu": cpu, "gpu": min(wanted.gpu, self.gpus)}

    def fit_trials(self, side: SideSweep, count: int) -> Room:
        """The cpu and gpu that each of a side's `count` trials reserves here.

        On this machine alone they share out the cores that would lie idle, as many trials running at once as before.
        The number of cores decides the last digits of a training on CPUs, so it follows from the machine and from
        what a resumed run has again. Tasks keep to `fit`: there are more of them, and one core each is used best.
        """
        room = self.fit(side.resources)
        if self.joined or not side.resources.spare_cores:
            return room
        at_once = min(side.max_concurrent, count, places(room, self.cpus, self.gpus))
        return {**room, "cpu": max(room["cpu"], min(MOST_CORES, self.cpus // at_once))}


def connect(address: str | None) -> Cluster:
    """Join the cluster at `address` (or RAY_ADDRESS), else start Ray on this machine with all that it has.

    Trials that share a GPU of this machine then do so by CUDA's MPS; a cluster's machines see to that themselves.
    UsageError where no cluster answers at the address, DuelError where Ray does not start here.
    """
    limit()  # workers that start here take it from this process: what is wrong with it is told now
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # a task that reserves no GPU sees none
    os.environ.setdefault("RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune's own tables, which verbose=0 alone does not stop
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", str(IDLE_MINUTES * 60_000))
    address = cluster_address(address)
    if address:
        _check_reachable(address)
    try:
        options: dict[str, Any] = {} if address else {"include_dashboard": False, "num_cpus": allowed_cores()}
        with nullcontext() if address else mps.shared_gpus():
            ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())[:300]
        if address:
            raise UsageError(f"--address {address}: can't join a Ray cluster there: {text}") from None
        raise DuelError(f"Ray does not start on this machine: {text}") from None
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return describe(joined=address is not None)


def cluster_address(address: str | None) -> str | None:
    """The cluster to join: --address, else RAY_ADDRESS, else None for this machine alone."""
    return address or os.environ.get("RAY_ADDRESS") or None


def wait_for(submit: Callable[[], ray.ObjectRef], room: Room, note: Note) -> Any:
    """The task's result; says so when no node takes it for a while, which Ray itself would do in silence."""
    task = Task(submit, note)
    done, _ = ray.wait([task.ref], timeout=60)
    if not done:
        have = {key: value for key, value in ray.cluster_resources().items() if key in ("CPU", "GPU")}
        note(
            f"waiting for a node with {room['cpu']} CPUs and {room['gpu']} GPUs; the cluster now has "
            f"{have or 'neither'} (--cpus-per-trial and --gpus-per-trial ask for less)"
        )
    return task.result()


def probe_storage(storage: str, room: Room, note: Note) -> str | None:
    """What a node that runs trials reads from probe/driver in the storage; it writes the same to probe/worker."""
    return wait_for(partial(sized(_probe, room).remote, storage), room, note)


def _probe(storage: str) -> str | None:
    store = Store(storage, patience=0)
    data = store.read("probe/driver")
    if data is not None:
        store.write("probe/worker", data)
    return None if data is None else data.decode()


def _check_reachable(address: str) -> None:
    """Ray itself tries a dead address for minutes before it gives up."""
    if address.startswith("ray://"):
        raise UsageError(
            f"--address {address}: Ray's client can't run a sweep; start it on the head, or give HOST:6379"
        )
    host, _, port = address.rpartition(":")
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
        mps=mps.at_work(),
    )  # fmt: skip


def allowed_cores() -> int:
    """The cores that this process may use: Ray counts those of a container, but not those of taskset or SLURM."""
    return min(int(get_num_cpus()), len(os.sched_getaffinity(0)))


def cpu_model() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def disconnect() -> None:
    """Leave the cluster; ends Ray, and what its processes shared GPUs by, where this process started them."""
    try:
        ray.shutdown()
    finally:
        mps.end()  # after those that use it
