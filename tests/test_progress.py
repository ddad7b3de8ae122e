"""What the progress view prints, and where it is live."""

import io
import os
import pty
import sys

import pytest
from rich.console import Console

from duel.progress import Progress


def tell_all(progress: Progress) -> None:
    with progress:
        progress.note("1 images skipped: \x1b]0;owned\x07\n名.jpg [red]:smile: (broken)")
        progress.stage("generator trials", 1, "trials", "min", 128)
        progress.trial_report("g01-dcgan", 128, 0.5)
        progress.trial_ended("g01-dcgan")
        progress.end()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk", "utf-8"])
def test_lines_on_a_file(encoding):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    tell_all(Progress(Console(file=file, highlight=False, soft_wrap=True)))
    lines = file.buffer.getvalue().decode(encoding).splitlines()
    assert len(lines) == 5
    assert lines[0].startswith(r"1 images skipped: \x1b]0;owned\x07\n")
    assert lines[0].endswith(".jpg [red]:smile: (broken)")
    assert lines[2].startswith("g01-dcgan: 128 images, objective 0.5000")


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"])
def test_no_variable_makes_a_file_a_terminal(monkeypatch, capsys, variable):
    monkeypatch.setenv(variable, "1")
    tell_all(Progress())
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert len(out.splitlines()) == 5


@pytest.mark.parametrize(("term", "live"), [("xterm", True), ("dumb", False)])
def test_a_terminal(monkeypatch, term, live):
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TERM", term)
    master, slave = pty.openpty()
    with open(slave, "w", encoding="ascii") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        tell_all(Progress())
        monkeypatch.undo()
        text = os.read(master, 1 << 16).decode("ascii")
    os.close(master)
    assert "\x1b]0;" not in text
    assert "\x07" not in text
    assert ("\x1b[" in text) == live
    assert ("g01-dcgan: 128 images" in text) != live, "lines where there is no live view"


def test_a_terminal_that_goes_away(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    master, slave = pty.openpty()
    terminal = open(slave, "w", encoding="utf-8")  # noqa: SIM115 - closing it fails as well
    monkeypatch.setattr(sys, "stdout", terminal)
    progress = Progress()
    os.close(master)
    tell_all(progress)
    monkeypatch.undo()
    with pytest.raises(OSError):
        terminal.close()
