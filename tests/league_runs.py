"""The league as a user starts it, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "tests" / "tiny.yaml"
TWO_SEASONS = ["--sweep", TINY, "--trials", 6, "--seasons", 2, "--weather", "noise8", "--seed", 7]
UTKFACE = ROOT.parent / "shared" / "faces" / "utkface"


def league_process(*arguments: object, cache: Path, **kwargs: object) -> subprocess.Popen:
    """`python -m duel.league` with these arguments, output captured; `cache` keeps its decoded faces."""
    # Ray gives its workers the lowest priority but four, so beside any other work on the machine they hardly start.
    fair = {"RAY_worker_niceness": "0"}
    environment = {**os.environ, **fair, "DUEL_CACHE": str(cache), **kwargs.pop("env", {})}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.Popen(
        [sys.executable, "-m", "duel.league", *map(str, arguments)],
        cwd=ROOT, env=environment, text=True, stdin=subprocess.DEVNULL,
        stdout=kwargs.pop("stdout", subprocess.PIPE), stderr=kwargs.pop("stderr", subprocess.PIPE), **kwargs,
    )  # fmt: skip


def run_league(*arguments: object, cache: Path, timeout: float = 400, **kwargs: object) -> subprocess.CompletedProcess:
    """Start the command and wait for its end."""
    process = league_process(*arguments, cache=cache, **kwargs)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def worked_on(run: Path, stage: str = "*") -> set[str]:
    """Addresses of the nodes that reported a trial's results, from what Tune keeps in the run's folder."""
    lines = [line for path in run.glob(f"tune/{stage}/*/result.json") for line in path.read_text("utf-8").splitlines()]
    return {json.loads(line)["node_ip"] for line in lines}
