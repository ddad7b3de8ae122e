"""Which failures end a trial for good, and which are raised so that Tune starts it again in a new process."""

from types import SimpleNamespace

import pytest
import torch

from duel.errors import DuelError
from duel.sweep.trial import Trial, machine_failed
from duel.train.loop import Diverged

THE_MACHINES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    *map(
        RuntimeError,
        [
            "CUDA error: out of memory",
            "CUDA driver error: unknown error",
            "CUDA unknown error - this may be due to an incorrectly set up environment",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate",
            "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
            "cuDNN Frontend error: [cudnn_frontend] Error: No execution plans support the graph.",
            "Unable to find a valid cuDNN algorithm to run convolution",
            "GET was unable to find an engine to execute this computation",
            "FIND was unable to find an engine to execute this computation",
            "No valid engine configs for Tensor 0 ...",
            "cuFFT error: CUFFT_INTERNAL_ERROR",
            "cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR, when calling `cusolverDnCreate(handle)`",
            "NCCL error in: NCCLUtils.cpp:94, unhandled cuda error",
            "CUDA NVRTC error: NVRTC_ERROR_BUILTIN_OPERATION_FAILURE",
            "No CUDA GPUs are available",
            "[enforce fail at alloc_cpu.cpp:128] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8",
        ],
    ),
]
ITS_OWN = [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x512 and 256x1)"),
    RuntimeError(
        "Calculated padded input size per channel: (2 x 2). Kernel size: (3 x 3). Kernel size can't be greater"
    ),
    RuntimeError("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"),
    RuntimeError("Input type (torch.cuda.HalfTensor) and weight type (torch.cuda.FloatTensor) should be the same"),
    RuntimeError("element 0 of tensors does not require grad and does not have a grad_fn"),
    Diverged("loss is nan after 1,280 images"),
    DuelError("the weights to start from do not fit the detector"),
    ValueError("Expected more than 1 value per channel when training, got input size torch.Size([1, 8])"),
    ZeroDivisionError("float division by zero"),
]


class Planted(Trial):
    """A trial whose training fails, without Tune."""

    def __init__(self, error, at_start):
        sweep = SimpleNamespace(
            budget=SimpleNamespace(report_every=100, max_images=300), worst=0.0, objective="auc"
        )  # fmt: skip
        self.job = SimpleNamespace(sweep=sweep)
        self.state = {"history": []}
        self.error, self.at_start = error, at_start
        self.reports = None

    def _start(self):
        if self.at_start:
            raise self.error
        self.reports = self._fail()

    def _fail(self):
        yield from ()
        raise self.error


@pytest.mark.parametrize("at_start", [True, False], ids=["at the start", "in a step"])
@pytest.mark.parametrize("error", THE_MACHINES, ids=str)
def test_what_the_machine_failed_in_is_tried_again(error, at_start):
    assert machine_failed(error)
    with pytest.raises(type(error)) as raised:
        Planted(error, at_start)._train_on()
    assert raised.value is error


@pytest.mark.parametrize("at_start", [True, False], ids=["at the start", "in a step"])
@pytest.mark.parametrize("error", ITS_OWN, ids=str)
def test_what_the_network_failed_in_is_its_result(error, at_start):
    assert not machine_failed(error)
    report = Planted(error, at_start)._train_on()
    assert (report["done"], report["objective"], report["auc"], report["mark"]) == (True, 0.0, 0.0, 100)
    assert report["failed"] == f"{type(error).__name__}: {error}"
