"""The plan of a run on the machine or cluster at hand: measured where the trials will run."""

import os
from dataclasses import dataclass
from functools import partial

from duel.cluster.connection import Cluster, allowed_cores, connect, cpu_model, disconnect, wait_for
from duel.cluster.surroundings import cluster_address
from duel.config import Sweep, places, share
from duel.plan import MANY_HOURS, Plan, describe_plan, make_plan
from duel.progress import Progress, span
from duel.speeds import Speeds, cautious_speeds, measure_speeds
from duel.tasks import Note, sized

SIDES = ("generator", "detector")


@dataclass(frozen=True)
class Forecast:
    """A plan and its text."""

    plan: Plan
    text: str


def forecast(
    sweep: Sweep, trials: int, seasons: int, weathers: int, faces: str, address: str | None, note: Note
) -> Forecast:
    """The plan for this machine, without Ray, or for the cluster at `address`; `note` says what it waits for."""
    if cluster_address(address) is None:
        return _forecast(sweep, trials, seasons, weathers, faces, _this_machine(), None)
    try:
        return _forecast(sweep, trials, seasons, weathers, faces, connect(address, note), note)
    finally:
        disconnect()


def warn_if_long(sweep: Sweep, trials: int, seasons: int, weathers: int, cluster: Cluster, progress: Progress) -> None:
    """Where the work might take many hours, measure how long and say so before it starts."""
    if _plan(sweep, trials, seasons, weathers, cluster, cautious_speeds(sweep.image_size)).seconds < MANY_HOURS:
        return  # without measuring, which takes seconds
    in_process = not cluster.joined and not cluster.gpus  # a GPU's memory is for the trials alone
    plan = _plan(
        sweep,
        trials,
        seasons,
        weathers,
        cluster,
        _speeds(sweep, trials, cluster, None if in_process else progress.note),
    )
    progress.note(f"estimate: about {span(plan.seconds)} for {plan.generators} + {plan.detectors} trials and "
                  f"{plan.matches} matches, if no trial is stopped early")  # fmt: skip
    if plan.seconds > MANY_HOURS:
        where = "this cluster" if cluster.joined else "this machine"
        progress.note(
            f"that is long: {where} has {cluster.gpus} GPUs and {cluster.cpus} CPU cores. "
            "--sweep quick is the same league in miniature."
        )


def _forecast(
    sweep: Sweep, trials: int, seasons: int, weathers: int, faces: str, cluster: Cluster, note: Note | None
) -> Forecast:
    plan = _plan(sweep, trials, seasons, weathers, cluster, _speeds(sweep, trials, cluster, note))
    gpus = f"{cluster.gpus} GPUs ({', '.join(cluster.gpu_names)})" if cluster.gpus else "no GPU"
    where = f"{cluster.nodes} node{'s' * (cluster.nodes != 1)}, {cluster.cpus} CPU cores ({cluster.cpu_model}), {gpus}"
    return Forecast(plan, describe_plan(plan, sweep, faces, where, _at_once(sweep, cluster)))


def _plan(sweep: Sweep, trials: int, seasons: int, weathers: int, cluster: Cluster, speeds: Speeds) -> Plan:
    return make_plan(sweep, trials, seasons, weathers, speeds, _at_once(sweep, cluster))


def _speeds(sweep: Sweep, trials: int, cluster: Cluster, note: Note | None) -> Speeds:
    """Measured in this process or, where `note` is given, in a Ray task on a node that has what a trial needs."""
    rooms = {side: cluster.fit_trials(sweep.side(side), share(trials, side)) for side in SIDES}
    threads = {side: int(room["cpu"]) for side, room in rooms.items()}
    if note is None:
        return measure_speeds(sweep, threads)
    room = rooms["generator"]
    task = sized(measure_speeds, room, once=True)  # it leaves a GPU's memory full of what it measured
    return wait_for(partial(task.remote, sweep, threads), room, note)


def _at_once(sweep: Sweep, cluster: Cluster) -> dict[str, int]:
    """How many trials of each side run at once here, at least one."""
    fits = {side: places(cluster.fit(sweep.side(side).resources), cluster.cpus, cluster.gpus) for side in SIDES}
    return {side: min(sweep.side(side).max_concurrent, fits[side]) for side in SIDES}


def _this_machine() -> Cluster:
    import torch

    gpus = torch.cuda.device_count()
    names = [torch.cuda.get_device_name(i) for i in range(gpus)]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Cluster(False, 1, allowed_cores(), gpus, sorted(set(names)), cpu_model(), round(memory, 1))
