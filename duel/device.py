"""Where and how networks compute: the one place that knows device, precision and memory format.

Training, scoring and the feature network use these functions and stay the same on every machine.
"""

from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor, nn

_CPU_HAS_BF16: bool = bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def pick_device() -> torch.device:
    """The first CUDA device that this process may use, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def claim(room: dict[str, float]) -> torch.device:
    """Keep to what a trial or task has reserved: as many threads as `cpu` cores; the device, a GPU if it has any."""
    torch.set_num_threads(max(1, int(room["cpu"])))
    return pick_device() if room["gpu"] else torch.device("cpu")


def release() -> None:
    """Give back GPU memory that this process keeps for later; an idle worker would keep it from the trials."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 where the device computes in it (CUDA; CPUs with AVX512-BF16 or AMX), else float32."""
    enabled = device.type == "cuda" or (device.type == "cpu" and _CPU_HAS_BF16)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Switches `autocast` off inside of it, for sums that bfloat16 would spoil."""
    return torch.autocast(device.type, enabled=False)


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """`network` on `device`, its convolutions in the layout that is fastest there."""
    return network.to(device).to(memory_format=torch.channels_last)


def to_network(images: Tensor) -> Tensor:
    """uint8 [N, 3, S, S] -> float32 in [-1, 1], on the same device, in the layout of `place`."""
    return images.to(memory_format=torch.channels_last).float().div_(127.5).sub_(1.0)


def to_bytes(images: Tensor) -> Tensor:
    """float [N, 3, S, S] in [-1, 1] -> uint8, rounded; values outside are clamped."""
    return images.float().add(1.0).mul_(127.5).round_().clamp_(0.0, 255.0).to(torch.uint8)


def to_device(images: np.ndarray, device: torch.device, chunk: int = 4096) -> Tensor:
    """A uint8 array, memory map or view, read-only or not, as a tensor on `device`.

    Copied `chunk` images at a time, so that a large memory map never lies in memory twice.
    """
    out = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), chunk):
        part = np.array(images[start : start + chunk])  # writable, as torch asks for
        out[start : start + chunk] = torch.from_numpy(part).to(device)
    return out
