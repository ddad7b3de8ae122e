"""Whose a storage is, and who drives the run that is kept there: the sign in STORAGE/NAME/driver.json.

A driver signs with an id of its own and reads the sign again before it copies or deletes anything there. One whose
machine slept while another took the run up finds the other's, and ends: the run is no longer its own.
"""

import os
import platform
import uuid
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from duel.errors import DuelError, UsageError
from duel.output import printable
from duel.rundir import DRIVER, LOCK, RunFolder
from duel.store import PROBE, Store, write_atomically

SIGN = "driver.json"
PATIENCE = 30.0  # seconds for which an object store that fails is asked again; what fails is done the next time
MOST_TEXT, MOST_BYTES = 300, 1 << 16


@dataclass(frozen=True)
class Sign:
    """What a driver says of itself. run, driver: ids; place: see place_of; beats: grow while it works."""

    run: str
    driver: str
    host: str
    place: str
    working: bool
    beats: int

    @property
    def who(self) -> str:
        """The host, as it may be printed: others can write to a storage."""
        return printable(self.host[:MOST_TEXT])


_SIGN = TypeAdapter(Sign)


class Ousted(DuelError):
    """Another driver has taken the run up."""


def read_sign(store: Store) -> Sign | None:
    """Who was the last to drive the run there; None where nobody has. OSError, DuelError if that can't be read."""
    data = store.read(SIGN, most=MOST_BYTES)
    try:
        return None if data is None else _SIGN.validate_json(data)
    except ValidationError:
        raise DuelError(f"{store.root}/{SIGN} is no sign of a driver of this version of duel") from None


def place_of(folder: Path) -> str:
    """What tells a run's folder from a copy of it: its path, and the lock that it alone has."""
    lock = folder / LOCK
    return f"{os.fsencode(folder.absolute())!r} {lock.stat().st_ino if lock.exists() else 0}"


def drives_here(sign: Sign, folder: Path) -> bool:
    """Whether the last driver worked in this very folder, whose lock then says whether it still does."""
    return (sign.host, sign.place) == (platform.node(), place_of(folder))


def is_newest(sign: Sign, folder: Path) -> bool:
    """Whether nobody has come further than this folder: its last driver is the one that signed, and no beat behind.

    Wherever the folder has been moved to. One that was copied, or set back, while the driver worked is behind.
    """
    try:
        ours = _SIGN.validate_json((folder / DRIVER).read_bytes())
    except (OSError, ValidationError):
        return False
    return ours.driver == sign.driver and ours.beats >= sign.beats


def check_free(root: str, folder: Path) -> None:
    """UsageError where the storage of a new run holds anything, or is where the run's own folder is to be."""
    store = Store(root, patience=0)
    if store.folder:
        here, there = folder.resolve(), store.folder.resolve()
        if here.is_relative_to(there) or there.is_relative_to(here):
            raise UsageError(f"--storage {there.parent}: the run's own folder is {here}; give another, or no --storage")
    try:
        found = set(store.names()) - {PROBE}
    except OSError as error:
        raise UsageError(f"--storage {root}: can't be read: {error}") from None
    if found:
        raise UsageError(
            f"--storage: {root} already holds {_what(store)}; to go on with that, use --resume {folder.name} with the "
            "same --storage; for a new run choose another --name, or remove what is there"
        )


def _what(store: Store) -> str:
    try:
        sign = read_sign(store)
    except (OSError, DuelError):
        sign = None
    return f"a run that {sign.who} was the last to drive" if sign else "a run, or other files"


class Claim:
    """This process as the driver of a run. Errors of the storage are OSErrors."""

    def __init__(self, run: RunFolder):
        self.store = Store(run.data["storage"], PATIENCE)
        self._run, self._place = run, place_of(run.path)
        self._driver, self._beats = uuid.uuid4().hex, 0

    def take(self, seen: Sign | None) -> None:
        """Become the driver after the one that signed when the run was looked for (see duel.fetch); None: nobody had.

        UsageError where another run is kept there, or somebody else has been quicker.
        """
        try:
            sign, root = read_sign(self.store), self.store.root
            if sign and sign.run != self._run.data["id"]:
                raise UsageError(f"--storage: {root} holds another run, which {sign.who} was the last to drive")
            if (sign and sign.driver) != (seen and seen.driver):
                who = sign.who if sign else "somebody"
                raise UsageError(f"--resume {self._run.path.name}: {who} has just taken up the run in {root}")
            self._write(working=True)
        except OSError as error:
            raise UsageError(f"--storage: {self.store.root} can't be written to and read: {error}") from None

    def renew(self, working: bool = True) -> None:
        """Say that this driver works, or no longer does. Ousted where another has taken over."""
        self.check()
        self._write(working)

    def check(self) -> None:
        """Ousted where another driver has taken the run up."""
        sign = read_sign(self.store)
        if sign and sign.driver != self._driver:
            raise Ousted(
                f"{sign.who} has taken this run up while this driver gave no sign; it goes on there, and ends here"
            )

    def _write(self, working: bool) -> None:
        self._beats += 1
        sign = Sign(self._run.data["id"], self._driver, platform.node(), self._place, working, self._beats)
        write_atomically(self._run.path / DRIVER, _SIGN.dump_json(sign))  # first: the folder is never behind its sign
        self.store.write(SIGN, _SIGN.dump_json(sign))
