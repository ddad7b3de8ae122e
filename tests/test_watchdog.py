"""A worker that hangs ends; one that works does not, however long it takes."""

import os
import subprocess
import sys

import pytest

from duel.errors import UsageError
from duel.watchdog import limit

HANGS = """
import ctypes, time
from duel.watchdog import pulse, watched
with watched():
    for _ in range(20):
        time.sleep(0.2)
        pulse()
    print("worked", flush=True)
    {hang}
"""
# Python's own lock is held all the time by the second: no thread of Python's could end it.
KINDS = {"waiting": "time.sleep(1000)", "deadlocked": "ctypes.PyDLL(None).sleep(1000)"}
ENDS = "import time\nfrom duel.watchdog import watched\nwith watched(): pass\ntime.sleep(2)"


def start(code: str, minutes: str) -> subprocess.Popen:
    environment = {**os.environ, "DUEL_HANG_MINUTES": minutes}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)  # fmt: skip


@pytest.fixture(scope="module")
def processes() -> dict[str, subprocess.Popen]:
    """All at once, as they do little but wait."""
    hanging = {name: start(HANGS.format(hang=hang), "0.025") for name, hang in KINDS.items()}
    return {**hanging, "ends": start(ENDS, "0.01")}


@pytest.mark.parametrize("name", KINDS)
def test_a_process_that_hangs_ends_and_says_where(name, processes):
    out, err = processes[name].communicate(timeout=60)
    assert processes[name].returncode == 1
    assert out == "worked\n", "4 s of work with a limit of 1.5 s"
    assert 'File "<string>", line 9' in err


def test_work_that_ends_is_left_alone(processes):
    processes["ends"].communicate(timeout=60)
    assert processes["ends"].returncode == 0


@pytest.mark.parametrize("text", ["soon", "0", "-1", "inf", "nan", ""])
def test_a_limit_that_is_none(text, monkeypatch):
    monkeypatch.setenv("DUEL_HANG_MINUTES", text)
    with pytest.raises(UsageError, match=r"DUEL_HANG_MINUTES=.*above 0"):
        limit()
