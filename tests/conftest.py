"""What end-to-end tests share."""

import subprocess
from pathlib import Path

import pytest
from league_runs import TINY, TWO_SEASONS, run_league


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


@pytest.fixture(scope="session")
def two_seasons(tmp_path_factory, cache) -> Path:
    """The folder of a complete tiny league of two seasons, with twins, guard and weather."""
    out = tmp_path_factory.mktemp("seasons")
    done = run_league(*TWO_SEASONS, "--out", out, "--name", "whole", cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "whole"
