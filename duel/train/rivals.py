"""Earlier detectors that a generator learns to get past."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from duel.device import autocast, fold_batch_norm, place, to_bytes, to_network
from duel.losses import evasion_loss
from duel.models.inference import predict
from duel.rules.match import THRESHOLD
from duel.train.loop import mix


@dataclass(frozen=True)
class Rivals:
    """A frozen panel whose answers a generator's loss holds, and the jury of all whose answers its score holds.

    panel, jury: detectors, as `prepared` returns them. weight: of the panel's loss in the generator's. Each step
    meets one of the panel, drawn at random: the mean is the whole panel's loss, the cost one detector's.
    """

    panel: list[nn.Module]
    jury: list[nn.Module]
    weight: float

    def drawn(self, *numbers: int) -> int | None:
        """Which of the panel a step meets, by the numbers that the step is seeded with; None if none counts."""
        return mix(*numbers) % len(self.panel) if self.weight > 0 else None

    def loss(self, fakes: Tensor, member: int) -> Tensor:
        """What one of the panel sees through, times the weight: a scalar with a gradient for fakes [N, 3, S, S]."""
        shown = fakes + (to_network(to_bytes(fakes.detach())) - fakes.detach())  # a match's images are bytes
        with autocast(fakes.device):
            logits = self.panel[member](shown)
        return self.weight * evasion_loss(logits)

    def caught(self, fakes: np.ndarray, device: torch.device) -> float:
        """Share of uint8 fakes [N, 3, S, S] that the jury's members catch, in the mean."""
        return float(np.mean([(predict(detector, fakes, device) >= THRESHOLD).mean() for detector in self.jury]))


def prepared(detector: nn.Module, device: torch.device) -> nn.Module:
    """A frozen copy of `detector` on `device`."""
    return place(fold_batch_norm(detector), device).requires_grad_(False)
