"""What goes where on a cluster: trials that want a GPU, and the faces."""

import json

import pytest
from league_runs import worked_on
from rack import large_faces, rack

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
FACES = 8192 * 3 * 64 * 64  # bytes


def test_trials_share_the_gpu_and_the_faces(rack_folder):
    with rack(rack_folder, gpus=1) as hosts:
        before = hosts.lab.received("w1")
        league = hosts.league("--sweep", large_faces(rack_folder / "sweep.yaml"), "--trials", 6,
                              "--gpus-per-trial", 0.5, "--cpus-per-trial", 1, name="gpu")  # fmt: skip
        assert league.wait() == 0, league.printed
        assert worked_on(league.folder) == {hosts.addresses["w1"]}, "no trial without its share of a GPU"
        names = [path.name for path in (league.folder / "tune" / "generators").glob("g*")]
        spans = sorted((r[0]["timestamp"], r[-1]["timestamp"]) for name in names if (r := league.reports(name)))
        assert spans[0][1] > spans[1][0], "two trials share the GPU"
        hardware = json.loads((league.folder / "run.json").read_text(encoding="utf-8"))["hardware"]
        assert (hardware["cpus"], hardware["gpus"]) == (4, 1)
        received = hosts.lab.received("w1") - before
        assert FACES < received < 1.5 * FACES, "the faces came to the node once, for all its trials"
