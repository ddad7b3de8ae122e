"""The validation reals' features, and the KIDs that place all others: of noise, an untrained generator, and reals.

The features belong to no stage: whoever needs them first measures them and keeps them for all others.
"""

from functools import partial

import numpy as np
import ray
import torch

from duel.config import Sweep
from duel.device import claimed
from duel.families import family_settings
from duel.metrics import feature_network, features, kid, kid_of_halves, noise_images
from duel.models import build
from duel.models.inference import make_fakes
from duel.seeds import derive
from duel.sweep.job import States
from duel.tasks import Note, Room, Task, sized

NAMES = ("noise", "untrained", "reals")
FEATURES = "work/real_features.pt"


def real_features(states: States, network: torch.nn.Module, reals: np.ndarray, device: torch.device) -> np.ndarray:
    """Features [N, D] of the run's validation reals, from its store where they lie there, else measured and stored.

    Trials that start together may all measure them: the values are the same.
    """
    found = states.load(FEATURES)
    if found is None:
        measured = torch.from_numpy(features(network, reals, device))
        found = states.load(FEATURES)
        if found is None:
            states.save(FEATURES, found := measured)
    return found.numpy()


def start_yardsticks(sweep: Sweep, seed: int, storage: str, run: str, reals: ray.ObjectRef, span: tuple[int, int],
                     room: Room, note: Note) -> dict[str, Task]:  # fmt: skip
    """The yardsticks by their names in run.json, each in a task of its own.

    storage, run: see duel.sweep.job.States.

    reals, span: all reals and the validation partition's rows in them; room: the cpu and gpu that a task reserves.
    """
    start, rest = sized(_yardstick, room).remote, (sweep, seed, storage, run, reals, span, room)
    return {f"kid_{name}": Task(partial(start, name, *rest), note) for name in NAMES}


def _yardstick(name: str, sweep: Sweep, seed: int, storage: str, run: str, reals: np.ndarray, span: tuple[int, int],
               room: Room) -> float:  # fmt: skip
    kid_seed = derive(seed, "yardstick", "kid")
    with claimed(room) as device:
        network = feature_network(device=device)
        real = real_features(States(storage, run), network, reals[span[0] : span[1]], device)
        if name == "reals":
            return kid_of_halves(real, kid_seed, device)
        if name == "noise":
            images = noise_images(len(real), sweep.image_size, derive(seed, "yardstick", "noise"))
        else:
            images = make_fakes(_untrained(sweep, seed).to(device), len(real), derive(seed, "yardstick"), device)
        return kid(real, features(network, images, device), kid_seed, device=device)


def _untrained(sweep: Sweep, seed: int) -> torch.nn.Module:
    """A generator of the sweep's first family, default settings, as it is before any training."""
    family = next(iter(sweep.generators.families))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "yardstick", "untrained"))
        return build("generator", family, sweep.image_size, family_settings("generator", family, {}))
