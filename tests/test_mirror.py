"""A run's folder on its storage: another machine can read a complete run there, or go on with one that broke off."""

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from duel import fetch, mirror
from duel.claim import SIGN, Ousted, check_free, read_sign
from duel.errors import DuelError, UsageError
from duel.interrupt import stop_in_two_steps
from duel.rundir import RunFolder
from duel.store import Store


@pytest.fixture
def quick(monkeypatch):
    """Drivers give signs so often that a test needn't wait."""
    monkeypatch.setattr(mirror, "EVERY", 0.1)
    monkeypatch.setattr(fetch, "STILL", 0.5)
    monkeypatch.setattr(fetch, "PAUSE", 0.01)


def new_run(folder: Path, storage: Path, ident: str = "this run") -> RunFolder:
    """A run that has begun its work."""
    data = {**dict.fromkeys(("name", "seed", "settings", "trials_requested")), "faces": {"fingerprint": "f"}}
    stages = [{"name": "generators", "finished": False}]
    return RunFolder.create(folder, {**data, "id": ident, "status": "running", "storage": str(storage),
                                     "stages": stages, "notes": []})  # fmt: skip


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
    own = (".lock", ".driver.json")
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name not in own}


def test_a_run_goes_on_elsewhere(tmp_path, quick):
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    with mirror.mirrored(run, pytest.fail):
        some_work(run)
    run.update(status="half")
    here = tmp_path / "here" / "r"
    fetch.fetch(here, str(tmp_path / "storage"), print)
    assert files(here) == files(run.path) - {"tune/log"}
    assert RunFolder.open(here).data["status"] == "running", "what was done after the driver's end is not there"
    with sqlite3.connect(here / "optuna.db") as database:
        assert database.execute("select number from trials").fetchall() == [(7,)]


def test_a_complete_run_comes_without_its_fakes(tmp_path, quick):
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    with mirror.mirrored(run, pytest.fail):
        some_work(run)
        run.update(status="complete")
    fetch.fetch(tmp_path / "here", str(tmp_path / "storage"), print)
    assert files(tmp_path / "here") == {"run.json", "optuna.db", "models/a/model.safetensors"}


def test_a_driver_at_work_is_left_to_it(tmp_path, quick):
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    with mirror.mirrored(run, pytest.fail):
        wait_for(tmp_path / "storage" / SIGN)
        with pytest.raises(UsageError, match=r"--resume here: .* is at work on this run"):
            fetch.fetch(tmp_path / "here", str(tmp_path / "storage"), print)
        assert not (tmp_path / "here").exists()
        fetch.fetch(run.path, str(tmp_path / "storage"), pytest.fail)  # its own folder: the lock there decides


def test_a_driver_that_was_killed_is_waited_for_once(tmp_path, quick, capsys):
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    with mirror.mirrored(run, pytest.fail):
        some_work(run)
    sign = tmp_path / "storage" / SIGN
    sign.write_text(json.dumps({**json.loads(sign.read_text()), "working": True}))
    fetch.fetch(tmp_path / "here", str(tmp_path / "storage"), print)
    assert "waiting" in capsys.readouterr().out
    assert (tmp_path / "here" / "run.json").exists()


def test_the_newest_driver_counts(tmp_path, quick):
    """A run that went on elsewhere comes back as it is there, whatever the first machine still has."""
    first = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    with mirror.mirrored(first, pytest.fail):
        some_work(first)
    seen = fetch.fetch(tmp_path / "here" / "r", str(tmp_path / "storage"), print)
    second = RunFolder.open(tmp_path / "here" / "r")
    with mirror.mirrored(second, pytest.fail, seen):
        second.update(status="further")
    (first.path / "optuna.db-journal").write_bytes(b"of a transaction that broke off")
    (first.path / "work" / "stale.npy").write_bytes(b"made after the last copy")
    first.close()
    fetch.fetch(first.path, str(tmp_path / "storage"), print)
    assert fetch.known(first.path)["status"] == "further"
    assert files(first.path) == files(second.path), "what this machine had made meanwhile is of another history"


