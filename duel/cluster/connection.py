"""The Ray cluster a run works on: one that is joined, or this machine alone; kept quiet."""

import logging
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray._private import utils as ray_utils

from duel.cluster import folder, mps
from duel.cluster.alone import alone, swapped
from duel.cluster.surroundings import SHARED_MEMORY, close_token, cluster_address, look
from duel.config import Resources, SideSweep, places
from duel.errors import DuelError, UsageError
from duel.output import complain, printable
from duel.store import PROBE, Store
from duel.tasks import SILENCE, Note, Room, Task, sized, why_waiting
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


def connect(address: str | None, note: Note = complain) -> Cluster:
    """Join the cluster at `address` (or RAY_ADDRESS), else start Ray on this machine with all that it has.

    Trials that share a GPU of this machine then do so by CUDA's MPS; a cluster's machines see to that themselves.
    UsageError where no cluster answers at the address, and for what duel.cluster.surroundings finds; DuelError where
    Ray does not start here.
    """
    limit()  # workers that start here take it from this process: what is wrong with it is told now
    look(address)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # a task that reserves no GPU sees none
    os.environ.setdefault("RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune's own tables, which verbose=0 alone does not stop
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", str(IDLE_MINUTES * 60_000))
    close_token(note)
    chosen = cluster_address(address)
    if chosen:
        _join(chosen, "--address" if address else "RAY_ADDRESS")
    else:
        _start(note)
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return describe(joined=chosen is not None)


def _join(address: str, given_by: str) -> None:
    _check_reachable(address, given_by)
    try:
        _init(address)
    except Exception as error:
        raise UsageError(f"{given_by} {address}: can't join a Ray cluster there: {_line(error)}") from None


def _start(note: Note) -> None:
    shared = shutil.disk_usage(SHARED_MEMORY).free
    with alone(note) as options:
        try:
            _init("local", num_cpus=allowed_cores(), **options)
        except Exception as error:
            raise DuelError(f"Ray does not start on this machine: {_line(error)}") from None
    have = ray.cluster_resources()
    if not have.get("GPU"):  # whose tasks take no process that had another task first
        _begin_processes(allowed_cores())
    wanted = have.get("object_store_memory", 0)
    if shared < wanted:
        note(f"{SHARED_MEMORY} has room for {shared / 1e9:.1f} GB, and Ray would use {wanted / 1e9:.1f}: images are "
             "shared on disk instead, which is slower (Docker: --shm-size gives more)")  # fmt: skip


def _begin_processes(count: int) -> None:
    """Have Ray start so many worker processes while this one goes on."""
    for _ in range(count):
        _nothing.remote()


@ray.remote(num_cpus=1)
def _nothing() -> None:
    pass


def _init(address: str, **options: Any) -> None:
    # Ray tells the cluster the driver's command line, which can name files by bytes that are no text.
    command = printable(ray_utils.get_entrypoint_name())
    with swapped(ray_utils, "get_entrypoint_name", lambda: command):
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)


def _line(error: Exception) -> str:
    return printable(" ".join(str(error).split())[:300])


def wait_for(submit: Callable[[], ray.ObjectRef], room: Room, note: Note) -> Any:
    """The task's result; says so when no process takes it for a while, which Ray itself would do in silence."""
    task = Task(submit, note)
    done, _ = ray.wait([task.ref], timeout=SILENCE)
    if not done:
        note(why_waiting(room))
    return task.result()


def probe_storage(storage: str, room: Room, note: Note) -> str | None:
    """What a node that runs trials reads from probe/driver in the storage; it writes the same to probe/worker."""
    return wait_for(partial(sized(_probe, room).remote, storage), room, note)


def _probe(storage: str) -> str | None:
    store = Store(storage, patience=0)
    data = store.read(f"{PROBE}/driver")
    if data is not None:
        store.write(f"{PROBE}/worker", data)
    return None if data is None else data.decode()


def _check_reachable(address: str, given_by: str) -> None:
    """Ray itself tries a dead address for minutes before it gives up."""
    if address.startswith("ray://"):
        raise UsageError(
            f"{given_by} {address}: Ray's client can't run a sweep; start it on the head, or give HOST:6379"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        if address != "auto":
            raise UsageError(f"{given_by} {address}: use auto, or HOST:PORT of a cluster's head, e.g. 10.0.0.5:6379")
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UsageError(f"{given_by} {address}: no cluster answers there: {error}") from None


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
    return min(int(ray_utils.get_num_cpus()), len(os.sched_getaffinity(0)))


def cpu_model() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def disconnect() -> None:
    """Leave the cluster; ends Ray, and what its processes shared GPUs by, where this process started them.

    Called for an error, it leaves Ray's logs of a run on this machine: see duel.cluster.folder.
    """
    failed = sys.exc_info()[0] is not None
    try:
        ray.shutdown()
    finally:
        mps.end()  # after those that use it
        folder.remove(keep_logs=failed)
