"""KID values that place all others: of pure noise, of an untrained generator, of reals against reals."""

from typing import Any

import numpy as np
import ray
import torch

from duel.config import Sweep
from duel.device import claim
from duel.families import family_settings
from duel.metrics import feature_network, features, kid, noise_images
from duel.models import build
from duel.models.inference import make_fakes
from duel.seeds import derive


@ray.remote(max_calls=1)
def measure_yardsticks(
    reals: np.ndarray, span: tuple[int, int], sweep: dict[str, Any], seed: int, room: dict[str, float]
) -> tuple[np.ndarray, dict[str, float]]:
    """The validation reals' features [N, D] and the yardsticks, by their names in run.json.

    reals, span: all reals and the validation partition's rows; sweep: a Sweep as plain data.
    Reals against reals compares one half of the validation partition with the other.
    """
    settings, device = Sweep.model_validate(sweep), claim(room)
    network = feature_network(device=device)
    validation = reals[span[0] : span[1]]
    real = features(network, validation, device)
    half = len(real) // 2
    noise = noise_images(len(validation), settings.image_size, derive(seed, "yardstick", "noise"))
    untrained = make_fakes(_untrained(settings, seed).to(device), len(validation), derive(seed, "yardstick"), device)
    order = np.random.default_rng(derive(seed, "yardstick", "halves")).permutation(len(real))
    kid_seed = derive(seed, "yardstick", "kid")
    return real, {
        "kid_noise": kid(real, features(network, noise, device), kid_seed),
        "kid_untrained": kid(real, features(network, untrained, device), kid_seed),
        "kid_reals": kid(real[order[:half]], real[order[half:]], kid_seed),
    }


def _untrained(sweep: Sweep, seed: int) -> torch.nn.Module:
    """A generator of the sweep's first family, default settings, as it is before any training."""
    family = next(iter(sweep.generators.families))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "yardstick", "untrained"))
        return build("generator", family, sweep.image_size, family_settings("generator", family, {}))