def test_a_copy_that_broke_off_is_made_again(tmp_path, quick, monkeypatch):
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    with mirror.mirrored(run, pytest.fail):
        some_work(run)
    here = tmp_path / "here"
    with monkeypatch.context() as broken:
        broken.setattr(fetch, "write_atomically", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(OSError, match="No space"):
            fetch.fetch(here, str(tmp_path / "storage"), print)
    fetch.fetch(here, str(tmp_path / "storage"), print)
    assert "models/a/model.safetensors" in files(here)


def test_a_storage_that_is_away_does_not_end_the_run(tmp_path, quick):
    notes: list[str] = []
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    with mirror.mirrored(run, notes.append) as copied:
        some_work(run)
        (tmp_path / "storage").rename(tmp_path / "away")
        (tmp_path / "storage").write_text("in the way")
        assert not copied(), "nothing may be deleted now"
    assert "can't be written to" in notes[0]
    assert "not up to date" in notes[-1]


def test_a_storage_that_takes_nothing_ends_the_run_at_once(tmp_path, quick):
    (tmp_path / "storage").write_text("in the way")
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    with pytest.raises(UsageError, match="can't be written to"), mirror.mirrored(run, pytest.fail):
        pytest.fail("it went on")


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
    fetch.fetch(tmp_path / "here", str(tmp_path / "storage"), print)
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


def ended(run: RunFolder, storage: Path) -> None:
    """The run as a driver leaves it that has worked and was stopped."""
    with mirror.mirrored(run, pytest.fail):
        some_work(run)
    run.close()


def state_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_run_is_refused_a_storage_that_holds_another(tmp_path, quick):
    storage = tmp_path / "storage"
    ended(new_run(tmp_path / "head" / "r", storage), storage)
    before = state_of(storage)
    with pytest.raises(UsageError, match=r"already holds a run that .* was the last to drive; .*--resume r .*--name"):
        check_free(str(storage), tmp_path / "other" / "r")
    run = new_run(tmp_path / "other" / "r", storage, "another run")
    with pytest.raises(UsageError, match="holds another run"), mirror.mirrored(run, pytest.fail):
        pytest.fail("it went on")
    assert state_of(storage) == before


@pytest.mark.parametrize("storage", ["reports/r", "reports/r/storage", "reports"])
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_storage_is_not_the_runs_own_folder(tmp_path, storage, scheme):
    with pytest.raises(UsageError, match="run's own folder"):
        check_free(f"{scheme}{tmp_path / storage}", tmp_path / "reports" / "r")


def test_what_a_trial_of_the_storage_has_left_does_not_take_the_name(tmp_path):
    (tmp_path / "storage" / "probe").mkdir(parents=True)
    check_free(str(tmp_path / "storage"), tmp_path / "r")


@pytest.mark.parametrize("file", ["trials/g00-dcgan/state.pt", "photograph.jpg"])
def test_a_new_run_is_refused_a_storage_with_files_of_nobody(tmp_path, file):
    path = tmp_path / "storage" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"of nobody knows whom")
    with pytest.raises(UsageError, match="already holds a run, or other files;"):
        check_free(str(tmp_path / "storage"), tmp_path / "r")


def test_a_run_without_work_gives_its_name_back(tmp_path, quick):
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    run.update(stages=[{"name": "faces", "finished": True}])
    with mirror.mirrored(run, pytest.fail):
        wait_for(tmp_path / "storage" / mirror.LIST)
    check_free(str(tmp_path / "storage"), tmp_path / "elsewhere" / "r")


def test_a_folder_with_another_run_is_not_written_over(tmp_path, quick):
    storage = tmp_path / "storage"
    ended(new_run(tmp_path / "head" / "r", storage), storage)
    other = new_run(tmp_path / "here" / "r", storage, "another run")
    before = state_of(other.path)
    with pytest.raises(UsageError, match="holds another run than"):
        fetch.fetch(other.path, str(storage), pytest.fail)
    assert state_of(other.path) == before


