"""A run's folder on its storage: another machine can read a complete run there, or go on with one that broke off."""

import json
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from duel import mirror
from duel.errors import UsageError
from duel.rundir import RunFolder
from duel.store import Store


@pytest.fixture
def quick(monkeypatch):
    """Drivers give signs so often that a test needn't wait."""
    monkeypatch.setattr(mirror, "EVERY", 0.1)
    monkeypatch.setattr(mirror, "STILL", 0.5)


def new_run(folder: Path, storage: Path) -> RunFolder:
    data = dict.fromkeys(("name", "seed", "settings", "trials_requested", "faces"))
    return RunFolder.create(folder, {**data, "status": "running", "storage": str(storage), "stages": [], "notes": []})


def some_work(run: RunFolder) -> None:
    (run.path / "models" / "a").mkdir(parents=True)
    (run.path / "models" / "a" / "model.safetensors").write_bytes(b"weights")
    (run.path / "work").mkdir()
    (run.path / "work" / "fakes.npy").write_bytes(b"fakes")
    (run.path / "tune").mkdir()
    (run.path / "tune" / "log").write_bytes(b"log")
    with sqlite3.connect(run.path / "optuna.db") as database:
        database.execute("create table trials (number int)")
        database.execute("insert into trials values (7)")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_run_goes_on_elsewhere(tmp_path, quick):
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    with mirror.mirrored(run, pytest.fail):
        some_work(run)
    run.update(status="half")
    here = tmp_path / "here" / "r"
    mirror.fetch(here, str(tmp_path / "storage"), print)
    assert files(here) == files(run.path) - {"tune/log"}
    assert RunFolder.open(here).data["status"] == "running", "what was done after the driver's end is not there"
    with sqlite3.connect(here / "optuna.db") as database:
        assert database.execute("select number from trials").fetchall() == [(7,)]


def test_a_complete_run_comes_without_its_fakes(tmp_path, quick):
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    with mirror.mirrored(run, pytest.fail):
        some_work(run)
        run.update(status="complete")
    mirror.fetch(tmp_path / "here", str(tmp_path / "storage"), print)
    assert files(tmp_path / "here") == {"run.json", "optuna.db", "models/a/model.safetensors"}


def test_a_driver_at_work_is_left_to_it(tmp_path, quick):
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    with mirror.mirrored(run, pytest.fail):
        wait_for(tmp_path / "storage" / mirror.SIGN)
        with pytest.raises(UsageError, match=r"--resume here: .* is at work on this run"):
            mirror.fetch(tmp_path / "here", str(tmp_path / "storage"), print)
        assert not (tmp_path / "here").exists()
        mirror.fetch(run.path, str(tmp_path / "storage"), pytest.fail)  # its own folder: the lock there decides


def test_a_driver_that_was_killed_is_waited_for_once(tmp_path, quick, capsys):
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    with mirror.mirrored(run, pytest.fail):
        some_work(run)
    sign = tmp_path / "storage" / mirror.SIGN
    sign.write_text(json.dumps({**json.loads(sign.read_text()), "working": True}))
    mirror.fetch(tmp_path / "here", str(tmp_path / "storage"), print)
    assert "waiting" in capsys.readouterr().out
    assert (tmp_path / "here" / "run.json").exists()


def test_the_newest_driver_counts(tmp_path, quick):
    """A run that went on elsewhere comes back as it is there, whatever the first machine still has."""
    first = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    with mirror.mirrored(first, pytest.fail):
        pass
    mirror.fetch(tmp_path / "here" / "r", str(tmp_path / "storage"), print)
    second = RunFolder.open(tmp_path / "here" / "r")
    with mirror.mirrored(second, pytest.fail):
        second.update(status="further")
    mirror.fetch(first.path, str(tmp_path / "storage"), print)
    assert mirror.known(first.path)["status"] == "further"


def test_a_copy_that_broke_off_is_made_again(tmp_path, quick, monkeypatch):
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    with mirror.mirrored(run, pytest.fail):
        some_work(run)
    here = tmp_path / "here"
    with monkeypatch.context() as broken:
        broken.setattr(mirror, "write_atomically", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(OSError, match="No space"):
            mirror.fetch(here, str(tmp_path / "storage"), print)
    mirror.fetch(here, str(tmp_path / "storage"), print)
    assert "models/a/model.safetensors" in files(here)


def test_a_storage_that_is_away_does_not_end_the_run(tmp_path, quick):
    notes: list[str] = []
    (tmp_path / "storage").write_text("in the way")
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    with mirror.mirrored(run, notes.append):
        some_work(run)
    assert "can't be written to" in notes[0]
    assert "not up to date" in notes[-1]


@pytest.mark.parametrize("method", ["write", "read"])
def test_files_do_not_wait_for_each_other(tmp_path, quick, monkeypatch, method):
    """Each of a run's three files is held up until all are on their way."""
    run, together = new_run(tmp_path / "head", tmp_path / "storage"), threading.Barrier(3, timeout=10)
    really = getattr(Store, method)

    def held_up(store: Store, name: str, *rest, **options):
        if name.startswith(f"{mirror.COPY}/") and not name.endswith("run.json"):
            together.wait()
        return really(store, name, *rest, **options)

    some_work(run)
    monkeypatch.setattr(Store, method, held_up)
    with mirror.mirrored(run, pytest.fail):
        pass
    mirror.fetch(tmp_path / "here", str(tmp_path / "storage"), print)
    assert files(tmp_path / "here") == files(run.path) - {"tune/log"}


def test_a_run_without_storage_stays_where_it_is(tmp_path):
    run = new_run(tmp_path / "r", tmp_path / "storage")
    run.update(storage=None)
    with mirror.mirrored(run, pytest.fail):
        pass
    assert not (tmp_path / "storage").exists()


def wait_for(path: Path) -> None:
    end = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
