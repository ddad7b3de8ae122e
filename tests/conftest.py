"""What end-to-end tests share."""

import subprocess
from pathlib import Path

import pytest
from league_runs import TINY, run_league


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