def test_a_copied_folder_takes_the_run_over_from_the_storage(tmp_path, quick):
    """It may be older than what the storage has; and the first folder is told at its next --resume."""
    storage, first = tmp_path / "storage", tmp_path / "head" / "r"
    run = new_run(first, storage)
    with mirror.mirrored(run, pytest.fail):
        shutil.copytree(first, tmp_path / "copy" / "r")
        some_work(run)
    run.close()
    copy = tmp_path / "copy" / "r"
    seen = fetch.fetch(copy, str(storage), print)
    assert (copy / "models" / "a" / "model.safetensors").exists()
    second = RunFolder.open(copy)
    with mirror.mirrored(second, pytest.fail, seen):
        second.update(status="further")
    fetch.fetch(first, str(storage), print)
    assert fetch.known(first)["status"] == "further"


def test_a_moved_folder_is_the_newest_and_stays_as_it_is(tmp_path, quick):
    """On another path, or where the host is called otherwise by now: what the storage lacked is still there."""
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    ended(run, tmp_path / "storage")
    (run.path / "matches.csv").write_text("made when the storage was away")
    (tmp_path / "head").rename(tmp_path / "moved")
    seen = fetch.fetch(tmp_path / "moved" / "r", str(tmp_path / "storage"), pytest.fail)
    with mirror.mirrored(RunFolder.open(tmp_path / "moved" / "r"), pytest.fail, seen):
        pass
    assert (tmp_path / "storage" / "run" / "matches.csv").exists()


def test_a_folder_that_was_set_back_takes_what_the_storage_has(tmp_path, quick):
    """As by a snapshot of the disk: the same host, path and lock, but of an earlier moment."""
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    with mirror.mirrored(run, pytest.fail) as copied:
        assert copied()
        before = {path: path.read_bytes() for path in run.path.iterdir() if path.name != ".lock"}
        some_work(run)
        assert copied()
    run.close()
    shutil.rmtree(run.path / "models")
    for path, data in before.items():
        path.write_bytes(data)
    fetch.fetch(run.path, str(tmp_path / "storage"), print)
    assert (run.path / "models" / "a" / "model.safetensors").exists()


def test_a_database_that_cant_be_copied_does_not_end_the_copying(tmp_path, quick):
    notes: list[str] = []
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    with mirror.mirrored(run, notes.append) as copied:
        (run.path / "optuna.db").write_bytes(b"no database" * 1000)
        assert not copied()
        (run.path / "optuna.db").unlink()
        some_work(run)
        assert copied()
    assert "file is not a database" in notes[0]


def test_what_the_run_has_removed_is_not_fetched(tmp_path, quick):
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    with mirror.mirrored(run, pytest.fail) as copied:
        some_work(run)
        (run.path / "models" / ".a-draft000").mkdir()
        (run.path / "models" / ".a-draft000" / "config.json").write_text("half")
        assert copied()
        (run.path / "work" / "fakes.npy").unlink()
    fetch.fetch(tmp_path / "here" / "r", str(tmp_path / "storage"), print)
    assert files(tmp_path / "here" / "r") == {"run.json", "optuna.db", "models/a/model.safetensors"}


