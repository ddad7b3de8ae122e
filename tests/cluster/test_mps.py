"""A run's own MPS daemon: started before Ray, ended with the run. The daemon is a script that notes what it is told."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
import yaml
from league_runs import ROOT

from duel.cluster import mps
from duel.cluster.connection import connect, disconnect

# A line a call: arguments or what it reads, its folders, the mode of the first's parent, and the GPUs that it sees.
DAEMON = """#!/bin/sh
said="$*"; [ $# -gt 0 ] || read -r said
mode=$(stat -c %a "$(dirname "$CUDA_MPS_PIPE_DIRECTORY")")
echo "$said|$CUDA_MPS_PIPE_DIRECTORY|$CUDA_MPS_LOG_DIRECTORY|$mode|${CUDA_VISIBLE_DEVICES-all}" >> "$0.calls"
exit $(cat "$0.status")
"""
VARIABLES = (mps.PIPES, mps.LOGS, mps.VISIBLE)
DIES = """
import os, signal, sys
from duel.cluster import mps
mps.DEVICES, mps.PROBE = "/dev/null", ""
mps.DEFAULT = mps.Path(sys.argv[1])
with mps.shared_gpus():
    os.kill(os.getpid(), int(sys.argv[2]))
"""


class Daemon:
    def __init__(self, folder: Path):
        self.path = folder / mps.CONTROL
        self.path.write_text(DAEMON)
        self.path.chmod(0o755)
        self.answer(0)

    def answer(self, status: int) -> None:
        Path(f"{self.path}.status").write_text(str(status))

    def calls(self) -> list[list[str]]:
        path = Path(f"{self.path}.calls")
        return [line.split("|") for line in path.read_text().splitlines()] if path.exists() else []

    def told(self) -> list[str]:
        return [call[0] for call in self.calls()]

    def folder(self) -> Path:
        """The folder of the daemon that was started."""
        return Path(self.calls()[0][1]).parent


@pytest.fixture
def daemon(tmp_path, monkeypatch):
    """On PATH, on a machine with a GPU on which it works and no other daemon."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    for name in (*VARIABLES, mps.OFF, "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(mps, "DEVICES", "/dev/null")
    monkeypatch.setattr(mps, "PROBE", "")
    monkeypatch.setattr(mps, "DEFAULT", tmp_path / "nvidia-mps")
    yield Daemon(programs)
    mps.end()


def environment() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in VARIABLES}


def inside() -> dict[str, str | None]:
    """What processes find in their environment that start with a daemon where there can be one."""
    with mps.shared_gpus():
        return environment()


NOTHING = dict.fromkeys(VARIABLES)


def test_it_runs_until_the_end_in_a_folder_of_its_own(daemon):
    found = inside()
    assert environment() == NOTHING
    [(said, pipes, logs, mode, visible)] = daemon.calls()
    assert (said, mode, visible) == ("-d", "700", "all")
    assert found == {mps.PIPES: pipes, mps.LOGS: logs, mps.VISIBLE: None}
    assert daemon.folder().is_dir()
    assert len(f"{pipes}/control_privileged") < 108, "the length of a socket's path"
    mps.end()
    assert daemon.told() == ["-d", "quit -t 10"]
    assert daemon.calls()[1][1:3] == [pipes, logs]
    assert not daemon.folder().exists()
    mps.end()
    assert len(daemon.calls()) == 2


def test_the_environment_is_restored_after_an_error_too(daemon, monkeypatch):
    monkeypatch.setenv(mps.LOGS, "mine")
    with pytest.raises(KeyboardInterrupt), mps.shared_gpus():
        assert os.environ[mps.LOGS] != "mine"
        raise KeyboardInterrupt
    assert environment() == {**NOTHING, mps.LOGS: "mine"}


def test_users_count_the_gpus_that_the_daemon_sees(daemon, monkeypatch, tmp_path):
    monkeypatch.setenv(mps.VISIBLE, "2,3")
    monkeypatch.setattr(
        mps, "PROBE", f"import os; open({str(tmp_path / 'saw')!r}, 'w').write(os.environ[{mps.VISIBLE!r}])"
    )
    assert inside()[mps.VISIBLE] == "0,1"
    assert daemon.calls()[0][-1] == "2,3"
    assert (tmp_path / "saw").read_text() == "0,1"
    assert os.environ[mps.VISIBLE] == "2,3"


