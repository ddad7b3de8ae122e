"""Training and asking a detector against the usual loop: ImageFolder, DataLoader, float32."""

import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from harness import Options, Row, at_least, flops, interleave, matmul_peak, ratio, spread
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from training import SIDE, some_faces

from duel.device import keep_memory, pick_device
from duel.families import CnnSettings
from duel.models.inference import predict
from duel.train.detector import DetectorTrainer

BATCH = 64


def usual_cnn() -> nn.Sequential:
    """duel's default `cnn` as one writes it down: the same layers and sizes."""
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128 * 8 * 8, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 1), nn.Flatten(0)),
    )


def image_folder(options: Options, fakes: np.ndarray, folder: Path) -> ImageFolder:
    """Classes real (the photographs, or drawn faces) and fake, read the usual way."""
    for index, fake in enumerate(fakes):
        _save(fake, folder / "fake" / f"{index}.png")
    if options.faces is None:
        for index, real in enumerate(fakes):
            _save(real, folder / "real" / f"{index}.jpg")
    else:
        (folder / "real").mkdir()
        names = sorted(p for p in options.faces.rglob("*") if p.suffix.lower() in (".jpg", ".png"))[: len(fakes)]
        for path in names:
            (folder / "real" / path.name).symlink_to(path.absolute())
    steps = [transforms.Resize(SIDE), transforms.CenterCrop(SIDE), transforms.RandomHorizontalFlip()]
    centre = (0.5, 0.5, 0.5)
    return ImageFolder(
        str(folder), transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(centre, centre)])
    )


def _save(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(image.transpose(1, 2, 0)).save(path)


def usual_training(dataset: ImageFolder, device: torch.device, batches: int) -> Callable[[], int]:
    """A piece of the usual training, as a side of a comparison."""
    network = usual_cnn().to(device)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    feed: Iterator[list[Tensor]] = cycle(DataLoader(dataset, BATCH, shuffle=True, num_workers=2))

    def work() -> int:
        for images, labels in islice(feed, batches):
            logits = network(images.to(device))
            loss = nn.functional.binary_cross_entropy_with_logits(logits, labels.to(device).float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        return batches * BATCH

    return work


def usual_answers(dataset: ImageFolder, device: torch.device) -> Callable[[], int]:
    """P(fake) of every image, the usual way."""
    network = usual_cnn().to(device).eval()
    loader = DataLoader(dataset, BATCH, num_workers=2)

    @torch.no_grad()
    def work() -> int:
        return sum(len(torch.sigmoid(network(images.to(device))).cpu()) for images, _ in loader)

    return work


def measure(options: Options) -> list[Row]:
    """Images a second of both, in training and in answering, and ours against the machine's peak."""
    keep_memory()
    device, count, batches = pick_device(), 256 if options.quick else 2048, 4 if options.quick else 24
    faces = some_faces(options, count)
    trainer = DetectorTrainer(
        "cnn", CnnSettings(batch_size=BATCH), faces, faces, faces, faces, image_size=SIDE, device=device, seed=0
    )

    def train() -> int:
        trainer.train_to(trainer.images + batches * BATCH)
        return batches * BATCH

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        dataset = image_folder(options, faces, Path(folder))
        rates = interleave({"ours": train, "usual": usual_training(dataset, device, batches)}, options.rounds)
        rows.append(_row("detector training (cnn) against ImageFolder + DataLoader + fp32", rates))
        ask = usual_answers(dataset, device)
        rates = interleave(
            {"ours": lambda: len(predict(trainer.detector, faces, device)), "usual": ask}, options.rounds
        )
        rows.append(_row("detector inference (cnn) against the same", rates))
    asked = flops(lambda: predict(trainer.detector, faces[:BATCH], device)) / BATCH
    share = asked * float(np.median(rates["ours"])) / matmul_peak(torch.bfloat16)
    rows.append(Row("... inference as a share of what matrix products reach",
                    f"{asked / 1e9:.3f} GFLOP an image: {share:.0%} of bf16 peak"))  # fmt: skip
    return rows


def _row(path: str, rates: dict[str, list[float]]) -> Row:
    text = f"images/s ours {spread(rates['ours'])}, usual {spread(rates['usual'])}"
    return at_least(path, ratio(rates, "ours", "usual"), 3, text)
