"""Entrants whose results are known beforehand, a progress view that says nothing, and graphs that need no GPU."""

import contextlib
import os
from collections import Counter

import numpy as np
import torch
from torch import nn

from duel.families import FAMILIES, Settings, family_settings

REHEARSAL = os.environ.get("CPU") == "1"  # of the GPU's check, where there is none: see tests/gpu/check.sh
NARROW = {"batch_size": 8, "width": 8, "width_discriminator": 8, "depth": 1, "input_size": 32}  # of a rehearsal


def settings_of(side: str, family: str, **values: object) -> Settings:
    """A family's settings with these values; in a rehearsal the others are narrow."""
    fields = FAMILIES[side][family].model_fields
    narrow = {key: value for key, value in NARROW.items() if REHEARSAL and key in fields}
    return family_settings(side, family, {**narrow, **values})


def as_network_input(images: np.ndarray) -> torch.Tensor:
    """uint8 [N, 3, S, S] -> float in [-1, 1]."""
    return torch.from_numpy(images).float() / 127.5 - 1


class Replay(nn.Module):
    """A generator that returns the given images one after the other, whatever the noise."""

    latent = 4

    def __init__(self, images: np.ndarray):
        super().__init__()
        self.register_buffer("images", as_network_input(images))
        self.position = 0

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        rows = [(self.position + i) % len(self.images) for i in range(len(noise))]
        self.position += len(noise)
        return self.images[rows]


class Constant(nn.Module):
    """A detector with one answer."""

    def __init__(self, logit: float):
        super().__init__()
        self.logit = logit

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.full((len(images),), self.logit)


class Brightness(nn.Module):
    """A detector that calls bright images fake."""

    def __init__(self, threshold: float):
        super().__init__()
        self.threshold = threshold

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().mean((1, 2, 3)) - self.threshold


class Oracle(nn.Module):
    """A detector that knows every held-out real, to the pixel."""

    def __init__(self, reals: np.ndarray):
        super().__init__()
        weights = torch.randint(1, 2**40, reals.shape[1:], generator=torch.Generator().manual_seed(0))
        self.register_buffer("weights", weights)
        self.register_buffer("known", self._marks(as_network_input(reals)))

    def _marks(self, images: torch.Tensor) -> torch.Tensor:
        return (((images.float() + 1) * 127.5).round().long() * self.weights).sum((1, 2, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.isin(self._marks(images), self.known), -5.0, 5.0)


class Swapped(nn.Module):
    """A detector that answers the opposite of another."""

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.detector = detector

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return -self.detector(images)


class Shifted(nn.Module):
    """A detector with a constant added to its logits."""

    def __init__(self, detector: nn.Module, shift: float):
        super().__init__()
        self.detector, self.shift = detector, shift

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.detector(images).float() + self.shift


def centred(detector: nn.Module, images: np.ndarray) -> nn.Module:
    """The detector, shifted so that about half of `images` count as fake: it has an opinion on each."""
    with torch.no_grad():
        return Shifted(detector, -float(detector.eval()(as_network_input(images)).median()))


class Silent:
    """A Watch that shows nothing."""

    def __getattr__(self, name: str):
        return lambda *args, **kwargs: None


class StandIn:
    """A recorder of duel.train.graphs that needs no GPU: recording is to remember the work, replaying to do it.

    Each time with what then lies in the tensors that the work was recorded with.
    """

    def __init__(self):
        self.calls = Counter()
        self.inside = False

    @contextlib.contextmanager
    def at_work(self):
        self.inside = True
        yield
        self.inside = False

    def record(self, work):
        assert self.inside
        self.calls["recorded"] += 1

        def replay():
            self.calls["replayed"] += 1
            return work()

        return replay

    def recover(self):
        self.calls["recovered"] += 1
