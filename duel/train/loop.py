"""What training a generator and training a detector share: batches, counting, resuming, failing."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from duel.device import to_device
from duel.errors import DuelError
from duel.watchdog import pulse


class Diverged(DuelError):
    """Training left the finite numbers. The message says what did, and after how many images."""


def mix(*numbers: int) -> int:
    """One seed of 63 bits from several numbers, unlike the seed of any other such list."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def seeded(device: torch.device, *numbers: int) -> Iterator[None]:
    """Inside, torch's random numbers follow from `numbers` alone; outside, nothing changes.

    Each training step is seeded by its place in the training, so a resumed training needs no random state.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(mix(*numbers))
        yield


class ImageFeed:
    """Endless shuffled passes over uint8 images [N, 3, S, S]; what lies at a position follows from the seed.

    On the CPU each batch is read from `images` where they lie (a memory map, say); on CUDA they move to the
    device once, as uint8.
    """

    def __init__(self, images: np.ndarray, seed: int, device: torch.device) -> None:
        if len(images) == 0:
            raise DuelError("training needs at least 1 image, got 0")
        self.count = len(images)
        self._seed = seed
        self._device = device
        self._images = to_device(images, device) if device.type == "cuda" else images
        self._epoch = -1
        self._order = np.zeros(0, np.int64)

    def batch(self, position: int, size: int) -> Tensor:
        """The `size` images from `position` on, uint8 on the device. Batches may reach over passes."""
        rows = self._rows(position, size)
        if isinstance(self._images, Tensor):
            index = torch.from_numpy(rows).pin_memory().to(self._device, non_blocking=True)
            return self._images[index]
        return torch.from_numpy(self._images[rows])

    def _rows(self, position: int, size: int) -> np.ndarray:
        parts = []
        while size > 0:
            epoch, start = divmod(position, self.count)
            part = self._pass(epoch)[start : start + size]
            parts.append(part)
            position += len(part)
            size -= len(part)
        return np.concatenate(parts)

    def _pass(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._order = np.random.default_rng([self._seed, epoch]).permutation(self.count)
            self._epoch = epoch
        return self._order


class Trainer(ABC):
    """A training that counts images, reports at intervals, and resumes exactly from the state of any report.

    A subclass fills `parts` with its networks and optimisers and says how to take a step and how to validate.
    """

    def __init__(self, *, batch_size: int, device: torch.device, seed: int) -> None:
        self.images = 0
        self.seconds = 0.0
        self.batch_size = batch_size
        self.device = device
        self.seed = seed
        self.parts: dict[str, nn.Module | Optimizer] = {}

    @abstractmethod
    def _step(self) -> dict[str, Tensor]:
        """Trains on one batch; the losses stay on the device, so that nothing waits for it."""

    @abstractmethod
    def _validate(self) -> dict[str, float]:
        """The scores of the present state on validation images."""

    def run(self, max_images: int, report_every: int) -> Iterator[dict[str, Any]]:
        """Trains until `max_images` were shown; yields a report each `report_every` images, and at the end.

        A report holds "images", the validation scores, the mean losses since the last report, "seconds"
        (of training, without validation, over all resumes), "validation_seconds" (of this report alone) and
        "images_per_second" (since the last report).
        Batches are whole, so a report comes with the first batch that reaches the mark.
        Raises Diverged when a loss, a weight or a score is not finite.
        """
        while self.images < max_images:
            before, mark = self.images, self.images - self.images % report_every + report_every
            start = time.perf_counter()
            losses = self.train_to(min(mark, max_images))
            seconds = time.perf_counter() - start
            self.seconds += seconds
            self._check_weights()
            start = time.perf_counter()
            scores = self._check(self._validate())
            validation = time.perf_counter() - start
            yield {
                "images": self.images,
                **scores,
                **losses,
                "seconds": self.seconds,
                "validation_seconds": validation,
                "images_per_second": (self.images - before) / seconds,
            }

    def train_to(self, images: int) -> dict[str, float]:
        """Trains in whole batches until `images` were shown, without a report; the mean losses."""
        sums: dict[str, Tensor] = {}
        steps = 0
        while self.images < images:
            with seeded(self.device, self.seed, self.images):
                losses = self._step()
            sums = {name: loss.detach() + sums.get(name, 0.0) for name, loss in losses.items()}
            self.images += self.batch_size
            steps += 1
            pulse()
        # the first time since the last report that the CPU waits for the device
        return self._check({name: (total / steps).item() for name, total in sums.items()})

    def _check(self, values: dict[str, float]) -> dict[str, float]:
        for name, value in values.items():
            if not math.isfinite(value):
                raise Diverged(f"{name} is {value} after {self.images:,} images")
        return values

    def _check_weights(self) -> None:
        for name, part in self.parts.items():
            if isinstance(part, nn.Module) and not all(p.isfinite().all() for p in part.parameters()):
                raise Diverged(f"the {name}'s weights are not finite after {self.images:,} images")

    def state_dict(self) -> dict[str, Any]:
        """All that a training of the same settings, seed and images needs to go on from its last report."""
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        return {"images": self.images, "seconds": self.seconds, **parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to `state`. Raises DuelError when it is of another kind of training."""
        missing = {"images", "seconds", *self.parts} - set(state)
        if missing:
            raise DuelError(f"the state of this training lacks {', '.join(sorted(missing))}")
        self.images, self.seconds = int(state["images"]), float(state["seconds"])
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
