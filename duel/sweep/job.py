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


@dataclass(frozen=True)
class Job:
    """The arrays and networks stay in Ray's object store: trials read them without a copy."""

    side: str
    sweep: SideSweep
    image_size: int
    seed: int
    storage: str
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

    def partition(self, name: str) -> np.ndarray:
        """The reals of one partition, a view into the object store."""
        start, end = self.spans[name]
        return ray.get(self.reals)[start:end]


def state_name(trial: str) -> str:
    """Where in the store a trial's state lies."""
    return f"trials/{trial}/state.pt"


def legacy_name(trial: str) -> str:
    """Where in the store lies what later trials start from."""
    return f"{LEGACIES}/{trial}.pt"


def legacy(store: Store, trial: str) -> Any:
    """What a later trial starts from. DuelError where it is missing."""
    found = load(store, legacy_name(trial))
    if found is None:
        raise DuelError(f"{store.root}: {legacy_name(trial)}, which a trial is to start from, is missing")
    return found


def read_state(store: Store, trial: str) -> dict[str, Any] | None:
    """A trial's state: history, frames, weights once it has ended, training until then. None if it has none."""
    return load(store, state_name(trial))


def load(store: Store, name: str) -> Any:
    """Tensors and plain values that `save` wrote; None where there is no such file."""
    data = store.read(name)
    return None if data is None else torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")


def save(store: Store, name: str, value: Any) -> None:
    """Tensors and plain values to a file of the store."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    store.write(name, buffer.getbuffer())
