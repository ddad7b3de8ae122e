"""What a sweep costs beside training and scoring: a real league in a process of its own, read from its own files."""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import Options, Row, below
from league_runs import ROOT, TINY, run_league

from duel.config import load_sweep
from duel.faces import load_faces
from duel.spent import busy_spans

QUICK = ROOT / "sweeps" / "quick.yaml"
SCORING = ("faces", "yardsticks", "sparring fakes", "matches")  # stages that are work throughout


def measure(options: Options) -> list[Row]:
    """A quick league on a warm cache, and one of many trials that hardly train, one at a time."""
    faces = str(options.faces.absolute()) if options.faces else "drawn"
    with tempfile.TemporaryDirectory() as folder:
        return [
            _start(1 if options.quick else 3, faces, Path(folder)),
            _league(TINY if options.quick else QUICK, faces, Path(folder)),
            _trials(8 if options.quick else 32, Path(folder)),
        ]


def _start(count: int, faces: str, folder: Path) -> Row:
    """From the command to the first step of a trial, in short leagues; one more before them caches the faces."""
    waits = []
    for _ in range(count + 1):
        begin = time.time()
        waits.append(_first_step(_run(folder, "--sweep", TINY, "--trials", 2, "--faces", faces)) - begin)
    text = f"{min(waits[1:]):.1f} to {max(waits[1:]):.1f}, n = {count}; from the command, faces cached, a short league"
    return below("start to first trial training", statistics.median(waits[1:]), 15, "s", text)


def _first_step(run: Path) -> float:
    return min(busy_spans(_read(path)["history"])[0][0] for path in run.glob("models/g*/metrics.json"))


def _league(sweep: Path, faces: str, folder: Path) -> Row:
    settings = load_sweep(sweep)
    load_faces(faces, settings.image_size, sum(settings.faces.sizes().values()), 0, folder / "cache")
    begin = time.time()
    run = _run(folder, "--sweep", sweep, "--faces", faces)
    wall = time.time() - begin
    stages = {stage["name"]: stage for stage in _read(run / "run.json")["stages"]}
    trials = sum(stage.get("training", 0.0) + stage.get("scoring", 0.0) for stage in stages.values())
    scoring = sum(stages[name]["seconds"] for name in SCORING)
    idle = [stages[s]["seconds"] - stages[s]["training"] - stages[s]["scoring"] for s in ("generators", "detectors")]
    first = _first_step(run)
    text = (
        f"{wall:.0f} s in all; trials trained or scored for {trials:.0f} s, yardsticks, fakes and matches took "
        f"{scoring:.1f} s; of the rest {first - begin:.1f} s until the first trial trained; no trial at work in "
        f"{idle[0]:.1f} s of the generators' stage and {idle[1]:.1f} s of the detectors'"
    )
    return below(f"overhead of the {sweep.stem} sweep", 100 * (1 - (trials + scoring) / wall), 5, "%", text)


def _trials(count: int, folder: Path) -> Row:
    run = _run(folder, "--sweep", TINY, "--trials", count, "--max-concurrent", 1)
    stages = [stage for stage in _read(run / "run.json")["stages"] if "training" in stage]
    rest = sum(stage["seconds"] - stage["training"] - stage["scoring"] for stage in stages)
    return below("a trial", rest / count, 1, "s", f"mean of {count}, one at a time, beside its training and scoring; "
                 "both stages' start and end included")  # fmt: skip


def _run(folder: Path, *arguments: object) -> Path:
    """Run the command line to its end; the run's folder. CalledProcessError, with its output shown, if it fails."""
    name = f"run{len(list(folder.iterdir()))}"
    done = run_league("--out", folder, "--name", name, *arguments, cache=folder / "cache", timeout=7200)
    if done.returncode:
        print(done.stdout, done.stderr, file=sys.stderr)
        done.check_returncode()
    return folder / name


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
