"""Killed, stopped by Ctrl-C or robbed of a worker, then --resume: complete tables, and nothing done is done again."""

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


def wait_until(seen: Callable[[Path], bool], run: Path, process: subprocess.Popen) -> None:
    """Wait for what can be seen of the run from outside, as long as its process works."""
    deadline = time.monotonic() + 300
    while not (run.exists() and seen(run)):
        assert process.poll() is None, "the run ended before the moment"
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.03)


def kill_at(moment: str, run: Path, arguments: list, faces_cache: Path) -> None:
    """Start the command, wait for the moment and SIGKILL the driver."""
    process = league_process(*arguments, cache=faces_cache, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(MOMENTS[moment], run, process)
    process.kill()
    process.wait()


@pytest.mark.slow
def test_killed_in_every_stage(two_seasons, tmp_path, faces_cache):
    run, before, histories = tmp_path / "killed", {}, {}
    first, again = [*TWO_SEASONS, "--out", tmp_path, "--name", "killed"], ["--out", tmp_path, "--resume", "killed"]
    for number, moment in enumerate(MOMENTS):
        kill_at(moment, run, again if number else first, faces_cache)
        kept = finished_work(run)
        assert before.items() <= kept.items(), f"finished work was done again before {moment!r}"
        before = kept
        histories.update(reported(run))
    done = run_league(*again, cache=faces_cache)
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


def kill_a_worker(process: subprocess.Popen) -> None:
    """SIGKILL one process of a trial."""
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


def test_a_worker_killed_then_ctrl_c_then_a_kill_and_the_same_matches(tiny_run, tmp_path, faces_cache):
    """One run for the three, each in a later stage: what each of them loses would show in the tables."""
    run, again = tmp_path / "b", ["--out", tmp_path, "--resume", "b"]
    process = league_process(
        "--sweep", TINY, "--trials", 6, "--out", tmp_path, "--name", "b", "--seed", 7, cache=faces_cache
    )  # fmt: skip
    wait_until(MOMENTS["generator trials"], run, process)
    kill_a_worker(process)
    wait_until(MOMENTS["detector trials"], run, process)
    assert "failed" not in set(pd.read_csv(run / "trials.csv")["status"]), "the generators went on without it"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Ctrl-C again stops at once" in out
    assert "--resume b" in err
    assert "Traceback" not in out + err
    before, histories = finished_work(run), reported(run)
    kill_at("matches", run, again, faces_cache)
    kept = finished_work(run)
    assert before.items() <= kept.items(), "finished work was done again after Ctrl-C"
    done = run_league(*again, cache=faces_cache)
    assert done.returncode == 0, done.stdout + done.stderr
    assert kept.items() <= finished_work(run).items(), "finished work was done again after SIGKILL"
    check_histories(run, histories)
    for table in ("matches.csv", "leaderboard.csv"):
        assert (run / table).read_text() == (tiny_run[0] / table).read_text()


def test_a_complete_run_is_left_alone(tiny_run, faces_cache):
    folder, _ = tiny_run
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}
    done = run_league("--out", folder.parent, "--resume", folder.name, cache=faces_cache)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == str(folder / "index.html")
    assert before == {p: p.stat().st_mtime_ns for p in before}
