"""KID of generator families and of the public DCGAN example after the same time, one after the other on all cores."""

import time
from collections.abc import Callable

import numpy as np
import torch
from harness import Options, Row
from quality import faces_and_scorer, kid_of_example
from training import BATCH, BATCH_LINE, SIDE, Peer, peer_at_work

from duel.device import keep_memory, pick_device
from duel.families import family_settings
from duel.metrics import KidScorer
from duel.models.inference import make_fakes
from duel.train.generator import GeneratorTrainer

MINUTES, SEEDS, FACES = 30, 2, 16_000
TARGET = 3  # times the example's KID
# As narrow as lets a CPU show a network many faces; what the quick sweep's ranges hold, at 64x64.
OURS: dict[str, dict[str, object]] = {
    "dcgan": {"width": 48, "width_discriminator": 32, "upsample": "nearest", "batch_size": 64,
              "lr_generator": 7e-4, "lr_discriminator": 7e-4},
    "r3gan": {"width": 8, "width_discriminator": 8, "depth": 1, "batch_size": 64, "lr_generator": 2e-3,
              "lr_discriminator": 2e-3, "r1": 0.15, "r2": 0.15, "penalty_every": 8},
}  # fmt: skip


def train_for(seconds: float, family: str, faces: np.ndarray, scorer: KidScorer, seed: int) -> tuple[float, int]:
    """KID after so much training, and the images trained on."""
    settings = family_settings("generator", family, OURS[family])
    trainer = GeneratorTrainer(
        family,
        settings,
        faces,
        scorer,
        image_size=SIDE,
        device=pick_device(),
        seed=seed,  # type: ignore[arg-type]
    )
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
    """KID of two seeds of each family, and of the example, after the same time."""
    if options.faces is None:
        return [Row("KID after equal time", "needs photographs: --faces")]
    keep_memory()
    seconds, count = (5.0, 256) if options.quick else (60.0 * MINUTES, FACES)
    faces, scorer = faces_and_scorer(options, count, SIDE)
    sides: dict[str, Callable[[int], tuple[float, int]]] = {
        family: lambda seed, family=family: train_for(seconds, family, faces, scorer, seed) for family in OURS
    }  # type: ignore[misc]
    if options.peer is not None:
        sides["dcgan/main.py"] = lambda seed: train_example(seconds, options, count, scorer, seed)
    found = {name: [side(seed) for seed in range(SEEDS)] for name, side in sides.items()}
    best = {name: min(kid for kid, _ in runs) for name, runs in found.items()}
    rows = []
    for name, runs in found.items():
        text = ", ".join(f"{kid:.3f} ({images:,} images)" for kid, images in runs)
        ratio = best["dcgan/main.py"] / best[name] if "dcgan/main.py" in best and name in OURS else None
        told = f"{text}; {ratio:.1f}x below the example's best" if ratio else text
        title = f"KID after {seconds / 60:.3g} min on {torch.get_num_threads()} cores, 64x64, a figure a seed: {name}"
        rows.append(Row(title, told, f"{TARGET}x" if ratio else "", ratio >= TARGET if ratio else None))
    return rows