def test_a_run_without_work_leaves_its_successors_sign_alone(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(mirror, "EVERY", 60)
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    run.update(stages=[])
    with mirror.mirrored(run, pytest.fail) as copied:
        assert copied()
        change(tmp_path / "storage" / SIGN, driver="another")
        before = state_of(tmp_path / "storage")
    assert state_of(tmp_path / "storage") == before


def test_two_folders_that_take_a_run_up_at_once(tmp_path, quick):
    storage = tmp_path / "storage"
    ended(new_run(tmp_path / "head" / "r", storage), storage)
    seen = [fetch.fetch(tmp_path / name / "r", str(storage), print) for name in "ab"]
    first, second = (RunFolder.open(tmp_path / name / "r") for name in "ab")
    taken = pytest.raises(UsageError, match="has just taken up")
    with mirror.mirrored(first, pytest.fail, seen[0]), taken, mirror.mirrored(second, pytest.fail, seen[1]):
        pytest.fail("both went on")


@pytest.fixture
def signals():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_driver_that_slept_ends_when_another_has_taken_over(tmp_path, quick, signals, monkeypatch):
    """Its process is there again after the lid was opened: it changes nothing any more, and the run ends here."""
    storage, notes = tmp_path / "storage", []
    run = new_run(tmp_path / "head" / "r", storage)
    stop_in_two_steps(notes.append, "")
    awake = threading.Event()
    check = mirror.Claim.check
    monkeypatch.setattr(mirror.Claim, "check", lambda claim: (awake.wait(60) and None) or check(claim))
    with pytest.raises(Ousted, match="has taken this run up"), mirror.mirrored(run, notes.append):
        sign = json.loads((storage / SIGN).read_text())
        (storage / SIGN).write_text(json.dumps({**sign, "driver": "another", "host": "other-host"}))
        before = state_of(storage)
        some_work(run)
        awake.set()
        for _ in range(600):  # a signal that comes just before a sleep begins does not cut it short
            time.sleep(0.1)
    assert "other-host" in notes[0]
    assert state_of(storage) == before


def test_nothing_is_deleted_for_a_driver_that_has_been_replaced(tmp_path, quick, monkeypatch):
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    monkeypatch.setattr(mirror, "EVERY", 60)
    with pytest.raises(Ousted), mirror.mirrored(run, pytest.fail) as copied:
        assert copied()
        sign = json.loads((tmp_path / "storage" / SIGN).read_text())
        (tmp_path / "storage" / SIGN).write_text(json.dumps({**sign, "driver": "another"}))
        copied()


def test_a_resume_uploads_only_what_is_new(tmp_path, quick, monkeypatch):
    run, storage = new_run(tmp_path / "head" / "r", tmp_path / "storage"), str(tmp_path / "storage")
    ended(run, tmp_path / "storage")
    again, written = RunFolder.open(run.path), []
    (run.path / "models" / "b.json").write_text("new")
    seen = fetch.fetch(run.path, storage, pytest.fail)
    write = Store.write
    monkeypatch.setattr(
        Store, "write", lambda store, name, *a, **o: written.append(name) or write(store, name, *a, **o)
    )
    with mirror.mirrored(again, pytest.fail, seen):
        pass
    assert {name for name in written if name.startswith("run/")} == {"run/models/b.json", "run/run.json"}
    monkeypatch.undo()
    fetch.fetch(tmp_path / "here" / "r", storage, print)
    assert files(tmp_path / "here" / "r") == files(run.path) - {"tune/log"}, "the list holds what was there before"


def test_what_a_killed_writer_left_is_swept(tmp_path, quick):
    run = new_run(tmp_path / "head" / "r", tmp_path / "storage")
    ended(run, tmp_path / "storage")
    left = [run.path / "work" / ".a.npy.17.partial", tmp_path / "storage" / "run" / "work" / ".a.npy.17.partial",
            run.path / "models" / ".g00-dcgan-x1y2z3w4" / "model.safetensors"]  # fmt: skip
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    with mirror.mirrored(RunFolder.open(run.path), pytest.fail, read_sign(Store(str(tmp_path / "storage")))):
        pass
    assert not [path for path in left if path.exists()]


# What somebody who may write to the storage, as any worker may, can put there.


@pytest.fixture
def taken(tmp_path, quick):
    """A run on a storage, as `--resume` on another machine finds it: the storage, and a function that resumes it."""
    storage = tmp_path / "storage"
    ended(new_run(tmp_path / "head" / "r", storage), storage)

    def resume() -> Path:
        fetch.fetch(tmp_path / "home" / "reports" / "r", str(storage), print)
        return tmp_path / "home" / "reports" / "r"

    return storage, resume


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


ELSEWHERE = [
    "../../../.bashrc",
    "/etc/x",
    "models/../../../x",
    "..",
    ".",
    "",
    "a//b",
    "a\\b",
    "caf\u00e9",
    "a b",
    "\x1b[2J",
]
NOT_COPIED = ["tune/x", ".lock", ".driver.json", "error.txt", ".fetched/x"]


@pytest.mark.parametrize("name", [*ELSEWHERE, *NOT_COPIED])
def test_a_listed_name_that_leads_elsewhere(tmp_path, taken, name):
    storage, resume = taken
    change(storage / mirror.LIST, **{name: "0" * 64})
    with pytest.raises(DuelError, match=r"no name of a run's file|no file of a run's copy"):
        resume()
    assert not (tmp_path / "home").exists()


def test_a_run_json_that_names_another_storage(tmp_path, taken):
    storage, resume = taken
    state = storage / "run" / "run.json"
    change(state, storage=str(tmp_path / "Documents"))
    with pytest.raises(UsageError, match=r"says that the run is kept in .*Documents"):
        resume()
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"run.json": 5}', '{"a": "b"}', "null"])
def test_a_list_that_is_none(taken, text):
    storage, resume = taken
    (storage / mirror.LIST).write_text(text)
    with pytest.raises(DuelError, match="is no list of a run's files"):
        resume()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"driver": 5}', "null"])
