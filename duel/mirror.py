"""The run's folder on the storage too: a run outlives the machine that drives it, and whoever asks gets its report.

While a run works, its driver copies what is new in the folder to STORAGE/NAME/run every few seconds, and at the end.
The copies are plain files; a list beside them holds their digests, which tell a whole answer from one cut off. `fetch`
brings them to another machine, to read a complete run there or to go on with one whose driver is gone.
"""

import hashlib
import json
import platform
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread

import numpy as np

from duel.errors import DuelError, UsageError
from duel.output import printable
from duel.rundir import ERROR, RunFolder
from duel.store import Store, write_atomically

EVERY = 20.0  # seconds between two copies
STILL = 3 * EVERY  # a driver that has given no sign for so long is gone
TRIES, PAUSE = 10, 1.0  # of reading a copy, seconds between them
AT_ONCE = 4  # files on their way: an object store answers slowly; what comes from there is in memory, fakes too
PATIENCE = 30.0  # a copy that fails is made again the next time
COPY, LIST, SIGN = "run", "copied.json", "driver.json"
STAYS = ("tune", ".lock", ERROR)  # of the driver's machine alone
NOT_IN_A_REPORT = "work/"  # gigabytes of fakes, of use only to a run that goes on


@contextmanager
def mirrored(run: RunFolder, note: Callable[[str], None]) -> Iterator[None]:
    """Inside, what is new in the run's folder is copied to its storage; a run without storage stays where it is."""
    if run.data["storage"] is None:
        yield
        return
    mirror = _Mirror(run, note)
    thread = Thread(target=mirror.work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        mirror.stop.set()
        thread.join()
        mirror.end()


def fetch(folder: Path, storage: str, note: Callable[[str], None]) -> None:
    """Bring a run's folder from its storage, unless this machine was the last to drive the run.

    storage: the run's own root there. A complete run comes without its fakes. UsageError where neither has the run, and
    while another driver is at work on it, which takes a minute to tell; DuelError where the storage can't be read.
    """
    store = Store(storage, PATIENCE)
    try:
        sign = _sign(store)
    except OSError as error:
        raise DuelError(f"--resume {folder.name}: its storage {storage} can't be read: {error}") from None
    ours = known(folder)
    if sign is None and not ours:
        raise UsageError(f"--resume {folder.name}: no such run in {storage}, nor in {folder}")
    if sign is None or sign["driver"] == ours.get("driver"):
        return
    if sign["working"]:
        host = printable(str(sign["host"]))
        note(f"{host} was the last to work on this run: waiting {STILL:.0f} s to see whether it still does")
        time.sleep(STILL)
        if _sign(store) != sign:
            raise UsageError(
                f"--resume {folder.name}: {host} is at work on this run; wait for its end or stop it there"
            )
    note(f"taking the run from {storage}")
    _bring(folder, store)


def known(folder: Path) -> dict[str, object]:
    """What run.json in the folder says; nothing where there is none that can be read."""
    try:
        data = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _sign(store: Store) -> dict | None:
    data = store.read(SIGN)
    return None if data is None else json.loads(data)


def _bring(folder: Path, store: Store) -> None:
    """run.json comes last: without it, or with an older one, the next `fetch` begins again."""
    listed = store.read(LIST)
    if listed is None:
        raise UsageError(f"--resume {folder.name}: {store.root} holds nothing of it but its trials")
    digests = json.loads(listed)
    state = _copied(store, "run.json", digests.pop("run.json"))
    if json.loads(state).get("status") == "complete":
        digests = {name: digest for name, digest in digests.items() if not name.startswith(NOT_IN_A_REPORT)}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda name: write_atomically(folder / name, _copied(store, name, digests[name])), digests))
    write_atomically(folder / "run.json", state)


def _copied(store: Store, name: str, digest: str) -> bytes:
    """A file's bytes: those of the list, or, where the driver died between a file and the list, the newer ones."""
    before = None
    for _ in range(TRIES):
        data = store.read(f"{COPY}/{name}", plain=True)
        if data is not None and (hashlib.sha256(data).hexdigest() == digest or data == before):
            return data
        before = data
        time.sleep(PAUSE)
    raise DuelError(f"{store.root}/{COPY}/{name} can't be read whole")


class _Mirror:
    """What has been copied in this session."""

    def __init__(self, run: RunFolder, note: Callable[[str], None]):
        self.stop = Event()
        self._run, self._note = run, note
        self._store = Store(run.data["storage"], PATIENCE)
        self._copied: dict[str, tuple[int, int, str]] = {}  # file -> its time, size and digest
        self._beats, self._signed, self._failing = 0, 0.0, False
        run.update(driver=uuid.uuid4().hex)

    def work(self) -> None:
        """Copy again and again until told to stop."""
        while not self.stop.is_set():
            self._try()
            self.stop.wait(EVERY)

    def end(self) -> None:
        """Copy what is left, and say that this driver is no longer at work."""
        if not self._try(working=False):
            self._note(f"the copy of this run in {self._store.root} is not up to date; --resume brings it there")

    def _try(self, working: bool = True) -> bool:
        try:
            self._copy()
            self._give_sign(working)
            self._failing = False
        except OSError as error:
            if not self._failing:
                reason = " ".join(str(error).split())[:200]
                self._note(f"{self._store.root} can't be written to; trying again: {reason}")
            self._failing = True
        return not self._failing

    def _copy(self) -> None:
        """run.json goes last, as it was at first: a stage is not done there before its files are."""
        folder = self._run.path
        state = (folder / "run.json").read_bytes()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(self._copy_file, filter(self._is_new, sorted(folder.rglob("*")))):
                if time.monotonic() - self._signed > EVERY:
                    self._give_sign()
        digests = {name: digest for name, (_, _, digest) in self._copied.items()}
        digests["run.json"] = hashlib.sha256(state).hexdigest()
        self._store.write(LIST, json.dumps(digests).encode())
        self._store.write(f"{COPY}/run.json", state, plain=True)

    def _is_new(self, path: Path) -> bool:
        name = path.relative_to(self._run.path)
        if name.parts[0] in (*STAYS, "run.json") or path.suffix in (".partial", ".db-journal"):
            return False
        try:
            return path.is_file() and self._copied.get(name.as_posix(), ())[:2] != _version(path)
        except FileNotFoundError:  # the run has removed it meanwhile
            return False

    def _copy_file(self, path: Path) -> None:
        name = path.relative_to(self._run.path).as_posix()
        try:
            version = _version(path)
            data = _database(path) if path.suffix == ".db" else _mapped(path)
        except FileNotFoundError:
            return
        self._store.write(f"{COPY}/{name}", data, plain=True)
        self._copied[name] = (*version, hashlib.sha256(data).hexdigest())

    def _give_sign(self, working: bool = True) -> None:
        self._beats += 1
        sign = {"driver": self._run.data["driver"], "host": platform.node(), "working": working, "beats": self._beats}
        self._store.write(SIGN, json.dumps(sign).encode())
        self._signed = time.monotonic()


def _version(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def _mapped(path: Path) -> memoryview:
    """A file's bytes without a copy in this process' memory: league fakes are hundreds of megabytes."""
    return np.memmap(path, np.uint8, "r").data if path.stat().st_size else memoryview(b"")


def _database(path: Path) -> bytes:
    """An SQLite file as it is between two transactions."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(":memory:")) as copy:
        source.backup(copy)
        return copy.serialize()
