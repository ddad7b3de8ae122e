"""What the fast training costs in quality: KID after the same images, against plain float32 and the example."""

import statistics
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from harness import Options, Row
from training import BATCH, SIDE, dcgan_trainer, peer_at_work, some_faces

from duel.device import keep_memory, pick_device
from duel.families import DcganSettings
from duel.metrics import KidScorer, feature_network, features
from duel.models import build
from duel.models.inference import make_fakes, make_noise, render
from duel.train import generator as training

SEEDS = 3


# The quick sweep's kind of generator: it learns within minutes, where a difference can be seen.
SMALL_SIDE, SMALL = 32, {"width": 48, "width_discriminator": 32, "lr_generator": 7e-4, "lr_discriminator": 7e-4}


def kid_of_ours(images: np.ndarray, scorer: KidScorer, seed: int, **changes: Any) -> float:
    """KID of duel's generator (the averaged weights, which are what it keeps) after one pass over `images`."""
    trainer = dcgan_trainer(images, seed, **changes)
    trainer.train_to(len(images))
    return scorer(make_fakes(trainer.generator, len(scorer.real_features), 99, pick_device()))


def kid_in_float32(images: np.ndarray, scorer: KidScorer, seed: int, **changes: Any) -> float:
    """The same training without bfloat16 and without kernels of our own."""
    with mock.patch.object(training, "autocast", lambda device: torch.autocast(device.type, enabled=False)):
        return kid_of_ours(images, scorer, seed, **changes)


def kid_of_peer(options: Options, count: int, scorer: KidScorer, seed: int) -> float:
    """KID of the example's generator after one pass over `count` photographs."""
    with peer_at_work(options, "--niter", "1", "--manualSeed", str(seed), count=count) as (peer, folder):
        peer.process.communicate()
        return kid_of_example(folder / "netG_epoch_0.pth", scorer)


def kid_of_example(path: Path, scorer: KidScorer) -> float:
    """KID of a generator that the example saved, as the example shows its images: with batch statistics."""
    weights = torch.load(path, map_location="cpu", weights_only=True)
    network = build("generator", "dcgan", SIDE, DcganSettings())
    network.load_state_dict({key.replace("main.", "layers."): value for key, value in weights.items()})
    noise = make_noise(len(scorer.real_features), network.latent, 99)  # type: ignore[arg-type]
    return scorer(render(network.train(), noise, torch.device("cpu"), BATCH))


def measure(options: Options) -> list[Row]:
    """KID of three seeds each, after the same number of images."""
    if options.faces is None:
        return [Row("KID after the same images", "needs photographs: --faces")]
    keep_memory()
    rows = [_against_float32(options)]
    return rows if options.peer is None else [*rows, _against_peer(options)]


def _against_float32(options: Options) -> Row:
    faces, scorer = faces_and_scorer(options, 256 if options.quick else 16_000, SMALL_SIDE)
    ours = [kid_of_ours(faces, scorer, seed, **SMALL) for seed in range(SEEDS)]
    plain = [kid_in_float32(faces, scorer, seed, **SMALL) for seed in range(SEEDS)]
    return _row(f"KID after {len(faces):,} images, 32x32: fast path against plain float32", ours, plain)


def _against_peer(options: Options) -> Row:
    faces, scorer = faces_and_scorer(options, 256 if options.quick else 8_000, SIDE)
    ours = [kid_of_ours(faces, scorer, seed) for seed in range(SEEDS)]
    peer = [kid_of_peer(options, len(faces), scorer, seed) for seed in range(SEEDS)]
    return _row(f"KID after {len(faces):,} images, 64x64: against the peer", ours, peer)


def faces_and_scorer(options: Options, count: int, side: int) -> tuple[np.ndarray, KidScorer]:
    """So many faces to train on, and the KID against others."""
    device, reals = pick_device(), 200 if options.quick else 2_000
    faces, network = some_faces(options, count + reals, side), feature_network(device=device)
    return faces[:count], KidScorer(network, features(network, faces[count:], device), device)


def _row(path: str, ours: list[float], theirs: list[float]) -> Row:
    text = " against ".join(", ".join(f"{kid:.2f}" for kid in kids) for kids in (ours, theirs))
    met = statistics.median(ours) <= statistics.median(theirs)
    return Row(path, f"{text}, one figure a seed", "no worse in the median", met)
