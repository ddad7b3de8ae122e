"""What the fast training costs in quality: KID after the same images, ours, the example's and plain float32's."""

import statistics
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from harness import Options, Row
from torch import nn
from training import BATCH, SIDE, Peer, dcgan_trainer, some_faces

from duel.device import autocast, keep_memory, pick_device, to_bytes
from duel.families import DcganSettings
from duel.metrics import KidScorer, feature_network, features
from duel.models import build
from duel.models.inference import make_fakes, make_noise
from duel.train import generator as training

SEEDS = 3


def kid_of_ours(images: np.ndarray, count: int, scorer: KidScorer, seed: int) -> float:
    """KID of duel's generator (the averaged weights, which are what it keeps) after `count` images."""
    trainer = dcgan_trainer(images, seed)
    trainer.train_to(count)
    return scorer(make_fakes(trainer.generator, len(scorer.real_features), 99, pick_device()))


def kid_in_float32(images: np.ndarray, count: int, scorer: KidScorer, seed: int) -> float:
    """The same training without bfloat16 and without kernels of our own."""
    with mock.patch.object(training, "autocast", lambda device: torch.autocast(device.type, enabled=False)):
        return kid_of_ours(images, count, scorer, seed)


def kid_of_peer(options: Options, count: int, scorer: KidScorer, seed: int) -> float:
    """KID of the example's generator after one pass over `count` photographs, as it shows them: batch statistics."""
    assert options.faces is not None
    assert options.peer is not None
    with tempfile.TemporaryDirectory() as name:
        folder, photographs = Path(name), Path(name, "photographs")
        photographs.mkdir()
        for path in sorted(options.faces.iterdir())[:count]:
            (photographs / path.name).symlink_to(path.absolute())
        peer = Peer(options.peer, photographs, folder, "--niter", "1", "--manualSeed", str(seed))
        peer.process.communicate()
        weights = torch.load(folder / "netG_epoch_0.pth", map_location="cpu", weights_only=True)
    network = build("generator", "dcgan", SIDE, DcganSettings())
    network.load_state_dict({key.replace("main.", "layers."): value for key, value in weights.items()})
    return scorer(_with_batch_statistics(network, len(scorer.real_features)))


@torch.inference_mode()
def _with_batch_statistics(network: nn.Module, count: int) -> np.ndarray:
    noise = make_noise(count, network.latent, 99)  # type: ignore[arg-type]
    with autocast(torch.device("cpu")):
        return torch.cat([to_bytes(network(part)) for part in noise.split(BATCH)]).numpy()


def measure(options: Options) -> list[Row]:
    """KID of three seeds each, after the same number of images."""
    if options.faces is None:
        return [Row("KID after the same images", "needs photographs: --faces")]
    keep_memory()
    count, reals = (256, 200) if options.quick else (8000, 2000)
    faces = some_faces(options, count + reals)
    device = pick_device()
    network = feature_network(device=device)
    scorer = KidScorer(network, features(network, faces[count:], device), device)
    kids = {
        "ours": [kid_of_ours(faces[:count], count, scorer, seed) for seed in range(SEEDS)],
        "ours in plain fp32": [kid_in_float32(faces[:count], count, scorer, seed) for seed in range(SEEDS)],
    }
    if options.peer is not None:
        kids["peer"] = [kid_of_peer(options, count, scorer, seed) for seed in range(SEEDS)]
    text = "; ".join(f"{name} {', '.join(f'{k:.2f}' for k in values)}" for name, values in kids.items())
    rival = kids.get("peer", kids["ours in plain fp32"])
    met = statistics.median(kids["ours"]) <= statistics.median(rival)
    return [Row(f"KID after {count:,} images, three seeds", text, "no worse than the peer", met)]
