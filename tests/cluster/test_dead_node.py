"""A node on which every new process dies, for its disk is full: work goes elsewhere."""

import textwrap

import pytest
from rack import rack

pytestmark = pytest.mark.cluster

SCRIPT = """
    import os, signal, time
    import ray
    from ray.exceptions import WorkerCrashedError
    from duel.tasks import Task

    @ray.remote(num_cpus=1)
    def where():
        time.sleep(3)  # the other node is full meanwhile
        return ray.util.get_node_ip_address()

    @ray.remote(num_cpus=1, max_retries=1)
    def crash():
        os.kill(os.getpid(), signal.SIGKILL)

    ray.init("auto", log_to_driver=False)
    tasks = [Task(where.remote, print) for _ in range(8)]
    print("answers:", *(task.result() for task in tasks), flush=True)
    try:
        Task(crash.remote, print).result()
    except WorkerCrashedError:
        print("the task was to blame")
"""


def test_tasks_go_on_without_a_node_that_kills_them(rack_folder):
    with rack(rack_folder) as hosts:
        hosts.fill_disk("w1")
        (hosts.lab.home(hosts.leader) / "tasks.py").write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
        printed = hosts.lab.run(hosts.leader, "python ~/tasks.py").splitlines()
    told, answers, blamed = (line for line in printed if "(raylet)" not in line)  # Ray says each death on its own
    assert told.startswith(f"node {hosts.addresses['w1']} gets no more work: ")
    assert answers == f"answers:{8 * (' ' + hosts.addresses['w2'])}"
    assert blamed == "the task was to blame"
