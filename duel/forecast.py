"""The plan of a run on the machine or cluster at hand: measured where the trials will run."""

import os
from dataclasses import dataclass

import ray

from duel.cluster import Cluster, connect, cpu_model, disconnect
from duel.config import Sweep
from duel.plan import MANY_HOURS, Plan, Speeds, describe_plan, make_plan, measure_speeds
from duel.progress import Progress, span


@dataclass(frozen=True)
class Forecast:
    """A plan and its text."""

    plan: Plan
    text: str


def forecast(sweep: Sweep, trials: int, faces: str, address: str | None) -> Forecast:
    """The plan for this machine, without starting Ray; with an address, for the cluster there."""
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address is None:
        return _forecast(sweep, trials, faces, _this_machine())
    try:
        return _forecast(sweep, trials, faces, connect(address))
    finally:
        disconnect()


def warn_if_long(sweep: Sweep, trials: int, cluster: Cluster, progress: Progress) -> None:
    """Say so before the work starts where it will take many hours."""
    plan = _forecast(sweep, trials, "", cluster).plan
    progress.note(f"estimate: about {span(plan.seconds)} for {plan.generators} + {plan.detectors} trials and "
                  f"{plan.matches} matches, if no trial is stopped early")  # fmt: skip
    if plan.seconds > MANY_HOURS:
        where = "this cluster" if cluster.joined else "this machine"
        progress.note(
            f"that is long: {where} has {cluster.gpus} GPUs and {cluster.cpus} CPU cores. "
            "--sweep sweeps/quick.yaml is the same league in miniature."
        )


def _forecast(sweep: Sweep, trials: int, faces: str, cluster: Cluster) -> Forecast:
    rooms = {side: cluster.fit(sweep.side(side).resources) for side in ("generator", "detector")}
    threads = {side: int(room["cpu"]) for side, room in rooms.items()}
    parallel = {side: _at_once(room, cluster, sweep.side(side).max_concurrent) for side, room in rooms.items()}
    plan = make_plan(sweep, trials, _speeds(sweep, threads, rooms["generator"], cluster.joined), parallel)
    gpus = f"{cluster.gpus} GPUs ({', '.join(cluster.gpu_names)})" if cluster.gpus else "no GPU"
    where = f"{cluster.nodes} node{'s' * (cluster.nodes != 1)}, {cluster.cpus} CPU cores ({cluster.cpu_model}), {gpus}"
    return Forecast(plan, describe_plan(plan, sweep, faces, where, parallel))


def _speeds(sweep: Sweep, threads: dict[str, int], room: dict[str, float], joined: bool) -> Speeds:
    """Measured here, or in a cluster on a node that has what a trial needs."""
    if not joined:
        return measure_speeds(sweep, threads)
    task = ray.remote(measure_speeds).options(num_cpus=room["cpu"], num_gpus=room["gpu"])
    return ray.get(task.remote(sweep, threads))


def _at_once(room: dict[str, float], cluster: Cluster, limit: int) -> int:
    """How many trials that reserve `room` run at once here, at least one."""
    fits = cluster.cpus // room["cpu"]
    if room["gpu"]:
        fits = min(fits, cluster.gpus / room["gpu"])
    return max(1, min(limit, int(fits)))


def _this_machine() -> Cluster:
    import torch

    gpus = torch.cuda.device_count()
    names = [torch.cuda.get_device_name(i) for i in range(gpus)]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Cluster(False, 1, len(os.sched_getaffinity(0)), gpus, sorted(set(names)), cpu_model(), round(memory, 1))
