"""What a machine may lack for Ray, looked at before anything is made. Does not import Ray, which takes a second."""

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import duel
from duel.cluster import folder
from duel.errors import UsageError
from duel.paths import check_home, current_folder, is_utf8

OLDEST_RAY = (2, 59)  # the first that asks for a token by itself
SHARED_MEMORY = Path("/dev/shm")


def cluster_address(address: str | None) -> str | None:
    """The cluster to join: --address, else RAY_ADDRESS, else None for this machine alone, which `local` says too."""
    chosen = address or os.environ.get("RAY_ADDRESS") or None
    return None if chosen == "local" else chosen


def look(address: str | None) -> None:
    """Raise UsageError for what would keep Ray from joining the cluster at `address`, or from starting here."""
    _check_version()
    check_home()
    _check_names()
    if cluster_address(address) is None:
        _check_mode()
        _check_shared_memory()
        folder.choose()


def _check_version() -> None:
    installed = version("ray")
    if tuple(map(int, installed.split(".")[:2])) < OLDEST_RAY:
        oldest = ".".join(map(str, OLDEST_RAY))
        raise UsageError(
            f"ray {installed} is installed here, must be {oldest} or newer: pip install -c constraints.txt -e ."
        )


def _check_names() -> None:
    """Ray tells its workers where the driver was started and where its code is, and takes UTF-8 alone."""
    for name, path in (
        ("current folder", current_folder()),
        ("folder of duel's code", str(Path(duel.__file__).parent.parent)),
    ):
        if not is_utf8(path):
            raise UsageError(
                f"{name} {path!r}: its name is not UTF-8, and Ray takes no other; rename it, or start elsewhere"
            )


def _check_mode() -> None:
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    if mode.lower() != "token":
        raise UsageError(
            f"RAY_AUTH_MODE={mode}: must be token, or not set, for a run on this machine; without a token each of its "
            "users could run code in the league"
        )


def _check_shared_memory() -> None:
    if not os.access(SHARED_MEMORY, os.W_OK | os.X_OK):
        fault = "can't be written to" if SHARED_MEMORY.is_dir() else "is not there"
        raise UsageError(f"{SHARED_MEMORY} {fault}, and Ray shares images between processes there: mount a tmpfs on it")


def close_token(note: Callable[[str], None]) -> None:
    """Keep other users from reading the secret of this user's clusters, as Ray itself leaves it open to them."""
    path = Path(os.path.expanduser("~/.ray/auth_token"))
    with suppress(OSError):
        about = path.lstat()
        if stat.S_ISREG(about.st_mode) and about.st_mode & 0o077 and about.st_uid == os.getuid():
            path.chmod(0o600)
            note(f"{path} was open to other users of this machine, and is no more")