def test_none_is_started_where_none_is_wanted(daemon, monkeypatch):
    for name, value in ((mps.OFF, "0"), (mps.PIPES, "/tmp/mine"), (mps.VISIBLE, "")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            before = environment()
            assert inside() == before
    monkeypatch.setattr(mps, "DEVICES", "/dev/no-such-device*")
    assert inside() == NOTHING
    assert daemon.calls() == []


def test_one_that_runs_already_is_left_alone(daemon):
    mps.DEFAULT.mkdir()
    file = mps.DEFAULT / f"{mps.CONTROL}.pid"
    file.write_text(f"{os.getpid()}\n")
    assert inside() == NOTHING
    assert daemon.calls() == []
    ended = subprocess.Popen(["true"])
    ended.wait()
    file.write_text(str(ended.pid))
    assert inside()[mps.PIPES], "what one has left behind is none"


def test_files_of_another_user_are_no_daemon(daemon):
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    mps.DEFAULT.mkdir()
    (mps.DEFAULT / f"{mps.CONTROL}.pid").write_text(f"{os.getpid()}\n")
    os.chown(mps.DEFAULT, 65534, 65534)
    assert inside()[mps.PIPES]


def test_it_goes_on_where_the_daemon_does_not_start(daemon):
    daemon.answer(1)
    assert inside() == NOTHING
    assert daemon.told() == ["-d", "quit -t 10"]
    assert not daemon.folder().exists()


@pytest.mark.parametrize("probe", ["raise SystemExit(1)", "import time; time.sleep(60)"])
def test_it_goes_on_where_the_daemon_serves_nobody(probe, daemon, monkeypatch):
    monkeypatch.setattr(mps, "PROBE", probe)
    monkeypatch.setattr(mps, "START_SECONDS", 1)
    assert inside() == NOTHING
    assert daemon.told() == ["-d", "quit -t 10"]
    assert not daemon.folder().exists()


def test_the_probe_finds_no_gpu_where_there_is_none():
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine may have a GPU")
    assert subprocess.run([sys.executable, "-c", mps.PROBE], capture_output=True, check=False).returncode == 1


def test_it_goes_on_without_the_program(daemon):
    daemon.path.unlink()
    if shutil.which(mps.CONTROL):
        pytest.skip("this machine has one")
    assert inside() == NOTHING


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_a_process_that_is_killed(how, daemon, tmp_path):
    done = subprocess.run([sys.executable, "-c", DIES, tmp_path / "none", str(int(how))], check=False)
    assert done.returncode == -how
    for _ in range(100):
        if not daemon.folder().exists():
            break
        time.sleep(0.1)
    assert daemon.told() == ["-d", "quit -t 10"]
    assert not daemon.folder().exists()


@pytest.mark.slow
def test_rays_processes_use_it_until_the_run_ends(daemon):
    connect(None)
    try:
        assert environment() == NOTHING
        pipes = ray.get(ray.remote(num_cpus=1)(os.getenv).remote(mps.PIPES))
        assert pipes == daemon.calls()[0][1]
        assert daemon.told() == ["-d"]
    finally:
        disconnect()
    assert daemon.told() == ["-d", "quit -t 10"]
    assert not daemon.folder().exists()


def test_a_joined_cluster_has_its_own(daemon, monkeypatch):
    monkeypatch.setattr("duel.cluster.connection._check_reachable", lambda address, given_by: None)
    monkeypatch.setattr(ray, "init", lambda **options: None)
    monkeypatch.setattr("duel.cluster.connection.describe", lambda joined: joined)
    assert connect("10.0.0.5:6379")
    assert daemon.calls() == []


def test_a_worker_of_a_cluster_has_one_for_all(daemon, monkeypatch):
    monkeypatch.setenv(mps.VISIBLE, "1")
    mps.main()
    assert daemon.calls()[0][:3] == ["-d", str(mps.DEFAULT), f"{mps.DEFAULT}-log"]
    assert daemon.calls()[0][-1] == "all"
    mps.end()
    assert daemon.told() == ["-d"], "it outlives the process that starts it"
    mps.DEFAULT.mkdir()
    (mps.DEFAULT / f"{mps.CONTROL}.pid").write_text(str(os.getpid()))
    mps.main()
    assert daemon.told() == ["-d"]


def test_a_worker_whose_daemon_serves_nobody_has_none(daemon, monkeypatch):
    mps.DEFAULT.mkdir()
    monkeypatch.setattr(mps, "PROBE", "raise SystemExit(1)")
    mps.main()
    assert daemon.told() == ["-d", "quit -t 10"]
    assert not mps.DEFAULT.exists()


def test_a_worker_on_which_none_starts_ends_no_other(daemon):
    daemon.answer(1)
    mps.main()
    assert daemon.told() == ["-d"]


def test_cluster_yaml_starts_it_on_workers(tmp_path):
    """The command itself, in a home whose Python is this one, on a machine without a daemon's program."""
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    [command] = [line for line in config["worker_setup_commands"] if "mps" in line]
    python = tmp_path / "duel-env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    place = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), mps.OFF: "0"}
    done = subprocess.run(["bash", "-c", command], env=place, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
