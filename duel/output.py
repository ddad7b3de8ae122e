"""What is said to whoever reads: no name of a file steers a terminal, and no reader is needed for the work to go on."""

import io
import os
import sys
from typing import Any, TextIO


def printable(text: str) -> str:
    """One line of text, a file's name say, as any terminal and JSON can carry it: without line ends, escape sequences
    and half characters, which are spelt out as Python does."""
    if text.isprintable():  # nearly all of hundreds of thousands
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def say(text: str, file: TextIO | None = None) -> None:
    """Print lines, to stdout unless told where."""
    print("\n".join(map(printable, text.split("\n"))), file=file, flush=True)


def complain(text: str) -> None:
    """Print lines to stderr."""
    say(text, sys.stderr)


class Output:
    """A stream for people, in place of sys.stdout and sys.stderr: writing to it never raises.

    What its encoding lacks is spelt out. What can't be written is lost: a pager that was quit, a terminal that is gone,
    a log on a full disk are no reason to end hours of training. The first loss is told on stderr.
    """

    def __init__(self, file: Any):
        self._file = file if file is not None else open(os.devnull, "w")  # noqa: SIM115 - None: it was closed at start
        self._told = False
        if isinstance(file, io.TextIOWrapper):
            file.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write what can be written."""
        self._try(self._file.write, text)
        return len(text)

    def flush(self) -> None:
        """Also called as Python ends, which makes exit code 120 of an error here."""
        self._try(self._file.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def _try(self, action: Any, *arguments: str) -> None:
        try:
            action(*arguments)
        except (OSError, ValueError) as error:  # ValueError: the file is closed
            if not self._told:
                self._told = True  # first, as stderr itself may be what is lost
                name = printable(str(getattr(self._file, "name", "the output")))
                complain(f"{name} can't be written to ({getattr(error, 'strerror', None) or error}); the work goes on")
