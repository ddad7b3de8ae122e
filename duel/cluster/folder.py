"""A private folder for Ray's files on this machine, on a path short enough for its sockets.

Ray opens its own folder to every user of the machine, with its sockets and spilled objects. These are pickles: whoever
can put one there has the league run their code. So Ray gets a folder inside one that this user alone can enter. Its
name is drawn when it is made, so that nobody can have made it before, and the folders above it are nobody else's.

It lies in $RAY_TMPDIR, $TMPDIR or /tmp, the first that will do, and not in $XDG_RUNTIME_DIR: that is memory, and gone
when its user logs out. Where the first is too long for sockets, they go to the next, and spilled objects stay.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from duel.errors import UsageError
from duel.paths import is_utf8

PREFIX, LOCK = "duel-ray-", ".lock"
# What Ray adds to its folder: the longest path of a socket, of which Linux takes 107 bytes.
SOCKET, LONGEST = "ray/session_2026-01-01_00-00-00_000000_{}/sockets/plasma_store", 107
LEAST_FREE = 64 * 2**20  # bytes: logs, sockets and the first objects
YOUNG = 60.0  # seconds: whoever makes a folder may not have locked it yet
LOGS_STAY = 24 * 3600.0  # seconds, of a run that failed

_held: dict[Path, IO[str]] = {}  # this process' folders, and the locks that say so


@dataclass(frozen=True)
class Choice:
    """In which folders Ray's are to be made, for sockets and logs and for spilled objects; and what to say of it."""

    sockets: Path
    spilled: Path
    notes: list[str]


def choose() -> Choice:
    """Where Ray's files go; nothing is made. UsageError where no folder will do, with what is wrong with each."""
    good, notes = [], []
    for name, path in _candidates():
        real, wrong = path.resolve(), fault(path)
        if wrong:
            notes.append(f"{name} {str(path)!r}: {wrong}")
        else:
            good.append(real)
    short = [path for path in good if _room(path) >= 0]
    if good and not short:
        notes.append(f"{good[0]}: {-_room(good[0])} bytes too long for Ray's sockets")
    if not short:
        raise UsageError(
            f"no folder for Ray's files: {'; '.join(notes)}. Set TMPDIR to a folder of yours with free space"
        )
    if notes:
        notes = [f"{'; '.join(notes)}. Ray's files go to {good[0]} instead"]
    if good[0] != short[0]:
        notes.append(f"{good[0]} is too long for Ray's sockets ({-_room(good[0])} bytes): they go to {short[0]}")
    return Choice(short[0], good[0], notes)


def _candidates() -> list[tuple[str, Path]]:
    named = [(name, os.environ[name]) for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)]
    return [(name, Path(path).absolute()) for name, path in [*named, ("folder", "/tmp")]]


def fault(path: Path) -> str | None:
    """Why Ray's files can't go into a folder, whatever its length; None where they can."""
    if not is_utf8(str(path)):
        return "its name is not UTF-8"
    if not path.is_dir():
        return "there is no such folder"
    if not os.access(path, os.W_OK | os.X_OK):
        return "it can't be written to"
    free = shutil.disk_usage(path).free
    if free < LEAST_FREE:
        return f"it has {free >> 20} MB of free space, and Ray needs {LEAST_FREE >> 20}"
    real = path.resolve()
    return next(filter(None, map(_replaceable, (real, *real.parents))), None)


def _replaceable(folder: Path) -> str | None:
    """Why others could put a folder of theirs in the place of one of ours in here."""
    about = folder.stat()
    if about.st_uid not in {0, os.getuid(), _nobody()}:
        return f"{folder} belongs to another user (uid {about.st_uid})"
    if about.st_mode & 0o022 and not about.st_mode & stat.S_ISVTX:
        return f"others can replace what is in {folder} (mode {stat.S_IMODE(about.st_mode):o}, not sticky)"
    return None


def _nobody() -> int:
    """In a container with users of its own, the one who seems to own what is the outer root's; else root."""
    with suppress(OSError, ValueError):
        if Path("/proc/self/uid_map").read_text().split() != ["0", "0", str(2**32 - 1)]:
            return int(Path("/proc/sys/kernel/overflowuid").read_text())
    return 0


def _room(parent: Path) -> int:
    """Bytes that the longest path of a socket may still grow by."""
    longest = parent / (PREFIX + 8 * "x") / SOCKET.format(os.getpid())
    return LONGEST - len(os.fsencode(longest))


def make(note: Callable[[str], None]) -> tuple[Path, Path]:
    """New private folders: Ray's own, and the one for spilled objects. UsageError where they can't be made."""
    choice = choose()
    for line in choice.notes:
        note(line)
    try:
        folder = _private(choice.sockets)
        spilled = folder if choice.spilled == choice.sockets else _private(choice.spilled)
        (spilled / "spilled").mkdir()
    except OSError as error:
        raise UsageError(
            f"no folder for Ray's files: {error.filename}: {error.strerror}; set TMPDIR to another"
        ) from None
    return folder / "ray", spilled / "spilled"


def _private(parent: Path) -> Path:
    _clear_up(parent)
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    _held[path] = open(path / LOCK, "w")  # noqa: SIM115 - held until the end
    fcntl.flock(_held[path], fcntl.LOCK_EX | fcntl.LOCK_NB)
    return path


def remove(keep_logs: bool) -> None:
    """Take this process' folders away, all but Ray's logs where these are to be kept; a later run takes those."""
    while _held:
        path, lock = _held.popitem()
        _empty(path, keep_logs)
        lock.close()


def _clear_up(parent: Path) -> None:
    """Take away what a killed process has left in a folder."""
    for path in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if _ours(path) and not _in_use(path):
                _empty(path, keep_logs=time.time() - path.stat().st_mtime < LOGS_STAY)


def _ours(path: Path) -> bool:
    """Whether a folder of this name is one of ours: anybody can make another."""
    about = path.lstat()
    private = stat.S_ISDIR(about.st_mode) and not about.st_mode & 0o077 and about.st_uid == os.getuid()
    return private and time.time() - about.st_mtime > YOUNG


def _in_use(path: Path) -> bool:
    try:
        with open(path / LOCK) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _empty(path: Path, keep_logs: bool) -> None:
    for logs in path.glob("ray/session_[0-9]*/logs") if keep_logs else ():
        logs.rename(path / "logs")
    kept = path / "logs" if keep_logs else None
    for child in path.iterdir():
        if child.is_dir() and child != kept:
            shutil.rmtree(child, ignore_errors=True)
    if kept is None or not kept.exists():
        shutil.rmtree(path, ignore_errors=True)
