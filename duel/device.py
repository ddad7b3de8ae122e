"""Where and how networks compute: the one place that knows device, precision and memory format.

Training, scoring and the feature network use these functions and stay the same on every machine.
"""

import copy
import ctypes
import gc
import os
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from glob import glob
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from duel.watchdog import pulse, watched

GPU_FILES = "/dev/nvidia[0-9]*"  # the driver's, one a GPU
GPU_RECOVERS = 5.0  # seconds
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_CPU_HAS_BF16: bool = bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())

# float32 is asked for where bfloat16 would lose something: TF32, cuDNN's default, keeps no more bits of a product.
torch.backends.cudnn.allow_tf32 = False
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it once, and then repeats its sums exactly


# What is in the messages of CUDA and its libraries when they fail, and in those of PyTorch when it has no room or finds
# no algorithm that has any. PyTorch raises nearly all of them as plain RuntimeErrors.
_GPU_FAILED = re.compile(
    r"(cuda|cudnn|cublas|cufft|cusolver|cusparse|nccl|nvrtc)( \w+)? error|cu[a-z]+_status_|"
    r"out of memory|can't allocate memory|find an engine|no valid engine|valid cudnn algorithm|no cuda gpus",
    re.IGNORECASE,
)


def machine_failed(error: BaseException) -> bool:
    """Whether the GPU, its libraries or the memory failed the work, not the work itself: another try may succeed."""
    kinds = (torch.AcceleratorError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or (isinstance(error, RuntimeError) and bool(_GPU_FAILED.search(str(error))))


def pick_device() -> torch.device:
    """The first CUDA device that this process may use, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def claim(room: dict[str, float]) -> torch.device:
    """Keep to what a trial or task has reserved: as many threads as `cpu` cores; the device, a GPU if it has any.

    RuntimeError where a GPU is reserved and there, but can't be used, as for a while after another process' fault.
    """
    torch.set_num_threads(max(1, int(room["cpu"])))
    keep_memory()
    device = pick_device() if room["gpu"] else torch.device("cpu")
    if room["gpu"] and device.type == "cpu" and glob(GPU_FILES) and torch.backends.cuda.is_built():
        time.sleep(GPU_RECOVERS)  # what is started again next should find it well
        raise RuntimeError(
            "CUDA error: a GPU was reserved and is there, but PyTorch can't use it (is its driver too old? "
            "--gpus-per-trial 0 does without)"
        )
    return device


@contextmanager
def claimed(room: dict[str, float]) -> Iterator[torch.device]:
    """`claim` for one task, watched for hanging: the device inside; afterwards its memory is given back."""
    with watched():
        try:
            yield claim(room)
        finally:
            release()


def keep_memory() -> None:
    """Let this process keep the memory of arrays it has freed, for the next ones.

    glibc returns large arrays to the system, which then has to clear every page of the next one; that can halve the
    speed of scoring. Arrays of over 32 MiB still go back: kept, they would not always fit where they lay, and the
    process would grow. Other C libraries have no such call, and nothing happens.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        library.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def scoring_batch(device: torch.device) -> int:
    """Images at once where nothing is trained: enough to fill a GPU; on a CPU few, whose maps `keep_memory` keeps."""
    return 256 if device.type == "cuda" else 64


def release() -> None:
    """Give back GPU memory that this process keeps for later; an idle worker would keep it from the trials.

    Never fails: where a neighbour has spoilt the GPU's context there is nothing to give back, and the next step says
    so. Tune would give up a trial that fails before its first step, and a task's own error would be hidden.
    """
    if torch.cuda.is_available():
        gc.collect()  # networks with parametrised weights hold themselves
        with suppress(RuntimeError):
            torch.cuda.empty_cache()


@contextmanager
def training_kernels(device: torch.device) -> Iterator[None]:
    """Inside, CUDA uses kernels that add up in the same order each time, so that a training can be repeated.

    A GAN's training is chaotic: a last digit decides which trials ASHA stops. On an H100 this cost at most 2 % of the
    speed, and letting cuDNN try all its kernels gained nothing. Where images are only read, kernels repeat anyway.
    There is no such kernel for the gradient of mirrored edges and of antialiased resizing: a generator that learns to
    get past a `residual` or `probe` rival is not repeated to the last digit.
    """
    if device.type != "cuda":
        yield
        return
    fills: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    kept = torch.backends.cudnn.deterministic, fills.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.deterministic = True
    fills.fill_uninitialized_memory = False  # nobody reads any
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.deterministic, fills.fill_uninitialized_memory = kept


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 where the device computes in it (CUDA; CPUs with AVX512-BF16 or AMX), else float32."""
    enabled = device.type == "cuda" or (device.type == "cpu" and _CPU_HAS_BF16)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def computes_in_bf16(x: Tensor) -> bool:
    """Whether `x` lies on the CPU and `autocast` has its products taken in bfloat16."""
    return x.device.type == "cpu" and torch.is_autocast_enabled("cpu")


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Switches `autocast` off inside of it, for sums that bfloat16 would spoil."""
    return torch.autocast(device.type, enabled=False)


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """`network` on `device`, its convolutions in the layout that is fastest there."""
    return network.to(device).to(memory_format=torch.channels_last)


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """A copy of `network`, in eval mode, without the batch norms that follow a convolution: it does their work too.

    A batch norm that is registered right after a convolution has to be applied right after it.
    """
    network = copy.deepcopy(network).eval()
    for parent in list(network.modules()):
        for (name, convolution), (after, norm) in pairwise(list(parent.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, after, nn.Identity())
    return network


def to_network(images: Tensor) -> Tensor:
    """uint8 [N, 3, S, S] -> float32 in [-1, 1], on the same device, in the layout of `place`."""
    return images.to(memory_format=torch.channels_last).float().div_(127.5).sub_(1.0)


def to_bytes(images: Tensor) -> Tensor:
    """float [N, 3, S, S] in [-1, 1] -> uint8, rounded; values outside are clamped."""
    return images.float().add(1.0).mul_(127.5).round_().clamp_(0.0, 255.0).to(torch.uint8)


def in_batches(images: np.ndarray | Tensor, device: torch.device, batch: int | None = None) -> Iterator[Tensor]:
    """uint8 images, an array or a tensor that is on `device` already, as tensors there of `batch` images each."""
    batch = batch or scoring_batch(device)
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        if isinstance(part, np.ndarray):
            part = torch.from_numpy(np.array(part)).to(device, non_blocking=True)  # writable, as torch asks for
        yield part
        pulse()


def to_device(images: np.ndarray, device: torch.device, chunk: int = 4096) -> Tensor:
    """A uint8 array, memory map or view, read-only or not, as a tensor on `device`.

    Copied `chunk` images at a time, so that a large memory map never lies in memory twice.
    """
    out = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), chunk):
        part = np.array(images[start : start + chunk])  # writable, as torch asks for
        out[start : start + chunk] = torch.from_numpy(part).to(device)
    return out
