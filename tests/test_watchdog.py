"""A worker that hangs ends; one that works does not, however long it takes."""

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
KINDS = ["time.sleep(1000)", "ctypes.PyDLL(None).sleep(1000)"]


@pytest.mark.parametrize("hang", KINDS, ids=["waiting", "deadlocked"])
def test_a_process_that_hangs_ends_and_says_where(hang, monkeypatch):
    monkeypatch.setenv("DUEL_HANG_MINUTES", "0.025")
    done = subprocess.run(
        [sys.executable, "-c", HANGS.format(hang=hang)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stdout == "worked\n", "4 s of work with a limit of 1.5 s"
    assert 'File "<string>", line 9' in done.stderr


def test_work_that_ends_is_left_alone(monkeypatch):
    monkeypatch.setenv("DUEL_HANG_MINUTES", "0.01")
    code = "import time\nfrom duel.watchdog import watched\nwith watched(): pass\ntime.sleep(2)"
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "inf", "nan", ""])
def test_a_limit_that_is_none(text, monkeypatch):
    monkeypatch.setenv("DUEL_HANG_MINUTES", text)
    with pytest.raises(UsageError, match=r"DUEL_HANG_MINUTES=.*above 0"):
        limit()
