"""How fast trials and tasks are here, measured on the spot: for the plan, in seconds."""

import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from duel.config import Sweep
from duel.device import pick_device, place, scoring_batch
from duel.families import Settings, family_settings
from duel.metrics import feature_network, features
from duel.models import build
from duel.models.inference import make_fakes, predict
from duel.spaces import Choice, Fixed, Int, LogUniform
from duel.train.detector import DetectorTrainer
from duel.train.generator import GeneratorTrainer
from duel.train.loop import Diverged, Trainer

SAMPLE = 32  # images a measured call on a CPU
CPU_STEP_PIXELS = 32 * 32**2  # a measured training step on a CPU: 32 images at 32x32, 8 at 64x64


@dataclass(frozen=True)
class Speeds:
    """Images a second of one trial or task by itself: on the cores that it reserves, or with a GPU all to itself."""

    generator_training: float
    detector_training: float
    making_fakes: float
    detecting: float
    features: float
    on_gpu: bool = False


def cautious_speeds(image_size: int) -> Speeds:
    """A wide network's on one slow CPU core, without measuring: a run that is short at these is short."""
    training = 100_000 / image_size**2
    return Speeds(training, training, 5 * training, 5 * training, features=50)


@dataclass(frozen=True)
class Effort:
    """How much is done to measure a speed; what is done before, to warm up, does not count."""

    images: int  # made, judged or looked at by a call
    warm_up: int  # training steps
    steps: int


def effort(device: torch.device) -> Effort:
    """A CPU shows its speed at once. A GPU does so with full batches, once its steps are recorded (duel.train.graphs).

    A step with a penalty, by default one in 16, is recorded when it is taken for the third time.
    """
    if device.type == "cuda":
        return Effort(images=8 * scoring_batch(device), warm_up=3 * 16, steps=2 * 16)
    return Effort(images=SAMPLE, warm_up=1, steps=1)


def measure_speeds(sweep: Sweep, threads: dict[str, int]) -> Speeds:
    """Run a few training steps of each side's families on random images and take the median family's speed.

    threads: CPU cores a trial of each side reserves. Takes a few seconds, on a GPU with large images a minute.
    """
    device, size = pick_device() if sweep.generators.resources.gpu else torch.device("cpu"), sweep.image_size
    before = torch.get_num_threads()
    shape = (effort(device).images, 3, size, size)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    try:
        torch.set_num_threads(threads["generator"])
        made = [_measure_generator(f, s, images, device) for f, s in middles(sweep, "generator")]
        network = feature_network(device=device)
        scored = _rate(lambda: features(network, images, device), len(images), device)
        torch.set_num_threads(threads["detector"])
        judged = [_measure_detector(f, s, images, device) for f, s in middles(sweep, "detector")]
    finally:
        torch.set_num_threads(before)
    middle = [statistics.median(column) for column in (*zip(*made, strict=True), *zip(*judged, strict=True))]
    return Speeds(middle[0], middle[2], middle[1], middle[3], scored, on_gpu=device.type == "cuda")


def _measure_generator(family: str, settings: Any, images: np.ndarray, device: torch.device) -> tuple[float, float]:
    """Images a second of training one, and of making fakes."""
    network = place(build("generator", family, images.shape[-1], settings), device).eval()
    making = _rate(lambda: make_fakes(network, len(images), 0, device), len(images), device)
    trainer = GeneratorTrainer(
        family, _small_steps(settings, images.shape[-1], device), images, lambda fakes: 0.0,
        image_size=images.shape[-1], device=device, seed=0,
    )  # fmt: skip
    return _training_rate(trainer, effort(device)), making


def _measure_detector(family: str, settings: Any, images: np.ndarray, device: torch.device) -> tuple[float, float]:
    """Images a second of training one, and of judging."""
    trainer = DetectorTrainer(
        family, _small_steps(settings, images.shape[-1], device), images, images, images, images,
        image_size=images.shape[-1], device=device, seed=0,
    )  # fmt: skip
    training, network = _training_rate(trainer, effort(device)), build("detector", family, images.shape[-1], settings)
    network = place(network, device).eval()
    return training, _rate(lambda: predict(network, images, device), len(images), device)


def _small_steps(settings: Any, image_size: int, device: torch.device) -> Any:
    """On a CPU a few images show the speed nearly as well as a whole batch does, and sooner."""
    if device.type == "cuda":
        return settings
    step = max(4, min(settings.batch_size, CPU_STEP_PIXELS // image_size**2))
    return settings.model_copy(update={"batch_size": step})


def _training_rate(trainer: Trainer, at: Effort) -> float:
    """Images a second of the steps after the warm-up."""
    batch = trainer.batch_size

    def train(steps: int) -> None:
        with suppress(Diverged):  # what it makes of random images is no matter
            trainer.train_to(steps * batch)

    train(at.warm_up)
    return at.steps * batch / _seconds(lambda: train(at.warm_up + at.steps), trainer.device)


def _rate(work: Callable[[], Any], images: int, device: torch.device) -> float:
    """Images a second of the second call."""
    work()
    return images / _seconds(work, device)


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    """How long work takes, until the device has done it too."""
    _wait_for(device)
    begin = time.perf_counter()
    work()
    _wait_for(device)
    return max(time.perf_counter() - begin, 1e-9)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def middles(sweep: Sweep, side: str) -> list[tuple[str, Settings]]:
    """Each family with the middle of every search range."""
    families = sweep.side(side).families
    return [(f, family_settings(side, f, {k: _middle(p) for k, p in space.items()})) for f, space in families.items()]


def _middle(parameter: Any) -> Any:
    match parameter:
        case Fixed():
            return parameter.value
        case Choice():
            return parameter.values[len(parameter.values) // 2]
        case Int():
            return parameter.low + (parameter.high - parameter.low) // (2 * parameter.step) * parameter.step
        case LogUniform():
            return (parameter.low * parameter.high) ** 0.5
        case _:
            return (parameter.low + parameter.high) / 2
