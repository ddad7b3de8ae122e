"""What training a generator and training a detector share: batches, counting, resuming, failing."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from duel.device import to_device, training_kernels
from duel.errors import DuelError
from duel.train.graphs import Graphs, Values, graphs_for, recordable
from duel.watchdog import pulse


class Diverged(DuelError):
    """Training left the finite numbers. The message says what did, and after how many images."""


def mix(*numbers: int) -> int:
    """One seed of 63 bits from several numbers, unlike the seed of any other such list."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def random_numbers(device: torch.device) -> AbstractContextManager[None]:
    """Inside, torch's random numbers may be seeded; outside, nothing changes.

    Each training step is seeded by its place in the training, so a resumed training needs no random state.
    """
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


@contextmanager
def seeded(device: torch.device, *numbers: int) -> Iterator[None]:
    """Inside, torch's random numbers follow from `numbers` alone; outside, nothing changes."""
    with random_numbers(device):
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
        self._order = torch.zeros(0, dtype=torch.int64)

    def batch(self, position: int, size: int) -> Tensor:
        """The `size` images from `position` on, uint8 on the device. Batches may reach over passes."""
        rows = self._rows(position, size)
        if isinstance(self._images, Tensor):
            return self._images.index_select(0, rows)
        return torch.from_numpy(self._images[rows.numpy()])

    def _rows(self, position: int, size: int) -> Tensor:
        """Where they lie: on the device that holds the images."""
        parts = []
        while size > 0:
            epoch, start = divmod(position, self.count)
            part = self._pass(epoch)[start : start + size]
            parts.append(part)
            position += len(part)
            size -= len(part)
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _pass(self, epoch: int) -> Tensor:
        """The order of one pass; it moves to the device once, and nothing waits for it."""
        if epoch != self._epoch:
            order = torch.from_numpy(np.random.default_rng([self._seed, epoch]).permutation(self.count))
            on_gpu = self._device.type == "cuda"
            self._order = order.pin_memory().to(self._device, non_blocking=True) if on_gpu else order
            self._epoch = epoch
        return self._order


class Trainer(ABC):
    """A training that counts images, reports at intervals, and resumes exactly from the state of any report.

    A subclass fills `parts` with its networks and optimisers and says how to take a step and how to validate.
    On CUDA steps become graphs, see duel.train.graphs; the subclass keeps to the bounds that `_step` states.
    """

    def __init__(self, *, batch_size: int, device: torch.device, seed: int) -> None:
        self.images = 0
        self.seconds = 0.0
        self.batch_size = batch_size
        self.device = device
        self.seed = seed
        self.parts: dict[str, nn.Module | Optimizer] = {}
        self._said = ""

    @abstractmethod
    def _inputs(self) -> Values:
        """What this step trains on: tensors on the device, of the same shapes each time."""

    def _kind(self) -> Hashable:
        """What else makes this step differ from others, where anything does."""
        return None

    @abstractmethod
    def _step(self, kind: Any, inputs: Values) -> Values:
        """Trains on one batch; the losses stay on the device, so that nothing waits for it.

        What it does follows from kind and inputs, the `parts`, and the device's random numbers alone: it may be
        recorded once and replayed.
        """

    def _after_step(self) -> None:  # noqa: B027  # most have nothing to do
        """What follows a step and depends on the image count."""

    @abstractmethod
    def _validate(self) -> dict[str, float]:
        """The scores of the present state on validation images."""

    def run(self, max_images: int, report_every: int) -> Iterator[dict[str, Any]]:
        """Trains until `max_images` were shown; yields a report each `report_every` images, and at the end.

        A report holds "images", the validation scores, the mean losses since the last report, "seconds"
        (of training, without validation, over all resumes), "validation_seconds" (of this report alone),
        "images_per_second" (since the last report), and once "note", where there is something to say.
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
                **self._note(),
                "seconds": self.seconds,
                "validation_seconds": validation,
                "images_per_second": (self.images - before) / seconds,
            }

    @cached_property
    def graphs(self) -> Graphs | None:
        """The steps' CUDA graphs, where there are any."""
        return graphs_for(self.device, self.parts)

    def _note(self) -> dict[str, str]:
        """Why steps are no graphs though they might be: once."""
        note = self.graphs.note if self.graphs else ""
        new, self._said = note and note != self._said, note
        return {"note": note} if new else {}

    def train_to(self, images: int) -> dict[str, float]:
        """Trains in whole batches until `images` were shown, without a report; the mean losses."""
        sums: dict[str, Tensor] = {}
        steps = 0
        with random_numbers(self.device), training_kernels(self.device), self._at_work():
            while self.images < images:
                losses = self._take()
                sums = {name: loss.detach() + sums.get(name, 0.0) for name, loss in losses.items()}
                self._after_step()
                self.images += self.batch_size
                steps += 1
                pulse()
            # the first time since the last report that the CPU waits for the device
            return self._check({name: (total / steps).item() for name, total in sums.items()})

    def _at_work(self) -> AbstractContextManager[object]:
        return self.graphs.at_work() if self.graphs else nullcontext()

    def _take(self) -> Values:
        """One step; its random numbers follow from the seed and the image count."""

        def reseed() -> None:
            torch.manual_seed(mix(self.seed, self.images))

        kind, inputs = self._kind(), self._inputs()
        if self.graphs:
            return self.graphs.take(kind, inputs, partial(self._step, kind), reseed)
        reseed()
        return self._step(kind, inputs)

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
            if isinstance(part, Optimizer):
                recordable(part, self.device)
        self.__dict__.pop("graphs", None)  # they change the tensors that an optimiser had before
