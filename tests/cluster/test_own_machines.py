"""cluster-local.yaml on real hosts over SSH, from a clean folder to the report and back to nothing."""

import json
import shlex
import time

import pandas as pd
import pytest
from league_runs import TINY, worked_on

pytestmark = pytest.mark.cluster
FILE = "cluster-local.yaml"
# As `python -m duel.cluster notice` on a worker.
JOIN = "import ray; ray.init('auto', log_to_driver=False)"


def test_a_league_on_machines_of_ones_own(lab, launcher, tmp_path):
    addresses = [lab.add(name, number) for number, name in enumerate(("head", "w1", "w2"), start=10)]
    launcher.fill_in(FILE, {
        "provider": {"type": "local", "head_ip": addresses[0], "worker_ips": addresses[1:]},
        "auth": {"ssh_user": "root", "ssh_private_key": str(lab.key)},
    })  # fmt: skip
    launcher.environment["RAY_UP_enable_autoscaler_v2"] = "0"
    assert "nothing wrong" in launcher.run("python", "-m", "duel.cluster", "check", FILE)
    launcher.run("ray", "up", "-y", "--no-config-cache", FILE)
    wait_for_workers(lab, 2)
    for name in ("head", "w1", "w2"):
        assert lab.rays_folders(name) == ["700", "ray"], "nobody else reaches Ray's sockets and objects"
    assert "Active:" in launcher.run("ray", "exec", FILE, "ray status"), "and yet its own commands find it"
    lab.run("w2", f"bash -ic {shlex.quote(f'python -c {shlex.quote(JOIN)}')}")

    shared = tmp_path / "shared"  # the hosts see this machine's files: what NFS is to machines of one's own
    shared.mkdir()
    launcher.run("ray", "rsync-up", FILE, TINY, "~/tiny.yaml")
    league = f"cd ~/checkout && python -m duel.league --sweep ~/tiny.yaml --trials 6 --name lab --storage {shared}"
    league += f" --cpus-per-trial {cores(lab)}"  # a trial a machine
    print(launcher.run("ray", "exec", FILE, f"ray job submit --submission-id lab -- bash -c {shlex.quote(league)}"))
    assert "Job 'lab' succeeded" in launcher.run("ray", "exec", FILE, "ray job status lab")
    launcher.run("ray", "rsync-down", FILE, "~/checkout/reports/", "reports/")
    report = launcher.project / "reports" / "lab"
    assert (report / "index.html").exists()
    hardware = json.loads((report / "run.json").read_text())["hardware"]
    assert (hardware["nodes"], hardware["cpus"]) == (3, 2 * cores(lab)), "the head counts no CPUs"
    trials = pd.read_csv(report / "trials.csv")
    assert set(trials["side"]) == {"generator", "detector"}
    assert worked_on(report) == set(addresses[1:]), "trials on both workers and none on the head"

    launcher.run("ray", "down", "-y", FILE)
    assert lab.run("head", "pgrep -x raylet", check=False) == ""


def wait_for_workers(lab, count: int) -> None:
    """Until Ray on the head counts the workers as alive."""
    ask = "import ray; ray.init('auto', log_to_driver=False); print(sum(n['Alive'] for n in ray.nodes()) - 1)"
    end = time.monotonic() + 300
    while time.monotonic() < end:
        if lab.run("head", f"python -c {shlex.quote(ask)} 2>/dev/null", check=False).strip() == str(count):
            return
        time.sleep(5)
    pytest.fail(f"{count} workers did not come: {lab.run('head', 'ray status', check=False)}")


def cores(lab) -> int:
    return int(lab.run("w1", "nproc"))
