"""What a run will do and about how long it takes here: counts from the settings, and duel.speeds."""

import math
from dataclasses import dataclass

import torch

from duel.config import Budget, Sweep, share
from duel.families import TWINS
from duel.models import build, build_discriminator
from duel.progress import span
from duel.speeds import Speeds, middles

MANY_HOURS = 3 * 3600.0
FRAME_FACES = 64  # on a picture of a training, see duel.sweep.trial
START_SECONDS = 20.0  # Ray's start and a worker's first import of torch, measured on 2 cores


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
    state_bytes: int  # of a generator trial in training
    disk_bytes: int  # the most at once, in the run's folder and its storage
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
        state_bytes=(state := _training_bytes(sweep)),
        disk_bytes=_states_on_disk(sweep, rounds, parallel, state)
        + 3 * sweep.image_size**2 * generators * (sizes["detector_train"] + sizes["league"]),
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
        f"disk     up to {plan.disk_bytes / gib:.1f} GiB: all fakes, models, and the trials' states",
        f"machine  {where}",
        "time     " + ", ".join(f"{name} {span(s)}" for name, s in plan.stage_seconds.items()),
        f"         about {span(plan.seconds)} in all, if no trial is stopped early",
    ]
    if plan.gpus_shared:
        lines.append(
            "         trials that share a GPU are taken to be as fast together as one alone; they may be faster"
        )
    return "\n".join(lines)


def _states_on_disk(sweep: Sweep, rounds: dict[str, list[Round]], parallel: dict[str, int], state: int) -> int:
    """Of trials in training, one side at a time, twice: a new state is whole before the old one goes; and of all ended.

    An ended one keeps its weights, in its model too, and pictures of the training until its stage ends.
    """
    in_training = 2 * parallel["generator"] * state  # a detector's is smaller
    ended = 0
    for side, parts in rounds.items():
        weights = 2 * max(4 * _parameters(build(side, f, sweep.image_size, s)) for f, s in middles(sweep, side))
        for part in parts:
            frames = 1 + part.budget.max_images // part.budget.report_every if side == "generator" else 0
            ended += part.count * (weights + frames * FRAME_FACES * 3 * sweep.image_size**2)
    return in_training + ended


def _training_bytes(sweep: Sweep) -> int:
    """Both networks' weights, two Adam moments each, and the generator's average: the largest family's."""
    sizes = []
    for family, settings in middles(sweep, "generator"):
        generator = _parameters(build("generator", family, sweep.image_size, settings))
        discriminator = _parameters(build_discriminator(family, sweep.image_size, settings))
        sizes.append(4 * (4 * generator + 3 * discriminator))
    return max(sizes)


def _parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())
