"""What all trials of one side and season share, and where they keep what outlives them."""

import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
import torch

from duel.config import SideSweep
from duel.errors import DuelError
from duel.store import Store

LEGACIES = "legacies"  # the folder of what later seasons start from, in the run's store
STATES = "trials"  # the folder of the trials' states there


class States:
    """A run's tensors and plain values in a store. What another run has left there under the same names isn't seen.

    storage: the root, see duel.store.Store. run: the run's id.
    """

    def __init__(self, storage: str, run: str):
        self.store, self._run = Store(storage), run

    def load(self, name: str) -> Any:
        """What `save` wrote; None where there is no such file, or it is another run's."""
        data = self.store.read(name)
        if data is None:
            return None
        held = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        return held["value"] if isinstance(held, dict) and held.get("run") == self._run else None

    def save(self, name: str, value: Any) -> None:
        """Replace the file at once."""
        buffer = io.BytesIO()
        torch.save({"run": self._run, "value": value}, buffer)
        self.store.write(name, buffer.getbuffer())

    def legacy(self, trial: str) -> Any:
        """What a later trial starts from. DuelError where it is missing."""
        found = self.load(legacy_name(trial))
        if found is None:
            raise DuelError(f"{self.store.root}: {legacy_name(trial)}, which a trial is to start from, is missing")
        return found

    def of_trial(self, trial: str) -> dict[str, Any] | None:
        """A trial's state: history and frames, and its weights once it has ended. None if it has none."""
        return self.load(state_name(trial))


@dataclass(frozen=True)
class Job:
    """The arrays and networks stay in Ray's object store: trials read them without a copy."""

    side: str
    sweep: SideSweep
    image_size: int
    seed: int
    storage: str
    run: str  # the run's id
    room: dict[str, float]  # the cpu and gpu that one trial reserves
    reals: Any  # reference to uint8 [N, 3, S, S], all partitions one after the other
    spans: dict[str, tuple[int, int]]  # partition -> its first and last + 1 row in `reals`
    season: int = 1
    heirs: bool = False  # a later season may start from these trials
    sparring: dict[str, Any] = field(default_factory=dict)  # detectors: generator -> reference to its fakes
    validation_fakes: dict[str, Any] = field(default_factory=dict)  # detectors: the same, to be validated on
    lineup: dict[str, tuple[int, str]] = field(default_factory=dict)  # sparring generator -> its season and family
    elders: dict[str, Any] = field(default_factory=dict)  # detectors of earlier seasons -> reference to the network
    caught: dict[str, dict[str, float]] = field(default_factory=dict)  # generator -> elder -> share it catches

    @property
    def states(self) -> States:
        """Where the trials keep theirs."""
        return States(self.storage, self.run)

    def partition(self, name: str) -> np.ndarray:
        """The reals of one partition, a view into the object store."""
        start, end = self.spans[name]
        return ray.get(self.reals)[start:end]


def state_name(trial: str) -> str:
    """Where in the store a trial's state lies."""
    return f"{STATES}/{trial}/state.pt"


def stopped_name(trial: str) -> str:
    """Where in the store stands that ASHA has stopped a trial."""
    return f"{STATES}/{trial}/stopped"


def training_folder(trial: str) -> str:
    """Where in the store lies what a trial needs to train on: twice the networks, as optimisers remember."""
    return f"{STATES}/{trial}/training"


def training_name(trial: str, reports: int) -> str:
    """The training after so many reports: in a file of its own, which is there before the state names it."""
    return f"{training_folder(trial)}/{reports}.pt"


def legacy_name(trial: str) -> str:
    """Where in the store lies what later trials start from."""
    return f"{LEGACIES}/{trial}.pt"
