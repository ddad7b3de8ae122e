"""The run's folder on the storage too: a run outlives the machine that drives it, and whoever asks gets its report.

While a run works, its driver copies what is new in the folder to STORAGE/NAME/run every few seconds, and at the end.
The copies are plain files; a list beside them holds their digests, which tell a whole answer from one cut off, and what
need not be copied again after a restart. duel.fetch brings them to another machine.
"""

import hashlib
import json
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from duel.claim import SIGN, Claim, Ousted, Sign
from duel.rundir import DRIVER, ERROR, LOCK, RunFolder
from duel.store import NAME, sweep_partials

EVERY = 20.0  # seconds between two copies
AT_ONCE = 4  # files on their way: an object store answers slowly; what comes from there is in memory, fakes too
COPY, LIST = "run", "copied.json"
STAYS = ("tune", LOCK, DRIVER, ERROR)  # of the driver's machine alone
STOP = signal.SIGTERM  # what ends a run in good order, see duel.interrupt

Copied = Callable[[], bool]  # has all that is in the folder copied now; False where that failed, for the moment


@contextmanager
def mirrored(run: RunFolder, note: Callable[[str], None], seen: Sign | None = None) -> Iterator[Copied]:
    """Inside, what is new in the run's folder is copied to its storage; a run without storage stays where it is.

    seen: of the last driver, see duel.fetch. Yields what is to be called before anything is deleted on the storage.
    UsageError where the run on the storage is not this driver's to take; Ousted, once another driver has taken it.
    """
    if run.data["storage"] is None:
        yield lambda: True
        return
    claim = Claim(run)
    claim.take(seen)
    mirror = _Mirror(run, claim, note)
    thread = threading.Thread(target=mirror.work, daemon=True)
    thread.start()
    try:
        yield mirror.copied
    except KeyboardInterrupt:
        if mirror.ousted is None:
            raise
        raise mirror.ousted from None
    finally:
        mirror.stop.set()
        thread.join()
        mirror.end()


class _Mirror:
    """What has been copied in this session."""

    def __init__(self, run: RunFolder, claim: Claim, note: Callable[[str], None]):
        self.stop = threading.Event()
        self.ousted: Ousted | None = None
        self._found_by: threading.Thread | None = None  # who saw it first, and so tells it
        self._run, self._claim, self._note, self._store = run, claim, note, claim.store
        self._there: dict[str, str] = {}  # file -> digest, of what an earlier session has copied
        self._copied: dict[str, tuple[int, int, str]] = {}  # file -> its time, size and digest
        self._signed, self._failing, self._one = time.monotonic(), False, threading.Lock()

    def work(self) -> None:
        """Copy again and again until told to stop."""
        while not self.stop.is_set() and self.ousted is None:
            self._try()
            if self._found_by is threading.current_thread():
                self._note(str(self.ousted))
                main = threading.main_thread().ident
                if main and callable(signal.getsignal(STOP)):
                    signal.pthread_kill(main, STOP)
            self.stop.wait(EVERY)

    def copied(self) -> bool:
        """Copy now what is new. Ousted where another drives the run."""
        done = self._try()
        if self.ousted:
            raise self.ousted
        return done

    def end(self) -> None:
        """Copy what is left, and say that this driver is no longer at work; a run without work gives its name back."""
        if self.ousted:
            return
        done = self._try(working=False) if self._run.has_work() else self._leave_nothing()
        if not done and not self.ousted:
            self._note(f"the copy of this run in {self._store.root} is not up to date; --resume brings it there")

    def _leave_nothing(self) -> bool:
        try:
            self._claim.check()
            for name in (COPY, LIST, SIGN):
                self._store.remove(name)
        except Ousted:
            return True  # it is another's
        except OSError:
            return False
        return True

    def _try(self, working: bool = True) -> bool:
        with self._one:
            if self.ousted:
                return False
            try:
                self._claim.check()
                self._copy()
                self._claim.renew(working)
                self._failing = False
            except Ousted as error:
                self.ousted, self._found_by = error, threading.current_thread()
                return False
            except Exception as error:  # a broken database, say: what can't be copied now is tried again
                if not self._failing:
                    reason = " ".join(str(error).split())[:200]
                    self._note(f"{self._store.root} can't be written to; trying again: {reason}")
                self._failing = True
            return not self._failing

    def _copy(self) -> None:
        """run.json goes last, as it was at first: a stage is not done there before its files are."""
        folder = self._run.path
        if not self._copied:
            self._there = self._copied_before()
        state = (folder / "run.json").read_bytes()
        there = sorted(folder.rglob("*"))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(self._copy_file, filter(self._is_new, there)):
                if time.monotonic() - self._signed > EVERY:
                    self._claim.renew()
                    self._signed = time.monotonic()
        names = {path.relative_to(folder).as_posix() for path in there}  # not what the run has removed since
        digests = {name: digest for name, (_, _, digest) in self._copied.items() if name in names}
        digests["run.json"] = hashlib.sha256(state).hexdigest()
        self._store.write(LIST, json.dumps(digests).encode())
        self._store.write(f"{COPY}/run.json", state, plain=True)

    def _copied_before(self) -> dict[str, str]:
        """What the list says; nothing where there is none that can be read: all is copied then."""
        if self._store.folder:
            sweep_partials(self._store.folder / COPY)
        try:
            listed = json.loads(self._store.read(LIST) or b"{}")
        except (ValueError, RecursionError):
            return {}
        return listed if isinstance(listed, dict) else {}

    def _is_new(self, path: Path) -> bool:
        name = path.relative_to(self._run.path)
        if name.parts[0] in (*STAYS, "run.json") or path.suffix in (".partial", ".db-journal"):
            return False
        # Drafts, and what somebody else has put there: see duel.fetch.
        if not all(NAME.fullmatch(part) and not part.startswith(".") for part in name.parts):
            return False
        try:
            return (
                path.is_file() and not path.is_symlink() and self._copied.get(name.as_posix(), ())[:2] != _version(path)
            )
        except FileNotFoundError:  # the run has removed it meanwhile
            return False

    def _copy_file(self, path: Path) -> None:
        name = path.relative_to(self._run.path).as_posix()
        try:
            version = _version(path)
            data = _database(path) if path.suffix == ".db" else _mapped(path)
        except FileNotFoundError:
            return
        digest = hashlib.sha256(data).hexdigest()
        if self._there.get(name) != digest:
            self._store.write(f"{COPY}/{name}", data, plain=True)
        self._there.pop(name, None)
        self._copied[name] = (*version, digest)


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
