"""What trials and tasks reserve on this machine and on a cluster."""

import itertools
import subprocess
import sys

import pytest

from duel.cluster.connection import MOST_CORES, Cluster
from duel.config import load_sweep, places
from duel.league import SWEEPS, _override

QUICK = load_sweep(SWEEPS / "quick.yaml")  # 1 core, a quarter of a GPU, 4 trials at once
MISSION = load_sweep(SWEEPS / "mission.yaml")  # 2 cores, the same


def machine(cpus: int, gpus: int = 0, joined: bool = False) -> Cluster:
    return Cluster(joined, 1, cpus, gpus, [], "", 1.0)


def test_cores_that_the_command_line_gives_are_all_that_trials_take():
    given = _override(QUICK, 1, 3, None)
    assert machine(16).fit_trials(given.generators, 8) == {"cpu": 3, "gpu": 0.0}
    assert machine(16).fit_trials(_override(QUICK, 1, None, None).generators, 8)["cpu"] == MOST_CORES


@pytest.mark.parametrize(
    ("sweep", "cluster", "trials", "cores"),
    [
        (QUICK, machine(2), 2, 1),  # as the sweep says: there is no core to spare
        (QUICK, machine(4), 16, 1),
        (QUICK, machine(3), 2, 1),  # one is left: both trials have the same
        (QUICK, machine(16), 16, 4),
        (QUICK, machine(16), 2, 8),
        (QUICK, machine(16), 3, 5),
        (QUICK, machine(2), 1, 2),
        (QUICK, machine(64), 2, MOST_CORES),
        (QUICK, machine(16, gpus=1), 16, 4),
        (MISSION, machine(2), 16, 2),
        (MISSION, machine(1), 16, 1),
        (MISSION, machine(4), 16, 2),
        (MISSION, machine(16, gpus=1), 16, 4),
        (QUICK, machine(16, joined=True), 2, 1),  # nodes come and go, and others may work on it
        (QUICK, machine(0, joined=True), 2, 1),
    ],
)
def test_trials_of_this_machine_share_out_its_cores(sweep, cluster, trials, cores):
    room = cluster.fit_trials(sweep.generators, trials)
    assert room == {**cluster.fit(sweep.generators.resources), "cpu": cores}


@pytest.mark.parametrize("sweep", [QUICK, MISSION])
def test_no_fewer_trials_run_at_once(sweep):
    side = sweep.detectors
    for cpus, gpus, trials in itertools.product(range(1, 70), (0, 1, 2), (1, 2, 3, 16)):
        here = machine(cpus, gpus)
        wanted = min(side.max_concurrent, trials)
        before, after = here.fit(side.resources), here.fit_trials(side, trials)
        assert min(wanted, places(after, cpus, gpus)) == min(wanted, places(before, cpus, gpus))
        assert after["cpu"] >= before["cpu"]


@pytest.mark.slow
def test_a_process_that_may_use_some_cores_takes_no_more():
    """As under taskset, SLURM or a cpuset; the plan counts the same."""
    count = "from duel.cluster.connection import allowed_cores, connect, disconnect; cluster = connect(None);"
    count += "print(cluster.cpus, allowed_cores()); disconnect()"
    done = subprocess.run(["taskset", "-c", "0", sys.executable, "-c", count], capture_output=True, text=True)
    assert done.stdout.split() == ["1", "1"], done.stderr


def test_ray_starts_no_workers_by_uv():
    """It would wait for ever for workers that never start under `uv run python -m duel.league`."""
    asked = (
        "import duel.tasks; from ray._private import ray_constants; print(ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV)"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