def test_a_sign_that_is_none(taken, text):
    storage, resume = taken
    (storage / SIGN).write_text(text)
    with pytest.raises(DuelError, match="is no sign of a driver"):
        resume()


@pytest.mark.parametrize("values", [{"faces": {"source": "/home/me/Pictures"}}, {"faces": "x"}, {"faces": None}])
def test_a_run_json_that_names_no_faces_it_began_with(taken, values):
    """Else the user's own pictures would do, and a sheet of them would go to the storage."""
    storage, resume = taken
    change(storage / "run" / "run.json", **values)
    with pytest.raises(DuelError, match="is no duel run"):
        resume()


def test_texts_that_are_nested_too_deeply(taken):
    storage, resume = taken
    for path, words in ((storage / "run" / "run.json", "is no duel run"), (storage / mirror.LIST, "is no list"),
                        (storage / SIGN, "is no sign")):  # fmt: skip
        path.write_text("[" * 5000)
        if path.name == "run.json":
            change(storage / mirror.LIST, **{"run.json": hashlib.sha256(path.read_bytes()).hexdigest()})
        with pytest.raises(DuelError, match=words):
            resume()


def test_files_that_are_far_too_large(tmp_path, taken):
    storage, resume = taken
    for name in (mirror.LIST, SIGN):
        with (storage / name).open("wb") as file:
            file.truncate(1 << 40)
        with pytest.raises(DuelError, match=r"has 1,099,511,627,776 bytes"):
            resume()


@pytest.mark.parametrize("values", [{"id": "another"}, {"storage": None}, {"status": []}])
def test_a_run_json_that_is_another_runs(taken, values):
    storage, resume = taken
    change(storage / "run" / "run.json", **values)
    with pytest.raises(DuelError, match="is not of the run that its driver signed for"):
        resume()


def test_the_report_is_not_taken_from_the_storage(taken):
    storage, resume = taken
    (storage / "run" / "index.html").write_text("<script>steal()</script>")
    change(storage / mirror.LIST, **{"index.html": "0" * 64})
    assert not (resume() / "index.html").exists()


def test_a_folder_that_is_a_link_leads_nowhere(tmp_path, taken):
    """The user's own old folder of the run has a link; what is fetched does not go through it."""
    _, resume = taken
    documents, folder = tmp_path / "home" / "Documents", resume()
    documents.mkdir()
    (documents / "letter").write_text("dear")
    shutil.rmtree(folder / "models")
    os.symlink(documents, folder / "models")
    resume()
    assert [p.name for p in documents.iterdir()] == ["letter"]
    assert not (folder / "models").is_symlink()


