"""A league on this GPU for as long as there is time: `python tests/gpu/league.py OUT SECONDS [SWEEP]`.

SWEEP: default the mission. What came of it is in OUT: results.json (stages, trials, use of the GPU), and under the
sweep's name the run's tables, its page and its log. CPU=1: the tests' tiny league in its place.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
from results import Results

ROOT = Path(__file__).resolve().parents[2]
MISSION, TINY = ROOT / "sweeps" / "mission.yaml", ROOT / "tests" / "tiny.yaml"
SMALL = os.environ.get("CPU") == "1"
KEPT = ("run.json", "trials.csv", "matches.csv", "leaderboard.csv", "guard.csv", "index.html", "error.txt")


class Watch:
    """The GPU's use and memory, sampled by nvidia-smi while the run is at work."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        ask = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits"]
        while shutil.which(ask[0]) and not self._over.wait(1):
            shown = subprocess.run(ask, capture_output=True, text=True)
            if shown.returncode == 0:
                with suppress(ValueError):  # "[N/A]", as of a part of a GPU
                    use, memory = map(float, shown.stdout.splitlines()[0].split(","))
                    self.samples.append((use, memory))

    def figures(self) -> dict[str, float]:
        """Mean use in percent, and the most memory in MiB."""
        if not self.samples:
            return {}
        use, memory = zip(*self.samples, strict=True)
        return {"gpu_use_percent": sum(use) / len(use), "gpu_memory_mib": max(memory)}


def run(out: Path, seconds: float, sweep: Path) -> bool:
    """The league, stopped in good order when its time is over; whether it failed before."""
    results, begin, title = Results(out), time.monotonic(), sweep.stem
    with tempfile.TemporaryDirectory() as name, Watch() as watch, open(out / f"{title}-log.txt", "w") as log:
        command = [sys.executable, "-m", "duel.league", "--sweep", str(TINY if SMALL else sweep), "--out", name,
                   "--name", title]  # fmt: skip
        league = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            code: int | None = league.wait(seconds)
        except subprocess.TimeoutExpired:
            league.send_signal(signal.SIGINT)
            code = None
            try:
                league.wait(15)
            except subprocess.TimeoutExpired:
                league.kill()
        took, folder = time.monotonic() - begin, Path(name) / title
        for kept in KEPT:
            if (folder / kept).exists():
                shutil.copy(folder / kept, out / f"{title}-{kept}")
        error = {} if code in (0, None) else {"error": f"exit status {code}"}
        results.add(title, "league", seconds=round(took, 1),
                    ended="yes" if code == 0 else "no", **error, **watch.figures(), **_stages(folder))  # fmt: skip
        _states(results, title, folder)
    return results.failed


def _stages(folder: Path) -> dict[str, Any]:
    """Seconds of each stage, the one at which the time was over marked."""
    try:
        data = json.loads((folder / "run.json").read_text())
    except OSError:
        return {}
    return {stage["name"] + ("" if stage["finished"] else " (unfinished)"): stage["seconds"]
            for stage in data["stages"]}  # fmt: skip


def _states(results: Results, title: str, folder: Path) -> None:
    """How far the trials are: from their table, else from what they have saved."""
    if (folder / "trials.csv").exists():
        table = pd.read_csv(folder / "trials.csv")
        for side, rows in table.groupby("side"):
            results.add(title, f"{side} trials", images=int(rows["images"].sum()),
                        trial_seconds=round(float(rows["seconds"].sum()), 1),
                        **{str(k): int(v) for k, v in rows["status"].value_counts().items()})  # fmt: skip
    from duel.rundir import known
    from duel.sweep.job import States

    states = States(str(folder), known(folder).get("id", ""))
    for path in sorted(folder.glob("trials/*/state.pt"), key=lambda p: p.stat().st_mtime):
        if history := (states.of_trial(path.parent.name) or {}).get("history"):
            shown = ("images", "objective", "seconds", "images_per_second", "note", "failed")
            said = {key: history[-1][key] for key in shown if history[-1].get(key) not in (None, "")}
            results.add(title, path.parent.name, reports=len(history), **said)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else MISSION))
