"""Ctrl-C once ends in good order, twice at once; a job's SIGTERM counts as Ctrl-C."""

import signal
import subprocess
import sys

import pytest

WORK = """
import signal, time
from duel.interrupt import stop_in_two_steps
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores Ctrl-C
stop_in_two_steps(print, lambda: "go on with --resume a")
try:
    print("at work", flush=True)
    time.sleep(1000)
except KeyboardInterrupt:
    print("tidying up", flush=True)
    time.sleep({tidying})
    print("tidy")
"""


def start(tidying: int) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", WORK.format(tidying=tidying)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_once(number):
    process = start(tidying=0)
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out.splitlines() == ["stopping; Ctrl-C again stops at once", "tidying up", "tidy"]


def test_twice():
    process = start(tidying=1000)
    assert process.stdout is not None
    process.send_signal(signal.SIGINT)
    assert [process.stdout.readline() for _ in range(2)][-1] == "tidying up\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert out == "stopped at once; go on with --resume a\n"
