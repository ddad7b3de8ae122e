"""What Ctrl-C does to a run: once, it ends in good order; twice, at once. A job's SIGTERM counts as Ctrl-C."""

import os
import signal
import sys
from collections.abc import Callable

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def stop_in_two_steps(say: Callable[[str], None], last_words: Callable[[], str]) -> None:
    """From here on the first signal raises KeyboardInterrupt, and the next one ends the process with exit code 1.

    last_words: what is said as the process ends, e.g. how to go on. A signal that whoever started this process has it
    ignore stays ignored.
    """

    def first(number: int, frame: object) -> None:
        _handle(second)
        say("stopping; Ctrl-C again stops at once")
        raise KeyboardInterrupt

    def second(number: int, frame: object) -> None:
        say(f"stopped at once; {last_words()}")
        sys.stdout.flush()
        os._exit(1)  # Ray's own goodbye can take long: what this process had started ends with it

    _handle(first)


def _handle(handler: Callable[[int, object], None]) -> None:
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
