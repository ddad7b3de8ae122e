"""What end-to-end tests share: the tiny league as a user starts it, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "tests" / "tiny.yaml"
UTKFACE = ROOT.parent / "shared" / "faces" / "utkface"


def league_process(*arguments: object, cache: Path, **kwargs: object) -> subprocess.Popen:
    """`python -m duel.league` with these arguments, output captured; `cache` keeps its decoded faces."""
    environment = {**os.environ, "DUEL_CACHE": str(cache), **kwargs.pop("env", {})}
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


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """A faces cache for all tests of this session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, cache) -> tuple[Path, subprocess.CompletedProcess]:
    """A complete tiny league on drawn faces: its folder and what the command printed."""
    out = tmp_path_factory.mktemp("reports")
    done = run_league("--sweep", TINY, "--trials", 6, "--out", out, "--name", "tiny", "--seed", 7, cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "tiny", done
