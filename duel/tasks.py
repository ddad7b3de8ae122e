"""Tasks on Ray: what they reserve, and what becomes of them on a node where no process lives."""

import functools
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import ray
from ray._private import worker
from ray._private.state import state
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # Ray's own `ray drain-node` calls it, no public API
from ray.core.generated.autoscaler_pb2 import DrainNodeReason  # type: ignore[attr-defined]
from ray.exceptions import RayError, RayTaskError, RuntimeEnvSetupError, WorkerCrashedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from duel.config import places
from duel.errors import DuelError

Room = dict[str, float]  # the cpu and gpu that one task reserves
Note = Callable[[str], None]

TRIES = 3  # processes that die one after another on a node before it is taken for one where none lives
SILENCE = 60.0  # seconds of waiting for a process after which a user is told
PATIENCE = 60.0  # seconds in which a node starts a process, or is not judged
TRIES_ON_GPU = 3  # of a task that a GPU fails, as it may for another process' fault
SPOILT = 1.0  # seconds after which a process ends whose GPU has failed: long enough to tell of it
LINGER = 10.0  # seconds without work after which a process gives up its GPU: longer than from task to task in a stage

_drained: set[str] = set()  # ids of nodes that this process has drained: a task begun before is not to blame
_ends: list[threading.Timer] = []  # in a process that has had a GPU: its end, unless a task comes before


class Task:
    """A task at work, begun anew where it died with its node's other processes.

    Ray itself tries a task four times whose process dies. On a node where every process dies at once, for its disk is
    full, all four land: having nothing to do, it is Ray's first choice.
    """

    def __init__(self, submit: Callable[[], ray.ObjectRef], note: Note):
        self._submit, self._note = submit, note
        self._begin()

    def _begin(self) -> None:
        self._drained = len(_drained)
        self.ref = self._submit()

    def result(self) -> Any:
        """Wait for its answer. WorkerCrashedError if its process died, and no node is to blame."""
        tries = TRIES_ON_GPU
        while True:
            try:
                return ray.get(self.ref)
            except RayTaskError as error:
                tries -= 1
                if not tries or not _gpu_failed(error.cause):
                    raise
                time.sleep(2 * SPOILT)  # until its process is gone
                self._begin()
            except WorkerCrashedError:
                if len(_drained) == self._drained and not drain_dead_nodes(self._note):
                    raise
                self._begin()


def _gpu_failed(error: BaseException) -> bool:
    from duel.device import machine_failed  # torch, which not every driver needs

    return machine_failed(error)


def drain_dead_nodes(note: Note) -> bool:
    """Have Ray start nothing more on nodes on which every new process dies at its first task; whether there are any.

    Ray has to be started there anew. Nodes are left alone where no others could do their work.
    """
    away = state.get_draining_nodes()
    nodes = {node["NodeID"]: node for node in ray.nodes()
             if node["Alive"] and node["Resources"].get("CPU") and node["NodeID"] not in away}  # fmt: skip
    if len(nodes) < 2:
        return False
    dead = set(nodes)
    for _ in range(TRIES):
        dead = _without_life(dead)
    offers = {key for node in nodes.keys() - dead for key in nodes[node]["Resources"]}
    if any(kind in nodes[node]["Resources"] and kind not in offers for node in dead for kind in ("CPU", "GPU")):
        return False
    for node in dead:
        drain(node, "every process that Ray starts here dies")
        _drained.add(node)
        note(f"node {nodes[node]['NodeManagerAddress']} gets no more work: every process that Ray starts there dies "
             "(is its disk full?); start Ray there again once that is mended")  # fmt: skip
    return bool(dead)


def drain(node: str, why: str, end: datetime | None = None) -> None:
    """Have Ray start nothing more on the node of this id, as its end has come or comes at a known time.

    What still runs there goes on; once nothing does, Ray ends there. DuelError if Ray does not agree.
    """
    gcs = GcsClient(address=ray.get_runtime_context().gcs_address)
    reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    accepted, objection = gcs.drain_node(node, reason, why, int(1000 * end.timestamp()) if end else 0)
    if not accepted:
        raise DuelError(f"Ray does not drain node {node}: {objection}")


