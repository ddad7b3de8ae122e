"""Ends a worker process that hangs: Ray then starts its trial or task again, which no error would make it do.

A process hangs when it has finished no batch for HANG_MINUTES, a deadlock in native code included: the watch is a
thread of the interpreter's own (faulthandler) that needs no lock of Python's. Where it was hung goes to the worker's
log.
"""

import faulthandler
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from duel.errors import UsageError

VARIABLE, HANG_MINUTES = "DUEL_HANG_MINUTES", 15.0
_STDERR = 2


@dataclass
class _Clock:
    """When the process will be ended: so many seconds after the start; 0 while nobody watches."""

    seconds: float = 0.0
    started: float = 0.0

    def start(self, seconds: float) -> None:
        faulthandler.dump_traceback_later(seconds, exit=True, file=_STDERR)
        self.seconds, self.started = seconds, time.monotonic()

    def stop(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        self.seconds = 0.0


_clock = _Clock()  # faulthandler has one a process


@contextmanager
def watched() -> Iterator[None]:
    """Inside, the process ends with exit status 1 unless `pulse` is called again and again. UsageError: see limit."""
    _clock.start(limit())
    try:
        yield
    finally:
        _clock.stop()


def pulse() -> None:
    """The work gets on: a batch has been done. Does nothing in a process that is not watched."""
    # Each start costs a thread; a twentieth of the limit is near enough.
    if _clock.seconds and time.monotonic() - _clock.started > _clock.seconds / 20:
        _clock.start(_clock.seconds)


def limit() -> float:
    """Seconds without a pulse after which a process counts as hung: from $DUEL_HANG_MINUTES, else 15 minutes.

    UsageError where the variable holds no number above 0.
    """
    text = os.environ.get(VARIABLE, str(HANG_MINUTES))
    try:
        seconds = 60 * float(text)
        if not 0 < seconds < float("inf"):
            raise ValueError
    except ValueError:
        raise UsageError(f"{VARIABLE}={text}: give minutes, a number above 0") from None
    return seconds
