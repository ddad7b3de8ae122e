"""A worker whose head is gone ends its machine, by the lines that cluster.yaml gives it at its first boot."""

import time

import pytest
import yaml
from league_runs import ROOT
from rack import HEAD, rack

pytestmark = pytest.mark.cluster
STUBS = {  # this machine must not be shut down; a minute is a second here
    "systemd-run": 'shift; exec "$@"',
    "sleep": "exec /bin/sleep 1",
    "shutdown": 'echo "$@" > ~/ended',
}


def test_a_worker_goes_when_its_head_is_gone(rack_folder):
    with rack(rack_folder) as hosts:
        home = hosts.lab.home("w1")
        (home / "stubs").mkdir()
        for name, does in STUBS.items():
            (home / "stubs" / name).write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
            (home / "stubs" / name).chmod(0o755)
        config = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
        (home / "boot").write_text(config["available_node_types"]["gpu-l4"]["node_config"]["UserData"], "utf-8")
        hosts.lab.start("w1", "PATH=$HOME/stubs:$PATH sh ~/boot", hosts.lab.folder / "logs" / "boot")

        time.sleep(60)
        assert not (home / "ended").exists(), "Ray is there and so is the head"
        hosts.lab.kill(HEAD)
        killed = time.monotonic()
        while not (home / "ended").exists() and time.monotonic() < killed + 240:
            time.sleep(1)
        print(f"the machine was shut down {time.monotonic() - killed:.0f} s after its head was gone")
        assert (home / "ended").read_text(encoding="utf-8").split() == ["-h", "now"]
        assert hosts.lab.run("w1", "pgrep -x raylet", check=False) == "", "Ray had ended there by itself"