def _without_life(nodes: set[str]) -> set[str]:
    """Those of the nodes on which a new process dies; one that does not answer in time may be cut off, or busy."""
    # An environment that no process has yet asks for a new one.
    fresh = {"env_vars": {"DUEL_PROBE": uuid.uuid4().hex}}
    refs = {}
    for node in nodes:
        place = NodeAffinitySchedulingStrategy(node, soft=False)
        refs[node] = _live.options(scheduling_strategy=place, runtime_env=fresh).remote()
    if refs:
        ray.wait(list(refs.values()), num_returns=len(refs), timeout=PATIENCE)
    return {node for node, ref in refs.items() if _died(ref)}


@ray.remote(num_cpus=0, max_retries=0)
def _live() -> None:
    pass


def _died(ref: ray.ObjectRef) -> bool:
    try:
        ray.get(ref, timeout=0)
    except (WorkerCrashedError, RuntimeEnvSetupError):
        return True
    except RayError:
        pass
    return False


def sized(function: Callable[..., Any], room: Room, once: bool = False) -> Any:
    """The function as a remote one that reserves `room`; once: its process does nothing after it.

    Else processes serve many tasks, as a new one costs seconds of imports and of opening a GPU, but where they would
    end up on a wrong GPU: see `ends_processes`. One that has had a GPU keeps some 500 MB of it for as long as it
    lives, so it ends once it has had no work for LINGER seconds. Ray gives such a process no tasks without a GPU.
    """
    if once or ends_processes(room):
        remote = _remote(function, once=True)
    else:
        remote = _remote_lingering(function) if room["gpu"] else _remote(function)
    return remote.options(num_cpus=room["cpu"], num_gpus=room["gpu"])


def ends_processes(room: Room) -> bool:
    """Whether a task that reserves `room` gets a new process, and the process ends with it.

    A process keeps to the GPU that it opened first, whatever CUDA_VISIBLE_DEVICES says at a later task. That is the
    right one where no node has another. A node with several that joins later may still reuse one for tasks submitted
    before: a GPU is then crowded for a while, and no answer is wrong.
    """
    return room["gpu"] > 0 and any(n["Resources"].get("GPU", 0) > 1 for n in ray.nodes() if n["Alive"])


# Kept, as each ray.remote makes a function of its own, which Ray would send to every process anew.
@functools.cache
def _remote(function: Callable[..., Any], once: bool = False) -> Any:
    # Ray ends a GPU's process by itself only where num_gpus stands here; .options takes no max_calls.
    return ray.remote(max_calls=int(once))(function)


@functools.cache
def _remote_lingering(function: Callable[..., Any]) -> Any:
    @functools.wraps(function)
    def work(*arguments: Any) -> Any:
        return _work_and_linger(function, arguments)

    return _remote(work)


def _work_and_linger(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    while _ends:
        _ends.pop().cancel()
    seconds = LINGER
    try:
        return function(*arguments)
    except Exception as error:
        seconds = SPOILT if _gpu_failed(error) else LINGER
        raise
    finally:
        # Ray's handler of SIGTERM. Should a task come at that very moment, Ray gives it to another process.
        end = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
        end.daemon = True
        end.start()
        _ends.append(end)


def places_for(room: Room) -> int:
    """How many tasks that reserve `room` fit the cluster as it is at this moment."""
    have = ray.cluster_resources()
    return places(room, have.get("CPU", 0), have.get("GPU", 0))


def why_waiting(room: Room) -> str:
    """What to tell the user when no process takes a trial or task that reserves `room`: Ray waits in silence."""
    asked = f"{room['cpu']:g} CPUs and {room['gpu']:g} GPUs"
    have = {key: value for key, value in ray.cluster_resources().items() if key in ("CPU", "GPU")}
    if room["cpu"] > have.get("CPU", 0) or room["gpu"] > have.get("GPU", 0):
        return (f"waiting for a node with {asked}; the cluster now has {have or 'neither'} (--cpus-per-trial and "
                "--gpus-per-trial ask for less)")  # fmt: skip
    node = worker._global_node
    logs = f"; Ray's logs: {node.get_logs_dir_path()}" if node else ""
    return (f"still waiting for a worker process with {asked}: all may be taken by other work, or none can start, for "
            f"want of memory, disk or processes (ulimit -u){logs}")  # fmt: skip
