"""The folder of one run: run.json, the stages done, and the lock that keeps a second driver out."""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NotRequired, Required, TextIO

import pandas as pd
from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from duel.errors import UsageError
from duel.rules.tables import TABLES
from duel.store import checked, inside, sweep_partials, write_atomically

LOCK, DRIVER = ".lock", ".driver.json"  # the second: of the last session that drove the run here, see duel.claim
ERROR = "error.txt"  # the traceback of what ended a session, see duel.session


class _Stage(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]
    name: Required[str]
    finished: Required[bool]
    seconds: float
    started: str


class _State(TypedDict):
    """What of run.json is read again. None: of a run that had not come so far."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]
    name: str | None
    status: str
    seed: int | None
    settings: dict[str, Any] | None
    trials_requested: int | None
    storage: str | None
    faces: dict[str, Any] | None
    stages: list[_Stage]
    notes: list[str]
    id: NotRequired[str | None]
    seasons: NotRequired[int]
    weather: NotRequired[list[str]]
    versions: NotRequired[dict[str, str]]
    earlier_versions: NotRequired[list[dict[str, str]]]
    yardsticks: NotRequired[dict[str, float]]
    hardware: NotRequired[dict[str, Any]]
    command: NotRequired[list[str]]
    created: NotRequired[str]
    duel_version: NotRequired[str]


_STATE = TypeAdapter(_State)
NEEDED = set(_State.__required_keys__)


class RunFolder:
    """One run's files. Every change of `data` reaches run.json at once, complete or not at all."""

    def __init__(self, path: Path):
        self.path = path
        self.data: dict[str, Any] = {}
        self._lock = _lock(path)

    @classmethod
    def create(cls, path: Path, data: dict[str, Any]) -> "RunFolder":
        """A new run. UsageError where the folder is taken or can't be made."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            _check_free(path)
            run = cls(path)
            _check_free(path)  # again: somebody else may have been quicker
            run.update(**data)
        except OSError as error:
            raise UsageError(f"--out {path.parent}: can't write a run there: {error.strerror}") from None
        return run

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """An earlier run. UsageError where there is none, or its folder is not as duel makes it."""
        if not (path / "run.json").is_file():
            known = ", ".join(sorted(p.parent.name for p in path.parent.glob("*/run.json"))) or "none"
            raise UsageError(f"--resume {path.name}: no run.json in {path}; runs there: {known}")
        _refuse_links(path)
        try:
            run = cls(path)
            sweep_partials(path)
            for draft in path.glob("models/.*-????????"):  # of a model, see duel.checkpoint
                shutil.rmtree(draft, ignore_errors=True)
            data = json.loads((path / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"--resume {path.name}: {path / 'run.json'} can't be read: {error}") from None
        try:
            _STATE.validate_python(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise UsageError(
                f"--resume {path.name}: {path / 'run.json'} is no duel run: {where}: {first['msg']}"
            ) from None
        run.data = data
        return run

    def close(self) -> None:
        """Let others work on the run; does nothing a second time."""
        self._lock.close()

    def save(self) -> None:
        """Write run.json."""
        write_atomically(self.path / "run.json", json.dumps(self.data, indent=1).encode())

    def update(self, **values: Any) -> None:
        """Set values and write run.json."""
        self.data.update(values)
        self.save()

    def has_work(self) -> bool:
        """Whether anything but the start and the reading of faces has begun."""
        return any(stage["name"] not in ("start", "faces") for stage in self.data["stages"])

    def discard(self) -> None:
        """Give the name back: for a run that ended before any work was done."""
        shutil.rmtree(self.path / "fakes", ignore_errors=True)
        for name in ("run.json", LOCK, DRIVER):
            (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):  # files of somebody else's stay
            self.path.rmdir()

    def note_versions(self, versions: dict[str, str]) -> list[str]:
        """Go on under these versions; returns what differs from those before, which run.json keeps beside them."""
        before = self.data.get("versions") or {}
        old = {name: before.get(name, "none") for name in versions if before.get(name) != versions[name]}
        if old:
            earlier = [*self.data.get("earlier_versions", []), {"until": now(), **old}]
            self.update(versions=versions, earlier_versions=earlier)
        return [f"{name} {value}, now {versions[name]}" for name, value in old.items()]

    def forget_failure(self) -> None:
        """Remove what an earlier session left about its end, once the run has gone on to its own."""
        (self.path / ERROR).unlink(missing_ok=True)

    def done(self, stage: str) -> bool:
        """Whether a stage has ended, in this session or an earlier one."""
        return any(s["name"] == stage and s["finished"] for s in self.data["stages"])

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Time a stage; it counts as done only when its body ends without an error. Yields its entry in run.json."""
        entry = next((s for s in self.data["stages"] if s["name"] == name), None)
        if entry is None:
            entry = {"name": name, "seconds": 0.0, "started": now(), "finished": False}
            self.data["stages"].append(entry)
        begin = time.monotonic()
        try:
            yield entry
            entry["finished"] = True
        finally:
            entry["seconds"] = round(entry["seconds"] + time.monotonic() - begin, 2)
            self.save()

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Write a CSV file of the run, as duel.rules.tables has it."""
        write_atomically(self.path / name, TABLES[name].checked(table).to_csv(index=False).encode())

    def read_table(self, name: str) -> pd.DataFrame:
        """Read a CSV file of the run; empty fields of text columns are empty strings.

        DuelError where the name of an entrant is none: it becomes a path, and others may have written the file.
        """
        table, known = pd.read_csv(self.path / name), TABLES[name]
        for column in known.of_kind("word", "name") & set(table.columns):
            table[column] = table[column].fillna("").astype(str)
        for column in known.of_kind("name") & set(table.columns):
            for entrant in set(table[column]) - {""}:
                checked(entrant)
        return table

    def model(self, name: str) -> Path:
        """The folder of an entrant's or a twin's model. DuelError for a name that leads elsewhere."""
        return inside(self.path / "models", name)


def now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def known(folder: Path) -> dict[str, Any]:
    """What run.json in the folder says; nothing where there is none that can be read."""
    try:
        data = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _refuse_links(path: Path) -> None:
    """UsageError for a folder in which a link lies: duel makes none, and one leads what is written elsewhere."""
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            if os.path.islink(os.path.join(folder, name)):
                raise UsageError(
                    f"--resume {path.name}: {os.path.join(folder, name)} is a link, and a run's folder has none; "
                    "put in its place what it leads to, or remove it"
                )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep all others out of a run's folder. UsageError where somebody works on the run."""
    handle = _lock(path)
    try:
        yield
    finally:
        handle.close()


