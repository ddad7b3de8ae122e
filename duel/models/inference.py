"""Networks at work: noise to fakes, images to P(fake). Both deterministic on one machine."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from duel.device import autocast, fold_batch_norm, in_batches, scoring_batch, to_bytes, to_device, to_network
from duel.watchdog import pulse


def make_noise(count: int, latent: int, seed: int) -> Tensor:
    """float32 [count, latent], standard normal, drawn on the CPU so that every device gets the same noise."""
    return torch.randn(count, latent, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def render(generator: nn.Module, noise: Tensor, device: torch.device, batch: int | None = None) -> np.ndarray:
    """What `generator` (in eval mode, on `device`) makes of noise [N, latent]: uint8 [N, 3, S, S]."""
    batch = batch or scoring_batch(device)
    made = torch.empty(0, dtype=torch.uint8)
    for start in range(0, len(noise), batch):
        with autocast(device):
            images = to_bytes(generator(noise[start : start + batch].to(device)))
        if not start:  # one array for all: parts put together at the end would take twice the memory
            made = torch.empty(len(noise), *images.shape[1:], dtype=torch.uint8, device=device)
        made[start : start + batch] = images
        pulse()
    return made.cpu().numpy()  # one wait for the device, at the end


def make_fakes(
    generator: nn.Module, count: int, seed: int, device: torch.device, batch: int | None = None
) -> np.ndarray:
    """`count` fresh fakes of `generator` (in eval mode, on `device`): uint8 [count, 3, S, S].

    The noise depends on `seed` and `count` alone, not on `batch` or `device`.
    """
    latent: int = generator.latent  # type: ignore[assignment]
    return render(generator, make_noise(count, latent, seed), device, batch)


@torch.inference_mode()
def predict(
    detector: nn.Module, images: np.ndarray | Tensor, device: torch.device, batch: int | None = None
) -> np.ndarray:
    """P(fake) of uint8 images [N, 3, S, S], by `detector` (in eval mode, on `device`): float32 [N]."""
    return _joined([torch.sigmoid(logits) for logits in _logits(detector, images, device, batch)])


@torch.inference_mode()
def predict_logits(detector: nn.Module, images: np.ndarray, device: torch.device) -> np.ndarray:
    """What `predict` takes the sigmoid of: float32 [N]."""
    return _joined(list(_logits(detector, images, device)))


def _logits(
    detector: nn.Module, images: np.ndarray | Tensor, device: torch.device, batch: int | None = None
) -> Iterator[Tensor]:
    folded = fold_batch_norm(detector)
    for part in in_batches(images, device, batch):
        with autocast(device):
            logits = folded(to_network(part))
        yield logits.float()


def _joined(parts: list[Tensor]) -> np.ndarray:
    return torch.cat(parts).cpu().numpy() if parts else np.zeros(0, np.float32)


def predict_each(detectors: list[nn.Module], images: np.ndarray, device: torch.device) -> np.ndarray:
    """P(fake) by each of the detectors: float32 [len(detectors), N]. The images reach a GPU once, as uint8."""
    shown = images if device.type == "cpu" else to_device(images, device)
    return np.stack([predict(detector, shown, device) for detector in detectors])
