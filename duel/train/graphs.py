"""A training step as a CUDA graph: recorded once, then started as one piece in the place of a thousand launches.

At batch 64 a GPU computes a step of a small network faster than Python can ask for its kernels. A graph asks once.
What differs between steps beside the images is their kind (whether a penalty is due, which rival is met): each kind
has a graph of its own. Random numbers are the same as without: a graph takes seed and offset of the device's default
generator anew at each replay, and the loop seeds it before each step.

A graph is trusted only once it has been seen to do what the plain step does. Where it does not, or can't be recorded,
the training goes on without, and `note` says why. DUEL_GRAPHS=0 switches all of it off.
"""

import os
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

VARIABLE = "DUEL_GRAPHS"
WARM_UP = 2  # plain steps of a kind before it is recorded: optimisers make their state, libraries set themselves up
MOST = 16  # kinds that are recorded: a large panel of rivals, with and without penalty, has more
BOUND = 0.2  # of a step's change, by which two steps from one state may differ; a wrong graph is off by about 1
ROUNDING = 1e-4  # of a tensor, by which two steps may differ at least: what has settled hardly changes any more

Values = dict[str, Tensor]
Step = Callable[[Values], Values]


class Recorder(Protocol):
    """What records work on a device; tests have one that needs no GPU."""

    def at_work(self) -> AbstractContextManager[object]:
        """Inside, all steps are taken, recorded or not."""
        ...

    def record(self, work: Callable[[], Values]) -> Callable[[], Values]:
        """Calls `work` without carrying it out; what is returned carries it out, each time into the same tensors."""
        ...

    def recover(self) -> None:
        """After a `record` that failed: make plain steps possible again."""
        ...


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for all trainings of a process: cuBLAS keeps some 64 MB for every stream that it has seen."""
    return torch.cuda.Stream(device)


class CudaRecorder:
    """PyTorch's CUDA graphs, on a stream of their own. They share their memory: no two of them run at once."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, _stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def at_work(self) -> AbstractContextManager[object]:
        """The stream, in order with whatever was asked of the device before and will be after."""
        return _InOrder(self._stream)

    def record(self, work: Callable[[], Values]) -> Callable[[], Values]:
        """Records on the stream; Ray's and PyTorch's other threads may go on using the device."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            values = work()

        def replay() -> Values:
            graph.replay()
            return values

        return replay

    def recover(self) -> None:
        """A recording that broke off leaves the generator waiting for its end: it gets a new state.

        The memory that it had taken stays with the process.
        """
        torch.cuda.synchronize(self._device)
        fresh = torch.Generator(self._device).graphsafe_get_state()
        torch.cuda.default_generators[torch.cuda.current_device()].graphsafe_set_state(fresh)


class _InOrder:
    """A stream as the current one; it waits for the one before, and that one for it."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream

    def __enter__(self) -> None:
        self._before = torch.cuda.current_stream()
        self._stream.wait_stream(self._before)
        torch.cuda.set_stream(self._stream)

    def __exit__(self, *_: object) -> None:
        torch.cuda.set_stream(self._before)
        self._before.wait_stream(self._stream)


@dataclass
class _Kind:
    seen: int = 0
    replay: Callable[[], Values] | None = None