def _check_free(path: Path) -> None:
    """UsageError where a new run can't have the folder: what lies there is not its own."""
    if (path / "run.json").exists():
        raise UsageError(
            f"--name {path.name}: {path} holds a run already; take it up with --resume {path.name}, "
            "or choose another name"
        )
    if left := sorted(entry.name for entry in path.iterdir() if entry.name != LOCK):
        more = ", ..." * (len(left) > 3)
        raise UsageError(
            f"--name {path.name}: {path} holds other files, of an earlier run perhaps ({', '.join(left[:3])}{more}); "
            "move them away, or choose another name"
        )


def _lock(path: Path) -> TextIO:
    # Held for as long as the run lives; a link is not followed, and what is there not emptied.
    handle = open(path / LOCK, "a", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o666))  # noqa: SIM115
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise UsageError(f"{path}: another process is working on this run; wait for it or stop it") from None
    return handle


def check_same_faces(run: RunFolder, fingerprint: str) -> None:
    """A resumed run must see the faces it began with. UsageError if not."""
    before = run.data["faces"].get("fingerprint")
    if before is None and run.has_work():
        raise UsageError(
            f"--resume {run.path.name}: {run.path / 'run.json'} does not say which faces the run began with"
        )
    if before not in (None, fingerprint):
        raise UsageError(
            f"--faces {run.data['faces']['source']}: the images have changed since run {run.path.name} began "
            f"(fingerprint {before}, now {fingerprint}); start a new run"
        )
