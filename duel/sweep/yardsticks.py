"""The validation reals' features, and the KID values that place all others: of noise, an untrained generator, reals."""

import numpy as np
import ray
import torch

from duel.config import Sweep
from duel.device import claim, release
from duel.families import family_settings
from duel.metrics import feature_network, features, kid, kid_of_halves, noise_images
from duel.models import build
from duel.models.inference import make_fakes
from duel.seeds import derive

CHUNK = 512  # images a task; whole batches, so that features do not depend on how many tasks there are


def measure_features(reals: ray.ObjectRef, span: tuple[int, int], room: dict[str, float]) -> np.ndarray:
    """Features [N, D] of the reals in rows `span`, by as many tasks as there are chunks; `room`: see claim."""
    task = ray.remote(_features).options(num_cpus=room["cpu"], num_gpus=room["gpu"])
    starts = range(*span, CHUNK)
    return np.concatenate(ray.get([task.remote(reals, (s, min(s + CHUNK, span[1])), room) for s in starts]))


def _features(reals: np.ndarray, span: tuple[int, int], room: dict[str, float]) -> np.ndarray:
    device = claim(room)
    try:
        return features(feature_network(device=device), reals[span[0] : span[1]], device)
    finally:
        release()


def measure_yardsticks(real: ray.ObjectRef, sweep: Sweep, seed: int, room: dict[str, float]) -> dict[str, float]:
    """The yardsticks by their names in run.json, each in a task of its own. real: the validation reals' features."""
    task = ray.remote(_yardstick).options(num_cpus=room["cpu"], num_gpus=room["gpu"])
    names = ("noise", "untrained", "reals")
    values = ray.get([task.remote(name, real, sweep, seed, room) for name in names])
    return {f"kid_{name}": value for name, value in zip(names, values, strict=True)}


def _yardstick(name: str, real: np.ndarray, sweep: Sweep, seed: int, room: dict[str, float]) -> float:
    device, kid_seed = claim(room), derive(seed, "yardstick", "kid")
    if name == "reals":
        return kid_of_halves(real, kid_seed)
    try:
        if name == "noise":
            images = noise_images(len(real), sweep.image_size, derive(seed, "yardstick", "noise"))
        else:
            images = make_fakes(_untrained(sweep, seed).to(device), len(real), derive(seed, "yardstick"), device)
        return kid(real, features(feature_network(device=device), images, device), kid_seed)
    finally:
        release()


def _untrained(sweep: Sweep, seed: int) -> torch.nn.Module:
    """A generator of the sweep's first family, default settings, as it is before any training."""
    family = next(iter(sweep.generators.families))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "yardstick", "untrained"))
        return build("generator", family, sweep.image_size, family_settings("generator", family, {}))
