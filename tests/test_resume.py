"""SIGKILL in the middle of each stage, then --resume: complete tables, and nothing finished is done again."""

import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from league_runs import TINY, TWO_SEASONS, league_process, run_league

pytestmark = pytest.mark.slow

# Where to kill: the name of the moment, and how to see from outside that the run is in it.
MOMENTS: dict[str, Callable[[Path], bool]] = {
    "faces": lambda run: (run / "run.json").exists(),
    "generator trials": lambda run: len(list(run.glob("trials/g*/state.pt"))) >= 1,
    "sparring fakes": lambda run: "kid_noise" in (run / "run.json").read_text(),
    "detector trials": lambda run: len(list(run.glob("trials/d*/state.pt"))) >= 1,
    "matches": lambda run: len(list(run.glob("work/scores/*/*.npy"))) >= 1,
    "season 2: generator trials": lambda run: len(list(run.glob("trials/s2g*/state.pt"))) >= 1,
    "season 2: between table and models": lambda run: "s2g" in (run / "trials.csv").read_text(),
    "season 2: detectors' twins": lambda run: len(list(run.glob("trials/s2d*.no-*/state.pt"))) >= 1,
    "weather": lambda run: len(list(run.glob("work/weather/*/*/*.npy"))) >= 1,
}


def finished_work(run: Path) -> dict[str, int]:
    """Every file that holds finished work, with the time of its making."""
    patterns = ("models/*/*", "work/real_features.pt", "work/fakes/*/*.npy", "work/scores/*/*.npy")
    files = [path for pattern in patterns for path in run.glob(pattern)]
    return {str(path.relative_to(run)): path.stat().st_mtime_ns for path in files}


def reported(run: Path) -> dict[str, list]:
    """What every unfinished trial has measured so far, with the seconds it took: a repeat would differ."""
    histories = {}
    for path in run.glob("trials/*/state.pt"):
        state = torch.load(io.BytesIO(path.read_bytes()), weights_only=True)["value"]
        histories[path.parent.name] = state["history"]
    return histories


def kill_at(moment: str, run: Path, arguments: list, cache: Path) -> None:
    """Start the command, wait for the moment, SIGKILL the driver and wait until its Ray is gone too."""
    process = league_process(*arguments, cache=cache, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (run.exists() and MOMENTS[moment](run)):
        assert process.poll() is None, f"the run ended before the moment {moment!r}"
        assert time.monotonic() < deadline, f"the moment {moment!r} never came"
        time.sleep(0.03)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_in_every_stage(two_seasons, tmp_path, cache):
    run, before, histories = tmp_path / "killed", {}, {}
    first, again = [*TWO_SEASONS, "--out", tmp_path, "--name", "killed"], ["--out", tmp_path, "--resume", "killed"]
    for number, moment in enumerate(MOMENTS):
        kill_at(moment, run, again if number else first, cache)
        kept = finished_work(run)
        assert before.items() <= kept.items(), f"finished work was done again before {moment!r}"
        before = kept
        histories.update(reported(run))
    done = run_league(*again, cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == str(run / "index.html")
    assert before.items() <= finished_work(run).items()
    for table in ("matches.csv", "leaderboard.csv", "twin_matches.csv", "scouting.csv", "guard.csv"):
        assert (run / table).read_text() == (two_seasons / table).read_text(), table
    stable = ["trial", "season", "status", "objective", "images", "parent", "settings"]
    for table in ("trials.csv", "twins.csv"):
        ours, undisturbed = pd.read_csv(run / table), pd.read_csv(two_seasons / table)
        pd.testing.assert_frame_equal(ours[stable], undisturbed[stable])
    check_histories(run, histories)
    assert not (run / "trials").exists()
    assert not (run / "legacies").exists()
    assert not list(run.rglob(".*.partial"))


def check_histories(run: Path, histories: dict[str, list]) -> None:
    """What had been measured before a kill stands in the final metrics to the last digit of its seconds."""
    assert any(histories.values()), "no trial was cut off with a report behind it"
    for name, entries in histories.items():
        metrics = run / "models" / name / "metrics.json"
        if metrics.exists():
            final = json.loads(metrics.read_text())["history"]
            assert [e["seconds"] for e in final[: len(entries)]] == [e["seconds"] for e in entries]


def kill_a_worker(run: Path, process: subprocess.Popen) -> None:
    """SIGKILL one process of a trial that has reported."""
    deadline = time.monotonic() + 300
    while not list(run.glob("trials/g*/state.pt")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.03)
    workers = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"ray::ResourceTrainable" in path.read_bytes() and is_below(int(path.parent.name), process.pid)
    ]
    assert workers, "no process of a trial was found"
    os.kill(workers[0], signal.SIGKILL)


def is_below(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def test_the_same_seed_gives_the_same_matches_even_if_a_worker_is_killed(tiny_run, tmp_path, cache):
    process = league_process(
        "--sweep", TINY, "--trials", 6, "--out", tmp_path, "--name", "b", "--seed", 7, cache=cache,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    kill_a_worker(tmp_path / "b", process)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    for table in ("matches.csv", "leaderboard.csv"):
        assert (tmp_path / "b" / table).read_text() == (tiny_run[0] / table).read_text()


def test_ctrl_c_says_how_to_go_on(tmp_path, cache):
    process = league_process("--sweep", TINY, "--out", tmp_path, "--name", "c", cache=cache)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "c").glob("trials/g*/state.pt")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.03)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Ctrl-C again stops at once" in out
    assert "--resume c" in err
    assert "Traceback" not in out + err


def test_a_complete_run_is_left_alone(tiny_run, cache):
    folder, _ = tiny_run
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}
    done = run_league("--out", folder.parent, "--resume", folder.name, cache=cache)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == str(folder / "index.html")
    assert before == {p: p.stat().st_mtime_ns for p in before}
