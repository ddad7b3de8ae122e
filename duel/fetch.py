"""A run from its storage to this machine: to read a complete one here, or to go on with one whose driver is gone.

Whoever may write to a storage may have put anything there. So a file's name must be one of a run's files, run.json must
be the one of this run and this storage, and the report is never taken from there but made anew.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from duel.claim import PATIENCE, Sign, drives_here, is_newest, read_sign
from duel.errors import DuelError, UsageError
from duel.mirror import AT_ONCE, COPY, EVERY, LIST, STAYS
from duel.rundir import LOCK, known, locked
from duel.store import PROBE, Store, checked, inside, sync, write_atomically

STILL = 3 * EVERY  # a driver that has given no sign for so long is gone
TRIES, PAUSE = 10, 1.0  # of reading a copy, seconds between them
NOT_IN_A_REPORT = "work/"  # gigabytes of fakes, of use only to a run that goes on
MADE_ANEW = "index.html"
MOST_BYTES = 1 << 26  # of run.json and of the list of files
ARRIVING = ".fetched"


def fetch(folder: Path, storage: str, note: Callable[[str], None]) -> Sign | None:
    """Bring a run's folder from its storage, unless nobody has come further than the folder (see duel.claim.is_newest).

    storage: the run's own root there. A complete run comes without its fakes. Returns the sign of the last driver; None
    where there was none. UsageError where neither has the run, where they have different ones, and while another driver
    is at work on it, which takes a minute to tell; DuelError where the storage can't be read.
    """
    store, ours = Store(storage, PATIENCE), known(folder)
    try:
        sign = read_sign(store)
        others = sign is None and bool(set(store.names()) - {PROBE})
    except OSError as error:
        raise DuelError(f"--resume {folder.name}: its storage {storage} can't be read: {error}") from None
    if others or (sign is None and not ours):
        there = "no run in" if others else "no such run in"
        raise UsageError(f"--resume {folder.name}: {there} {storage}{'' if others else f', nor in {folder}'}")
    if sign is None:
        return None
    if ours and ours.get("id") != sign.run:
        raise UsageError(f"--resume {folder.name}: {folder} holds another run than {storage}; move one of them away")
    newest = bool(ours) and is_newest(sign, folder)
    if ours.get("status") == "complete" or (newest and drives_here(sign, folder)):
        return sign
    if sign.working and not drives_here(sign, folder):
        _wait_for_end(folder.name, store, sign, note)
    if not newest:
        note(f"taking the run from {storage}")
        _bring(folder, store, sign)
    return sign


def _wait_for_end(name: str, store: Store, sign: Sign, note: Callable[[str], None]) -> None:
    note(f"{sign.who} was the last to work on this run: waiting {STILL:.0f} s to see whether it still does")
    time.sleep(STILL)
    if read_sign(store) != sign:
        raise UsageError(f"--resume {name}: {sign.who} is at work on this run; wait for its end or stop it there")


def _bring(folder: Path, store: Store, sign: Sign) -> None:
    """All files at once, when they are here: what lies in the folder is of an earlier state, and goes.

    run.json comes last: without it, or with an older one, the next `fetch` begins again.
    """
    digests = _listed(folder.name, store)
    state = _copied(store, "run.json", digests.pop("run.json"))
    data = _checked_state(state, folder.name, store, sign)
    if data["status"] == "complete":
        digests = {name: digest for name, digest in digests.items() if not name.startswith(NOT_IN_A_REPORT)}
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        arriving = folder / ARRIVING
        shutil.rmtree(arriving, ignore_errors=True)
        arriving.mkdir()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda name: write_atomically(inside(arriving, name), _copied(store, name, digests[name])),
                          digests))  # fmt: skip
        for old in folder.iterdir():
            if old.name not in (LOCK, ARRIVING, "run.json"):
                _delete(old)
        for new in arriving.iterdir():
            os.replace(new, folder / new.name)
        arriving.rmdir()
        for path in (*folder.rglob("*"), folder):
            if path.is_dir():
                sync(path)
        write_atomically(folder / "run.json", json.dumps(data, indent=1).encode())


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _listed(run: str, store: Store) -> dict[str, str]:
    """The digest of every file that is to be fetched."""
    listed = store.read(LIST, most=MOST_BYTES)
    if listed is None:
        raise UsageError(f"--resume {run}: {store.root} holds nothing of it but its trials")
    with suppress(ValueError, RecursionError):
        digests = json.loads(listed)
        if isinstance(digests, dict) and "run.json" in digests and all(isinstance(d, str) for d in digests.values()):
            for name in digests:
                if checked(name).split("/")[0] in (*STAYS, ARRIVING):
                    raise DuelError(f"{store.root}/{LIST}: {name!r} is no file of a run's copy")
            digests.pop(MADE_ANEW, None)
            return digests
    raise DuelError(f"{store.root}/{LIST} is no list of a run's files")


def _checked_state(state: bytes, run: str, store: Store, sign: Sign) -> dict[str, Any]:
    """What run.json there says, with the storage as it was named here."""
    try:
        data = json.loads(state)
        there, status = data["storage"], data["status"]
        begun_with = data["faces"]["fingerprint"]  # else any pictures of this machine would do
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DuelError(f"{store.root}/{COPY}/run.json is no duel run") from None
    texts = all(isinstance(text, str) and text for text in (there, status, begun_with))
    if data.get("id") != sign.run or not texts:
        raise DuelError(f"{store.root}/{COPY}/run.json is not of the run that its driver signed for")
    if there.partition("?")[0] != store.root.partition("?")[0]:
        raise UsageError(f"--resume {run}: its run.json in {store.root} says that the run is kept in {there[:300]!r}")
    return {**data, "storage": store.root}


def _copied(store: Store, name: str, digest: str) -> bytes:
    """A file's bytes: those of the list, or, where the driver died between a file and the list, the newer ones."""
    before = None
    for _ in range(TRIES):
        data = store.read(f"{COPY}/{name}", plain=True, most=MOST_BYTES if name == "run.json" else None)
        if data is not None and (hashlib.sha256(data).hexdigest() == digest or data == before):
            return data
        before = data
        time.sleep(PAUSE)
    raise DuelError(f"{store.root}/{COPY}/{name} can't be read whole")
