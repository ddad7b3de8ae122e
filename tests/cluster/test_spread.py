"""What goes where on a cluster: trials that want a GPU, trials that don't, and the faces."""

import json
from pathlib import Path

import pytest
import yaml
from league_runs import worked_on
from rack import large_faces, rack

pytestmark = pytest.mark.cluster
FACES = 8192 * 3 * 64 * 64  # bytes


def generators_on_gpus(path: Path) -> Path:
    """A sweep whose generators share a GPU and whose detectors ask for none."""
    sweep = yaml.safe_load(large_faces(path).read_text(encoding="utf-8"))
    sweep["generators"]["resources"] = {"cpu": 1, "gpu": 0.5}
    sweep["detectors"]["resources"] = {"cpu": 1, "gpu": 0}
    path.write_text(yaml.safe_dump(sweep), encoding="utf-8")
    return path


def test_every_node_does_what_it_can(rack_folder):
    with rack(rack_folder, gpus=1) as hosts:  # w1 has it, w2 has none
        before = hosts.lab.received("w1")
        league = hosts.league("--sweep", generators_on_gpus(rack_folder / "sweep.yaml"), "--trials", 6, name="gpu")
        league.wait_until(lambda: list(league.folder.glob("tune/detectors/d*")))
        received = hosts.lab.received("w1") - before
        assert league.wait() == 0, league.printed
        assert worked_on(league.folder, "generators") == {hosts.addresses["w1"]}, "no trial without its share of a GPU"
        names = [path.name for path in (league.folder / "tune" / "generators").glob("g*")]
        spans = sorted((r[0]["timestamp"], r[-1]["timestamp"]) for name in names if (r := league.reports(name)))
        assert spans[0][1] > spans[1][0], "two trials share the GPU"
        assert hosts.addresses["w2"] in worked_on(league.folder, "detectors"), "a node without a GPU works too"
        hardware = json.loads((league.folder / "run.json").read_text(encoding="utf-8"))["hardware"]
        assert (hardware["cpus"], hardware["gpus"]) == (4, 1)
        assert FACES < received < 1.5 * FACES, "the faces came to the node once, for all its trials"
