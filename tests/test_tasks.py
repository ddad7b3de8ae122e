"""Which processes do the tasks: on GPUs that Ray is told of, as no task here opens one."""

import logging
import os
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import ray
from ray import cloudpickle

from duel import tasks
from duel.tasks import ends_processes, sized

ON_CPU, ON_GPU = {"cpu": 1, "gpu": 0.0}, {"cpu": 1, "gpu": 0.5}


@pytest.fixture(scope="module")
def ray_with():
    """Has Ray with two cores and so many GPUs, the same for tests that want as many of them.

    Idle processes stay for long, as in a league.
    """
    patch, running = pytest.MonkeyPatch(), []
    patch.setenv("RAY_idle_worker_killing_time_threshold_ms", "600000")
    patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])

    def start(gpus: int) -> None:
        if running[-1:] == [gpus]:
            return
        ray.shutdown()
        ray.init(address="local", num_cpus=2, num_gpus=gpus, include_dashboard=False, log_to_driver=False,
                 logging_level=logging.ERROR)  # fmt: skip
        running.append(gpus)

    yield start
    ray.shutdown()
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    patch.undo()


def gpus_of_process(seconds: float) -> tuple[int, str, str]:
    """The process, the GPU that its first task had and would have opened, and the GPU of this one."""
    now = os.environ["CUDA_VISIBLE_DEVICES"]
    first = os.environ.setdefault("FIRST_GPU", now)
    time.sleep(seconds)
    return os.getpid(), first, now


def done(room, rounds=2, **options):
    """Rounds of a long and some short tasks, so that what is free where changes: their answers."""
    found = []
    for _ in range(rounds):
        task = sized(gpus_of_process, room, **options)
        found += ray.get([task.remote(seconds) for seconds in (0.5, 0.1, 0.1, 0.1)])
    return found


def test_where_nodes_have_several_gpus_no_process_is_on_a_wrong_one(ray_with):
    ray_with(gpus=4)
    one = {"cpu": 1, "gpu": 1}
    assert ends_processes(one)
    assert ends_processes(ON_GPU)
    found = done(one)
    assert all(first == now != "" for _, first, now in found)
    assert len({pid for pid, _, _ in found}) == len(found)


@pytest.mark.slow
def test_tasks_without_a_gpu_share_processes_wherever_they_run(ray_with):
    ray_with(gpus=4)
    assert not ends_processes(ON_CPU)
    found = done(ON_CPU)
    assert {now for _, _, now in found} == {""}
    assert len({pid for pid, _, _ in found}) <= 2 < len(found)


@pytest.mark.slow
def test_a_nodes_only_gpu_is_read_by_the_same_processes_and_left_by_them(ray_with):
    ray_with(gpus=1)
    assert not ends_processes(ON_GPU)
    found = done(ON_GPU)
    assert {now for _, _, now in found} == {"0"}
    with_gpu = {pid for pid, _, _ in found}
    assert len(with_gpu) < len(found)
    assert any(map(alive, with_gpu)), "they wait for more work"
    without = {pid for pid, _, _ in done(ON_CPU)}
    assert not with_gpu & without
    until = time.monotonic() + tasks.LINGER + 10
    while any(map(alive, with_gpu)) and time.monotonic() < until:
        time.sleep(0.2)
    assert not any(map(alive, with_gpu)), "and then give up the GPU"
    assert all(map(alive, without))
    assert {now for _, _, now in done(ON_GPU, rounds=1)} == {"0"}


@pytest.mark.slow
def test_a_process_that_works_is_not_ended_for_an_earlier_pause(ray_with):
    ray_with(gpus=1)

    def pause_after(before: float, seconds: float) -> tuple[int, float]:
        tasks.LINGER = before
        time.sleep(seconds)
        return os.getpid(), tasks.LINGER

    one = {"cpu": 1, "gpu": 1}
    first = ray.get(sized(pause_after, one).remote(4.0, 0))
    assert ray.get(sized(pause_after, one).remote(4.0, 6)) == first


@pytest.mark.slow
@pytest.mark.parametrize("room", [ON_CPU, ON_GPU])
def test_a_task_that_a_gpu_fails_is_done_again_in_another_process(ray_with, tmp_path, room):
    """As under MPS, where a neighbour's fault is everybody's."""
    ray_with(gpus=1)

    def fails(times: int, text: str) -> list[str]:
        before = sorted(path.name for path in tmp_path.iterdir())
        (tmp_path / f"{len(before)}-{os.getpid()}").touch()
        if len(before) < times:
            raise RuntimeError(text)
        return before

    def play(times: int, text: str) -> list[str]:
        for path in tmp_path.iterdir():
            path.unlink()
        return tasks.Task(partial(sized(fails, room).remote, times, text), lambda note: None).result()

    tried = play(2, "CUDA error: unspecified launch failure")
    assert len(tried) == 2
    if room["gpu"]:
        assert len({name.split("-")[1] for name in tried}) == 2, "a spoilt process gets no more tasks"
    with pytest.raises(RuntimeError, match="unspecified launch failure"):
        play(3, "CUDA error: unspecified launch failure")
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        play(1, "mat1 and mat2 shapes cannot be multiplied")


@pytest.mark.slow
def test_a_task_for_once_leaves_no_process(ray_with):
    ray_with(gpus=1)
    for room in (ON_CPU, ON_GPU):
        found = done(room, rounds=1, once=True)
        assert len({pid for pid, _, _ in found}) == len(found)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
