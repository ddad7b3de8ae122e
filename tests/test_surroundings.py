"""What is wrong around Ray's start: exit 2 and what to change, or 1 where nobody could know, and no folder stays."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from league_runs import ROOT, TINY

from duel import paths
from duel.cluster import connection, surroundings
from duel.errors import DuelError, UsageError
from duel.league import main
from duel.sweep import run as sweep_run


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs a league in this process; its exit code and what it printed on stderr."""

    def run() -> tuple[int, str]:
        monkeypatch.setenv("DUEL_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(sys, "argv", ["duel", "--sweep", str(TINY), "--out", str(tmp_path / "out"), "--name", "a"])
        for stream in ("stdout", "stderr"):  # main replaces them
            monkeypatch.setattr(sys, stream, getattr(sys, stream))
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capsys.readouterr().err

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return run


def no_home(patch, tmp_path):
    patch.setattr(os.path, "expanduser", lambda path: path)


def removed_folder(patch, tmp_path):
    (tmp_path / "gone").mkdir()
    patch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()


def odd_folder(patch, tmp_path):
    odd = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(odd)
    patch.chdir(os.fsdecode(odd))


WRONG = {
    "old Ray": (lambda patch, _: patch.setattr(surroundings, "version", lambda name: "2.58.3"),
                "ray 2.58.3 is installed here, must be 2.59 or newer"),
    "open Ray": (lambda patch, _: patch.setenv("RAY_AUTH_MODE", "disabled"), "RAY_AUTH_MODE=disabled: must be token"),
    "another's token": (lambda patch, _: patch.setenv("RAY_AUTH_MODE", "k8s"), "RAY_AUTH_MODE=k8s: must be token"),
    "no home": (no_home, "HOME is not set, and user"),
    "no shared memory": (lambda patch, tmp: patch.setattr(surroundings, "SHARED_MEMORY", tmp / "shm"),
                         "shm is not there"),
    "a cluster that is away": (lambda patch, _: patch.setenv("RAY_ADDRESS", "127.0.0.1:1"),
                               "RAY_ADDRESS 127.0.0.1:1: no"),
    "no current folder": (removed_folder, "the current folder has been removed"),
    "an odd folder": (odd_folder, r"udce9': its name is not UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_can_be_seen_is_told_before_anything_is_made(command, name, monkeypatch, tmp_path):
    spoil, words = WRONG[name]
    spoil(monkeypatch, tmp_path)
    code, err = command()
    assert code == 2, err
    assert words in err
    assert "--resume" not in err
    assert not list(tmp_path.glob("out/*"))


def test_code_in_a_folder_whose_name_is_no_text(monkeypatch):
    monkeypatch.setattr(surroundings.duel, "__file__", "/caf\udce9/duel/__init__.py")
    with pytest.raises(UsageError, match="folder of duel's code"):
        surroundings.look(None)


def test_a_joined_cluster_has_its_own_settings(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr(surroundings, "SHARED_MEMORY", Path("/nowhere"))
    surroundings.look("10.0.0.5:6379")
    assert surroundings.cluster_address("local") is None


ENDS = {
    "Ctrl-C": (KeyboardInterrupt(), "interrupted; nothing had begun, so no run a is kept"),
    "Ray's own end": (SystemExit(15), "interrupted; nothing had begun, so no run a is kept"),
    "no Ray": (DuelError("Ray does not start on this machine: why"), "error: Ray does not start on this machine: why"),
    "anything": (OSError("odd"), "error: OSError: odd (all of it in "),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_run_that_ends_before_any_work_gives_its_name_back(command, name, monkeypatch, tmp_path):
    error, words = ENDS[name]

    def fail(address, note):
        assert (tmp_path / "out" / "a" / "run.json").exists()
        raise error

    monkeypatch.setattr(connection, "connect", fail)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("duel.session.stop_in_two_steps", lambda *_: None)
    code, err = command()
    assert code == 1
    assert words in err
    assert "--resume" not in err
    assert not list(tmp_path.glob("out/*"))
    if name == "anything":
        assert "no run a is kept" in err
        [kept] = tmp_path.glob("duel-error-*/error.txt")
        assert "Traceback" in kept.read_text() and str(kept) in err


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o600])
def test_a_clusters_secret_is_closed_to_others(monkeypatch, tmp_path, mode):
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("secret")
    token.chmod(mode)
    monkeypatch.setenv("HOME", str(tmp_path))
    notes = []
    surroundings.close_token(notes.append)
    assert token.stat().st_mode & 0o777 == 0o600
    assert (notes == []) == (mode == 0o600)


def test_a_sweep_without_a_process_says_so_once(monkeypatch, tmp_path):
    class Watch:
        def __init__(self):
            self.notes = []

        def note(self, text):
            self.notes.append(text)

    monkeypatch.setattr(sweep_run, "why_waiting", lambda room: f"waiting for {room}")
    for silence, begins, notes in ((60, False, []), (-1, True, []), (-1, False, ["waiting for room"])):
        monkeypatch.setattr(sweep_run, "SILENCE", silence)
        watch = Watch()
        watcher = sweep_run._Watcher(watch, SimpleNamespace(room="room", storage=str(tmp_path)))
        if begins:
            watcher.on_trial_start(0, [], None)
        watcher.on_step_begin(0, [])
        watcher.on_step_begin(1, [])
        assert watch.notes == notes


def test_names_are_text_or_not():
    assert paths.is_utf8(str(ROOT))
    assert not paths.is_utf8("caf\udce9")
