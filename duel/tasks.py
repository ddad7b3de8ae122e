"""Tasks on Ray: what they reserve, and what becomes of them on a node where no process lives."""

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import ray
from ray._private.state import state
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # Ray's own `ray drain-node` calls it, no public API
from ray.core.generated.autoscaler_pb2 import DrainNodeReason  # type: ignore[attr-defined]
from ray.exceptions import RayError, RuntimeEnvSetupError, WorkerCrashedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from duel.config import places
from duel.errors import DuelError

Room = dict[str, float]  # the cpu and gpu that one task reserves
Note = Callable[[str], None]

TRIES = 3  # processes that die one after another on a node before it is taken for one where none lives
PATIENCE = 60.0  # seconds in which a node starts a process, or is not judged

_drained: set[str] = set()  # ids of nodes that this process has drained: a task begun before is not to blame


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
        while True:
            try:
                return ray.get(self.ref)
            except WorkerCrashedError:
                if len(_drained) == self._drained and not drain_dead_nodes(self._note):
                    raise
                self._begin()


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


def sized(task: Any, room: Room) -> Any:
    """The remote function with what it reserves."""
    return task.options(num_cpus=room["cpu"], num_gpus=room["gpu"])


def places_for(room: Room) -> int:
    """How many tasks that reserve `room` fit the cluster as it is at this moment."""
    have = ray.cluster_resources()
    return places(room, have.get("CPU", 0), have.get("GPU", 0))
