"""What a run will do and about how long it takes here: counts from the settings, speeds measured on the spot."""

import math
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from duel.config import Budget, Sweep, share
from duel.device import pick_device, place, scoring_batch
from duel.families import TWINS, Settings, family_settings
from duel.metrics import feature_network, features
from duel.models import build, build_discriminator
from duel.models.inference import make_fakes, predict
from duel.progress import span
from duel.spaces import Choice, Fixed, Int, LogUniform
from duel.train.detector import DetectorTrainer
from duel.train.generator import GeneratorTrainer
from duel.train.loop import Diverged, Trainer

MANY_HOURS = 3 * 3600.0
SAMPLE = 32  # images a measured call on a CPU
CPU_STEP_PIXELS = 32 * 32**2  # a measured training step on a CPU: 32 images at 32x32, 8 at 64x64
START_SECONDS = 20.0  # Ray's start and a worker's first import of torch, measured on 2 cores


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
class Plan:
    """A run in numbers. Seconds and bytes are estimates."""

    generators: int
    detectors: int
    matches: int
    faces: int
    images_trained: int
    images_judged: int
    stage_seconds: dict[str, float]
    object_store_bytes: int
    state_bytes: int
    gpus_shared: bool  # trials or tasks run side by side on one GPU

    @property
    def seconds(self) -> float:
        """All stages together."""
        return sum(self.stage_seconds.values())


@dataclass(frozen=True)
class Round:
    """Trials or twins of one side that may run side by side; elders: earlier detectors that read their fakes."""

    count: int
    budget: Budget
    elders: int = 0


def make_plan(sweep: Sweep, trials: int, seasons: int, weathers: int, speeds: Speeds, parallel: dict[str, int]) -> Plan:
    """weathers: how often all matches are read again. parallel: trials of each side that run at once here."""
    generators, detectors = seasons * share(trials, "generator"), seasons * share(trials, "detector")
    rounds = {side: trial_rounds(sweep, side, trials, seasons) for side in parallel}
    abreast = {side: _abreast(sweep, side, count) for side, count in parallel.items()} if speeds.on_gpu else parallel
    sizes = sweep.faces.sizes()
    pairs = generators * detectors
    made = generators * (sizes["detector_train"] + sizes["league"]) + sizes["validation"]
    judged = (1 + weathers) * detectors * sizes["league"] * (1 + generators)
    judged += (seasons > 1) * detectors * sizes["validation"] * (1 + generators)  # scouting
    # Detectors train on all generators' fakes at once; those of the league come and go, see duel.readings.
    stored = generators * sizes["detector_train"] + 2 * sizes["validation"]
    return Plan(
        generators=generators,
        detectors=detectors,
        matches=pairs,
        faces=sum(sizes.values()),
        images_trained=sum(r.count * r.budget.max_images for side in rounds.values() for r in side),
        images_judged=judged,
        stage_seconds={
            "start": START_SECONDS,
            "generator trials": _sweep_seconds(sweep, "generator", rounds["generator"], speeds, abreast["generator"]),
            "detector trials": _sweep_seconds(sweep, "detector", rounds["detector"], speeds, abreast["detector"]),
            "fakes": made / speeds.making_fakes / abreast["detector"],
            "matches": judged / speeds.detecting / abreast["detector"],
        },
        object_store_bytes=3 * sweep.image_size**2 * (sum(sizes.values()) + stored),
        state_bytes=_state_bytes(sweep),
        gpus_shared=abreast != parallel,
    )


def _abreast(sweep: Sweep, side: str, parallel: int) -> int:
    """As how many trials that each have a GPU to themselves so many count of which each reserves a part of one.

    As many as the GPUs that they need: trials that share one are taken to be as fast together as one alone. They are
    faster where one leaves it idle; how much so depends on networks, images and GPU.
    """
    return math.ceil(parallel * min(1.0, sweep.side(side).resources.gpu or 1.0))


