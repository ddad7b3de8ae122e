"""The private folder for Ray's files: where it is made, who can't enter it, and that it goes. No Ray here."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from users import NOBODY, as_another_user

from duel.cluster import folder
from duel.errors import UsageError

KILLED = """
import os, signal, sys
from pathlib import Path
from duel.cluster import folder
ray, spilled = folder.make(print)
(ray / "session_2026-01-01" / "logs").mkdir(parents=True)
(ray / "session_2026-01-01" / "logs" / "worker.err").write_text("why")
(spilled / "object").write_text("large")
print(ray.parent, flush=True)
signal.pause()
"""


@pytest.fixture
def tmp(monkeypatch, tmp_path) -> Path:
    """A TMPDIR, short enough; what this process makes goes with the test."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    path = tmp_path / "t"
    path.mkdir()
    monkeypatch.setattr(folder, "LONGEST", 300)  # pytest's own folders are long
    monkeypatch.setenv("TMPDIR", str(path))
    yield path
    folder.remove(keep_logs=False)


def made(notes: list[str] | None = None) -> tuple[Path, Path]:
    return folder.make(([] if notes is None else notes).append)


def test_it_is_for_one_user_alone_and_goes(tmp):
    ray, spilled = made()
    private = ray.parent
    assert private.parent == tmp
    assert private.stat().st_mode & 0o777 == 0o700
    assert spilled.is_relative_to(private)
    tmp.chmod(0o777)  # the tests' own folder may be closed to others
    for action in (lambda: os.listdir(private), lambda: os.stat(spilled), lambda: os.mkdir(spilled / "x")):
        assert as_another_user(action) == "PermissionError"
    folder.remove(keep_logs=False)
    assert not any(tmp.iterdir())


def test_logs_of_a_run_that_failed_stay_for_a_day(tmp, monkeypatch):
    ray, _ = made()
    (ray / "session_1" / "logs").mkdir(parents=True)
    (ray / "session_1" / "sockets").mkdir()
    (ray / "session_latest").symlink_to(ray / "session_1")
    folder.remove(keep_logs=True)
    kept = ray.parent
    assert sorted(path.name for path in kept.iterdir()) == [folder.LOCK, "logs"]
    monkeypatch.setattr(folder, "YOUNG", -1)
    made()
    assert kept.exists()
    old = time.time() - folder.LOGS_STAY - 1
    os.utime(kept, (old, old))
    made()
    assert not kept.exists()


def test_what_a_killed_process_has_left_goes_with_the_next_start(tmp, monkeypatch):
    monkeypatch.setattr(folder, "YOUNG", -1)
    code = KILLED.replace("ray, spilled =", "folder.LONGEST = 300; ray, spilled =")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    left = Path(process.stdout.readline().strip())
    made()
    assert (left / "spilled" / "object").exists(), "it is in use"
    process.send_signal(signal.SIGKILL)
    process.wait()
    made()
    assert sorted(path.name for path in left.iterdir()) == [folder.LOCK, "logs"]
    assert (left / "logs" / "worker.err").read_text() == "why"


def test_a_young_folder_is_left_alone(tmp):
    (tmp / f"{folder.PREFIX}young").mkdir(mode=0o700)
    made()
    assert (tmp / f"{folder.PREFIX}young").exists()


def test_what_others_have_made_is_not_touched(tmp, monkeypatch, tmp_path):
    monkeypatch.setattr(folder, "YOUNG", -1)
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o700)
    (mine / "file").touch()
    (tmp / f"{folder.PREFIX}link").symlink_to(mine)
    (tmp / f"{folder.PREFIX}open").mkdir()
    (tmp / f"{folder.PREFIX}open").chmod(0o777)
    (tmp / f"{folder.PREFIX}file").touch()
    before = {path.name: path.lstat().st_mode for path in tmp.iterdir()}
    if os.getuid() == 0:
        theirs = tmp / f"{folder.PREFIX}theirs"
        theirs.mkdir(mode=0o700)
        os.chown(theirs, NOBODY, NOBODY)
        before[theirs.name] = theirs.lstat().st_mode
    ray, _ = made()
    assert ray.parent.name not in before
    assert {name: (tmp / name).lstat().st_mode for name in before} == before
    assert (mine / "file").exists()


def hostile_open(path: Path) -> None:
    path.chmod(0o777)


def hostile_owner(path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(path, NOBODY, NOBODY)


def hostile_link(path: Path) -> None:
    theirs = path.parent / "theirs"
    path.rename(theirs)
    path.symlink_to(theirs)
    hostile_owner(theirs)


WRONG = {
    "open to all": (hostile_open, "others can replace what is in"),
    "another's": (hostile_owner, f"belongs to another user (uid {NOBODY})"),
    "a link to another's": (hostile_link, f"belongs to another user (uid {NOBODY})"),
    "not there": (lambda path: path.rmdir(), "there is no such folder"),
    "a file": (lambda path: (path.rmdir(), path.touch()), "there is no such folder"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_folder_that_will_not_do_is_passed_over_untouched(tmp, name, monkeypatch):
    spoil, words = WRONG[name]
    spoil(tmp)
    before = tmp.lstat() if os.path.lexists(tmp) else None
    choice = folder.choose()
    assert choice.sockets == choice.spilled == Path("/tmp")
    [note] = choice.notes
    assert note.startswith(f"TMPDIR '{tmp}': ") and words in note and note.endswith("Ray's files go to /tmp instead")
    assert (tmp.lstat() if os.path.lexists(tmp) else None) == before
    monkeypatch.setattr(folder, "_candidates", lambda: [("TMPDIR", tmp)])
    with pytest.raises(UsageError, match=r"no folder for Ray's files: TMPDIR .*Set TMPDIR to a folder of yours"):
        folder.make(print)


def test_a_full_disk(tmp, monkeypatch):
    monkeypatch.setattr(folder, "LEAST_FREE", 2**62)
    with pytest.raises(UsageError, match=r"TMPDIR '.*': it has \d+ MB of free space, and Ray .*; folder '/tmp': "):
        folder.choose()


def test_a_name_that_is_no_text(tmp, monkeypatch):
    odd = os.fsencode(tmp) + b"/caf\xe9"
    os.mkdir(odd)
    monkeypatch.setenv("TMPDIR", os.fsdecode(odd))
    [note] = folder.choose().notes
    assert r"\udce9': its name is not UTF-8" in note


def test_sockets_go_elsewhere_where_the_path_is_too_long(tmp, monkeypatch):
    monkeypatch.setattr(folder, "LONGEST", 107)
    long = tmp / (60 * "a")
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    choice = folder.choose()
    assert (choice.sockets, choice.spilled) == (Path("/tmp"), long)
    assert len(choice.notes) == 1 and "too long for Ray's sockets" in choice.notes[0]
    ray, spilled = made()
    socket = str(ray / folder.SOCKET.removeprefix("ray/").format(os.getpid()))
    assert len(socket) < 107
    assert spilled.parent.parent == long
    assert spilled.parent.stat().st_mode & 0o777 == 0o700
    folder.remove(keep_logs=False)
    assert not ray.parent.exists() and not spilled.parent.exists()


def test_rays_own_variable_comes_first(tmp, monkeypatch, tmp_path):
    (tmp_path / "rays").mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "rays"))
    assert folder.choose().sockets == tmp_path / "rays"
