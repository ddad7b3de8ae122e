"""A round robin to measure: entrants on disk, Ray on this machine, and what its processes use."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from duel.checkpoint import save_model
from duel.cluster.connection import connect, disconnect
from duel.config import places
from duel.families import family_settings
from duel.models import build

SIZE = 64
ROOM = {"cpu": 1, "gpu": 0.25 if torch.cuda.is_available() else 0.0}
MB = 1e6


@contextmanager
def local_ray() -> Iterator[int]:
    """Ray on this machine with all that it has; gives the number of places for a task of ROOM."""
    os.environ.pop("RAY_ADDRESS", None)
    cluster = connect(None)
    try:
        yield places(ROOM, cluster.cpus, cluster.gpus)
    finally:
        disconnect()


def untrained(folder: Path, side: str, family: str, count: int, values: dict[str, Any]) -> dict[str, Path]:
    """Save `count` networks that have learned nothing, as a sweep saves its entrants: name -> folder."""
    settings = family_settings(side, family, values)
    entrants = {f"{side[0]}{i:02d}-{family}": folder / f"{side[0]}{i:02d}-{family}" for i in range(count)}
    for i, path in enumerate(entrants.values()):
        torch.manual_seed(i)
        save_model(path, side, family, SIZE, settings, build(side, family, SIZE, settings).state_dict(), {})
    return entrants


def tree(root: int) -> list[int]:
    """This process and all below it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended since
            continue
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def cpu_seconds() -> float:
    """CPU time of this process and all below it, also of those that have ended."""
    total = 0
    for pid in tree(os.getpid()):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


class MemoryWatch:
    """Peaks, in bytes, of what the driver, the largest worker and all workers hold, and of the object store.

    A process counts its anonymous memory: what it has allocated itself, without libraries (one copy for all) and the
    pages of the object store that it maps. The kernel keeps that number ready; proportional shares (PSS) would cost
    the driver a fifth of a core. The store counts the pages of its file, which Ray does not give back: a high-water
    mark. Sampled five times a second; use as a context manager.
    """

    def __init__(self) -> None:
        self.peak = {"driver": 0, "worker": 0, "workers": 0, "store": 0}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self.start = self._sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.2):
            for key, value in self._sample().items():
                self.peak[key] = max(self.peak[key], value)

    def _sample(self) -> dict[str, int]:
        workers, store = [0], 0
        for pid in tree(os.getpid())[1:]:
            try:
                name = Path(f"/proc/{pid}/cmdline").read_bytes()
                if name.startswith(b"ray::"):
                    workers.append(_own(pid))
                elif b"raylet/raylet" in name.split(b"\0")[0]:
                    store = max(store, _plasma(pid))
            except OSError:
                continue
        return {"driver": _own(os.getpid()), "worker": max(workers), "workers": sum(workers), "store": store}


def _own(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)


def _plasma(pid: int) -> int:
    """Bytes in use of the object store's files, which are deleted but open."""
    files = [path for path in Path(f"/proc/{pid}/fd").iterdir() if "plasma" in os.readlink(path)]
    return sum({(s := os.stat(path)).st_ino: 512 * s.st_blocks for path in files}.values())