class Graphs:
    """The graphs of one training, which fills `parts` with the networks and optimisers that a step changes."""

    def __init__(self, recorder: Recorder, parts: dict[str, nn.Module | Optimizer]) -> None:
        self.note = ""  # why steps are plain though they might not be
        self.apart = 0.0  # the furthest that a graph was from the plain step
        self._recorder, self._parts = recorder, parts
        self._kinds: dict[Hashable, _Kind] = {}
        self._inputs: Values = {}

    @property
    def recorded(self) -> int:
        """How many kinds of step are graphs by now."""
        return sum(kind.replay is not None for kind in self._kinds.values())

    def at_work(self) -> AbstractContextManager[object]:
        """Inside, all steps are taken."""
        return self._recorder.at_work()

    def take(self, kind: Hashable, inputs: Values, step: Step, reseed: Callable[[], None]) -> Values:
        """`step` of `inputs`, as a graph where there is one; its losses hold until the next step.

        inputs: of the same shapes each time. reseed: brings the random numbers to where the step begins.
        """
        known = self._kinds.setdefault(kind, _Kind())
        if known.replay is not None:
            self._fill(inputs)
            reseed()
            return known.replay()
        if self.note or known.seen < WARM_UP or self.recorded == MOST:
            known.seen += 1
            reseed()
            return step(inputs)
        return self._record(known, inputs, step, reseed)

    def _fill(self, inputs: Values) -> None:
        if not self._inputs:
            self._inputs = {name: torch.empty_like(value) for name, value in inputs.items()}
        for name, value in inputs.items():
            self._inputs[name].copy_(value)

    def _record(self, known: _Kind, inputs: Values, step: Step, reseed: Callable[[], None]) -> Values:
        """Take the step plainly, record it, and take it again from the same state; the plain step counts."""
        groups = _changing(self._parts)
        try:
            before, plain = _copies(groups), _copies(groups)
        except torch.OutOfMemoryError:
            self.note = "no CUDA graph can be made: there is no memory to hold it against the plain step"
            reseed()
            return step(inputs)
        reseed()
        losses = {name: loss.detach().clone() for name, loss in step(inputs).items()}
        _put(plain, groups)
        try:
            self._fill(inputs)
            _put(groups, before)
            replay = self._recorder.record(lambda: step(self._inputs))
            reseed()
            again = replay()
            apart = _apart([*before, *_zeros(losses)], [*plain, *_listed(losses)], [*groups, *_listed(again)])
            if apart <= BOUND:
                known.replay, self.apart = replay, max(self.apart, apart)
            else:
                self.note = f"a CUDA graph's step differs from the plain one by {apart:.2g} of its change"
        except (RuntimeError, ValueError) as error:  # PyTorch's refusals; the device may still be sound
            self._recorder.recover()
            self._kinds.clear()  # graphs that there are already take their random numbers from the state before
            cause = error.__context__ or error  # the end of a recording that broke off fails as well
            self.note = f"no CUDA graph can be made: {' '.join(str(cause).split())[:200]}"
        finally:
            _put(groups, plain)
        return losses


def graphs_for(device: torch.device, parts: dict[str, nn.Module | Optimizer]) -> Graphs | None:
    """Graphs of a training on CUDA; None elsewhere, and where DUEL_GRAPHS=0 says so."""
    if device.type != "cuda" or os.environ.get(VARIABLE, "1") == "0":
        return None
    return Graphs(CudaRecorder(device), parts)


def recordable(optimizer: Optimizer, device: torch.device) -> Optimizer:
    """`optimizer`, fused, such that its steps on `device` may be part of a graph: what it counts lies there."""
    for group in optimizer.param_groups:
        group["capturable"] = device.type == "cuda"
    return optimizer


def _changing(parts: dict[str, nn.Module | Optimizer]) -> list[list[Tensor]]:
    """All that a step changes, as it lies in memory, in groups of one kind each."""
    groups: list[list[Tensor]] = []
    for part in parts.values():
        if isinstance(part, nn.Module):
            groups += [list(part.parameters()), list(part.buffers())]
        else:
            names = {name: None for state in part.state.values() for name in state}
            groups += [[s[name] for s in part.state.values() if isinstance(s.get(name), Tensor)] for name in names]
    return [group for group in groups if group]


@torch.no_grad()
def _copies(groups: list[list[Tensor]]) -> list[list[Tensor]]:
    return [[tensor.clone() for tensor in group] for group in groups]


@torch.no_grad()
def _put(groups: list[list[Tensor]], values: list[list[Tensor]]) -> None:
    for group, copies in zip(groups, values, strict=True):
        torch._foreach_copy_(group, copies)


def _listed(losses: Values) -> list[list[Tensor]]:
    return [[losses[name]] for name in sorted(losses)]


def _zeros(losses: Values) -> list[list[Tensor]]:
    return [[torch.zeros_like(losses[name])] for name in sorted(losses)]


@torch.no_grad()
def _apart(before: list[list[Tensor]], one: list[list[Tensor]], other: list[list[Tensor]]) -> float:
    """How far two steps from one state lead apart, over the length of the step, in the group where it is most.

    0 the same, about 1 unrelated; not a number where something is not finite.
    """
    found = []
    for start, a, b in zip(before, one, other, strict=True):
        length, size = _length([x - y for x, y in zip(a, start, strict=True)]), _length(a)
        found.append(_length([x - y for x, y in zip(a, b, strict=True)]) / (length + ROUNDING * size + 1e-12))
    return torch.stack(found).max().item()


def _length(tensors: list[Tensor]) -> Tensor:
    return torch.stack([tensor.float().norm() for tensor in tensors]).norm()