def trial_rounds(sweep: Sweep, side: str, trials: int, seasons: int) -> list[Round]:
    """All that is trained, one round after the other."""
    settings, count = sweep.side(side), share(trials, side)
    rounds = [Round(count, settings.budget)]
    for season in range(2, seasons + 1):
        twins = min(count, settings.later_seasons.twins) * len(TWINS[side])
        elders = (season - 1) * share(trials, "detector") if side == "generator" else 0
        rounds += [Round(number, settings.budget_in(season), elders) for number in (count, twins)]
    families = len(sweep.generators.families)
    if side == "detector" and families > 1:
        rounds.append(Round(min(count, sweep.detectors.leave_family_out) * families, settings.budget))
    return rounds


def _sweep_seconds(sweep: Sweep, side: str, rounds: list[Round], speeds: Speeds, parallel: int) -> float:
    """All trials at full budget: ASHA can only make it less."""
    checks, total = sweep.faces.validation, 0.0
    for part in rounds:
        images, reports = part.budget.max_images, part.budget.max_images // part.budget.report_every
        if side == "generator":
            one = images / speeds.generator_training
            one += reports * checks * (1 / speeds.features + 1 / speeds.making_fakes + part.elders / speeds.detecting)
            one += (part.elders > 0) * images / speeds.detector_training  # through one of the panel and back
        else:
            one = images / speeds.detector_training + reports * 2 * checks / speeds.detecting
        total += one * -(-part.count // min(parallel, sweep.side(side).max_concurrent))
    return total


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
        made = [_measure_generator(f, s, images, device) for f, s in _middles(sweep, "generator")]
        network = feature_network(device=device)
        scored = _rate(lambda: features(network, images, device), len(images), device)
        torch.set_num_threads(threads["detector"])
        judged = [_measure_detector(f, s, images, device) for f, s in _middles(sweep, "detector")]
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


def _middles(sweep: Sweep, side: str) -> list[tuple[str, Settings]]:
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


def describe_plan(plan: Plan, sweep: Sweep, source: str, where: str, parallel: dict[str, int]) -> str:
    """The plan as a person reads it, ending with the estimate."""
    gib = 2**30
    sizes = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in sweep.faces.sizes().items())
    lines = [
        f"faces    {plan.faces:,} of {sweep.image_size}x{sweep.image_size} from {source} ({sizes})",
        f"trials   {plan.generators} generators ({', '.join(sweep.generators.families)}) "
        f"of up to {sweep.generators.budget.max_images:,} images, {parallel['generator']} at once; "
        f"{plan.detectors} detectors ({', '.join(sweep.detectors.families)}) "
        f"of up to {sweep.detectors.budget.max_images:,} images, {parallel['detector']} at once",
        f"images   {plan.images_trained:,} trained on, {plan.images_judged:,} judged",
        f"matches  up to {plan.matches} of {sweep.faces.league:,} fakes + {sweep.faces.league:,} held-out reals",
        f"memory   {plan.object_store_bytes / gib:.1f} GiB of images in Ray's object store, "
        f"{plan.state_bytes / 2**20:,.0f} MiB of weights and optimiser state a generator trial",
        f"machine  {where}",
        "time     " + ", ".join(f"{name} {span(s)}" for name, s in plan.stage_seconds.items()),
        f"         about {span(plan.seconds)} in all, if no trial is stopped early",
    ]
    if plan.gpus_shared:
        lines.append(
            "         trials that share a GPU are taken to be as fast together as one alone; they may be faster"
        )
    return "\n".join(lines)


def _state_bytes(sweep: Sweep) -> int:
    """Both networks' weights, two Adam moments each, and the generator's average: the largest family's."""
    sizes = []
    for family, settings in _middles(sweep, "generator"):
        generator = _parameters(build("generator", family, sweep.image_size, settings))
        discriminator = _parameters(build_discriminator(family, sweep.image_size, settings))
        sizes.append(4 * (4 * generator + 3 * discriminator))
    return max(sizes)


def _parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())