@pytest.mark.parametrize("name", ["models", ".lock", "error.txt", "notes.txt", "fakes/x.png", "work", "optuna.db"])
def test_a_strangers_run_folder_with_links(tmp_path, name):
    """Each would have had something of the user's deleted, emptied, written over or copied to the storage."""
    home, folder = tmp_path / "home", tmp_path / "reports" / "r"
    new_run(folder, tmp_path / "storage").close()
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_rsa").write_text("secret")
    place = folder / name
    place.parent.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(home if "." not in name else home / ".ssh" / "id_rsa")
    with pytest.raises(UsageError, match=r"is a link, and a run's folder has none"):
        RunFolder.open(folder)
    assert (home / ".ssh" / "id_rsa").read_text() == "secret"


def test_a_lock_that_is_a_link_is_not_opened(tmp_path):
    folder, thesis = tmp_path / "r", tmp_path / "thesis.txt"
    folder.mkdir()
    thesis.write_text("years of work")
    (folder / ".lock").symlink_to(thesis)
    with pytest.raises(UsageError):
        RunFolder.create(folder, {"id": "i"})
    assert thesis.read_text() == "years of work"


def test_what_links_lead_to_is_not_copied(tmp_path, quick):
    run = new_run(tmp_path / "r", tmp_path / "storage")
    (tmp_path / "id_rsa").write_text("secret")
    with mirror.mirrored(run, pytest.fail):
        (run.path / "notes.txt").symlink_to(tmp_path / "id_rsa")
    assert not (tmp_path / "storage" / "run" / "notes.txt").exists()


def test_a_strangers_run_folder_with_a_storage_of_the_users(tmp_path):
    documents = tmp_path / "Documents"
    documents.mkdir()
    (documents / "letter").write_text("dear")
    folder = tmp_path / "reports" / "r"
    new_run(folder, documents)
    with pytest.raises(UsageError, match="no run in"):
        fetch.fetch(folder, str(documents), pytest.fail)
    assert [p.name for p in documents.iterdir()] == ["letter"]


def test_all_of_this_on_s3(tmp_path, quick, s3):
    """The names that a worker can put there are keys, of which S3 takes any."""
    root, _ = s3()
    store, run = Store(root), new_run(tmp_path / "head" / "r", tmp_path / "unused")
    run.update(storage=root)
    with mirror.mirrored(run, pytest.fail):
        some_work(run)
    run.close()
    with pytest.raises(UsageError, match="holds a run that"):
        check_free(root, tmp_path / "other" / "r")
    home, listed = tmp_path / "home" / "r", json.loads(store.read(mirror.LIST))
    store.write(mirror.LIST, json.dumps({**listed, "../../../.bashrc": "0" * 64}).encode())
    with pytest.raises(DuelError, match="no name of a run's file"):
        fetch.fetch(home, root, print)
    assert not home.exists()
    store.write(mirror.LIST, json.dumps(listed).encode())
    fetch.fetch(home, root, print)
    assert files(home) == files(run.path) - {"tune/log"}
    state = json.loads(store.read("run/run.json", plain=True))
    store.write("run/run.json", json.dumps({**state, "storage": "/home/me"}).encode(), plain=True)
    with pytest.raises(UsageError, match="says that the run is kept in '/home/me'"):
        fetch.fetch(tmp_path / "again" / "r", root, print)


def test_a_complete_run_whose_last_copy_failed_reaches_its_storage(tmp_path, quick, capsys):
    from duel.league import _resume

    run = new_run(tmp_path / "out" / "r", tmp_path / "storage" / "r")
    with mirror.mirrored(run, print) as copied:
        assert copied()
        (tmp_path / "storage").rename(tmp_path / "away")
        (tmp_path / "storage").write_text("in the way")
        run.update(status="complete", command=[], trials_requested=2)
    (tmp_path / "storage").unlink()
    (tmp_path / "away").rename(tmp_path / "storage")
    run.close()
    _resume(tmp_path / "out", "r", None, None, 3)
    assert "is complete already" in capsys.readouterr().err
    assert json.loads((tmp_path / "storage" / "r" / "run" / "run.json").read_text())["status"] == "complete"
    assert not read_sign(Store(str(tmp_path / "storage" / "r"))).working
