"""KID of the best generator family and of the public DCGAN example after the same time, in turns on all cores."""

import sys
import time
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from harness import Options, Row, at_least
from quality import faces_and_scorer, kid_of_example
from training import BATCH, BATCH_LINE, SIDE, Peer, peer_at_work

from duel.device import keep_memory, pick_device
from duel.families import GeneratorSettings, family_settings
from duel.metrics import KidScorer
from duel.models.inference import make_fakes
from duel.train.generator import GeneratorTrainer

MINUTES, SEEDS, FACES = 30, 2, 16_000
TARGET = 3  # times below the example's KID
PEER = "dcgan/main.py"
# The family that learnt fastest at 32x32, as narrow as lets a CPU show it many faces; from the quick sweep's ranges.
FAMILY = "r3gan"
SETTINGS: dict[str, object] = {
    "width": 8, "width_discriminator": 8, "depth": 1, "batch_size": 64, "lr_generator": 2e-3,
    "lr_discriminator": 2e-3, "r1": 0.15, "r2": 0.15, "penalty_every": 8,
}  # fmt: skip


def train_ours(seconds: float, faces: np.ndarray, scorer: KidScorer, seed: int) -> tuple[float, int]:
    """KID after so much training, and the images trained on."""
    settings = cast(GeneratorSettings, family_settings("generator", FAMILY, SETTINGS))
    trainer = GeneratorTrainer(FAMILY, settings, faces, scorer, image_size=SIDE, device=pick_device(), seed=seed)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        trainer.train_to(trainer.images + 8 * trainer.batch_size)
    return scorer(make_fakes(trainer.generator, len(scorer.real_features), 99, pick_device())), trainer.images


def train_example(seconds: float, options: Options, faces: int, scorer: KidScorer, seed: int) -> tuple[float, int]:
    """The same of the example; it saves after each epoch, so it may end the one in which its time runs out."""
    with peer_at_work(options, "--niter", "10000", "--manualSeed", str(seed), count=faces) as (peer, folder):
        epochs = _epochs(peer, seconds, -(-faces // BATCH))
        return kid_of_example(folder / f"netG_epoch_{epochs - 1}.pth", scorer), epochs * faces


def _epochs(peer: Peer, seconds: float, batches: int) -> int:
    """Let the example train for so long, from its first batch on, and end and save the epoch that it is in."""
    assert peer.process.stdout is not None
    lines = (line for line in peer.process.stdout if BATCH_LINE.match(line))
    next(lines)
    end, late = time.monotonic() + seconds, False
    for done, _ in enumerate(lines, start=1):  # batches before the one of this line
        if late and done % batches == 0:
            return done // batches
        late = time.monotonic() >= end
    raise RuntimeError("the example ended before its time")


def measure(options: Options) -> list[Row]:
    """KID of two seeds of both, after the same time."""
    if options.faces is None:
        return [Row("KID after equal time", "needs photographs: --faces")]
    keep_memory()
    seconds, count = (5.0, 256) if options.quick else (60.0 * MINUTES, FACES)
    faces, scorer = faces_and_scorer(options, count, SIDE)
    sides: dict[str, Callable[[int], tuple[float, int]]] = {}
    if options.peer is not None:
        sides[PEER] = lambda seed: train_example(seconds, options, count, scorer, seed)
    sides[FAMILY] = lambda seed: train_ours(seconds, faces, scorer, seed)
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in sides}
    for seed in range(SEEDS):
        for name, side in sides.items():
            found[name].append(side(seed))
            print(f"{name}, seed {seed}: {_told(*found[name][-1])}", file=sys.stderr, flush=True)
    best = {name: min(kid for kid, _ in runs) for name, runs in found.items()}
    title = f"KID after {seconds / 60:.3g} min on {torch.get_num_threads()} cores, 64x64, a figure a seed"
    told = {name: ", ".join(_told(*run) for run in runs) for name, runs in found.items()}
    if PEER not in best:
        return [Row(f"{title}: {FAMILY}", f"{told[FAMILY]}; no ratio without --peer")]
    ratio = best[PEER] / best[FAMILY]
    return [
        Row(f"{title}: {PEER}", told[PEER]),
        at_least(f"... {FAMILY}, best against best", ratio, TARGET, told[FAMILY]),
    ]


def _told(kid: float, images: int) -> str:
    return f"{kid:.3f} ({images:,} images)"
