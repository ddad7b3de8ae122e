"""What is printed: any name, on any encoding, with or without a reader."""

import io
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duel.output import Output, printable, say

EVIL = "\x1b]0;owned\x07\x9b2J\r\n\t\x7f\u2028\u202e\udce9.jpg"


def stream(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


def written(file: io.TextIOWrapper) -> bytes:
    return file.buffer.getvalue()  # type: ignore[attr-defined]


@given(st.text(st.characters()))
def test_printable_is_one_line_that_any_terminal_can_carry(text):
    shown = printable(text)
    assert shown.isprintable()
    shown.encode("utf-8")
    assert printable(shown) == shown


def test_printable_leaves_words_alone():
    for name in ("a face.jpg", "名é-й.png", "back\\slash"):
        assert printable(name) == name
    assert printable(EVIL) == r"\x1b]0;owned\x07\x9b2J\r\n\t\x7f\u2028\u202e\udce9.jpg"


def test_say_keeps_its_own_line_ends_only():
    file = io.StringIO()
    say("one\ntwo\x1b\r", file)
    assert file.getvalue() == "one\ntwo\\x1b\\r\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "gbk", "utf-8", "utf-16"])
def test_what_the_encoding_lacks_is_spelt_out(encoding):
    file = stream(encoding)
    print("é م 名", file=Output(file), flush=True)
    text = written(file).decode(encoding)
    for letter in "éم名":
        assert letter in text or letter.encode("ascii", "backslashreplace").decode() in text


class Broken(io.StringIO):
    """A stream that takes nothing."""

    def __init__(self, error: Exception):
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(5, "Input/output error"),
                                   OSError(28, "No space left on device"), ValueError("closed file")])  # fmt: skip
def test_a_loss_is_told_once_and_ends_nothing(error, capsys):
    file = Output(Broken(error))
    for _ in range(3):
        print("still here", file=file, flush=True)
    told = capsys.readouterr().err
    assert told.count("can't be written to") == 1
    assert (getattr(error, "strerror", None) or str(error)) in told


def test_a_lost_stderr_is_told_to_nobody(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Output(Broken(BrokenPipeError(32, "Broken pipe"))))
    print("still here", file=sys.stderr, flush=True)


def test_a_stream_that_was_closed_at_the_start():
    print("still here", file=Output(None), flush=True)


MANY_LINES = """
import sys
from duel.output import Output, say
from duel.progress import Progress
sys.stdout, sys.stderr = Output(sys.stdout), Output(sys.stderr)
with Progress() as progress:
    sys.stdin.readline()  # until the reader is gone
    for number in range(5000):
        progress.note(f"line {number}")
say("end")
print("unflushed")
open(sys.argv[1], "w").write("done")
"""


def work(done, **streams) -> subprocess.Popen:
    command = [sys.executable, "-c", MANY_LINES, str(done)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, text=True, **streams)


@pytest.mark.parametrize("both", [False, True])
def test_the_reader_goes_away(tmp_path, both):
    process = work(tmp_path / "done", stdout=subprocess.PIPE, stderr=subprocess.STDOUT if both else subprocess.PIPE)
    process.stdout.close()
    if both:
        process.communicate("go\n", timeout=60)
    else:
        process.stdin.write("go\n")
        process.stdin.close()
        assert process.stderr.read().count("can't be written to (Broken pipe); the work goes on") == 1
        process.stderr.close()
    assert process.wait(timeout=60) == 0
    assert (tmp_path / "done").read_text() == "done"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_the_log_is_on_a_full_disk(tmp_path):
    with open("/dev/full", "w") as full:
        process = work(tmp_path / "done", stdout=full, stderr=subprocess.PIPE)
    _, told = process.communicate("go\n", timeout=60)
    assert process.returncode == 0
    assert told.count("No space left on device") == 1
    assert (tmp_path / "done").read_text() == "done"
