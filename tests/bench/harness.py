"""What the benchmarks share: interleaved timing, the machine's own peak, rows of the table."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from duel.cluster.connection import cpu_model


@dataclass(frozen=True)
class Options:
    """What the command line gives to every benchmark."""

    faces: Path | None  # folder of photographs; benchmarks that want photographs skip without it
    peer: Path | None  # dcgan/main.py of the public pytorch/examples repository
    rounds: int  # how often the sides take turns
    quick: bool  # the smallest sizes that still run everything: to see that a benchmark works


@dataclass(frozen=True)
class Row:
    """One line of the table. `met` is None where nothing is asked for."""

    path: str
    measured: str
    target: str = ""
    met: bool | None = None

    def markdown(self) -> str:
        """As a row of the table in docs/performance.md."""
        verdict = {True: "yes", False: "**no**", None: ""}[self.met]
        return f"| {self.path} | {self.target} | {self.measured} | {verdict} |"


HEAD = "| path | target | measured | met |\n| --- | --- | --- | --- |"


def at_least(path: str, value: float, target: float, text: str) -> Row:
    """A row whose `value` must reach `target`, both ratios; `text` says what was compared."""
    return Row(path, f"{value:.2f}x: {text}", f"{target:g}x", value >= target)


def below(path: str, value: float, target: float, unit: str, text: str = "") -> Row:
    """A row whose `value` must stay below `target`, both in `unit`."""
    return Row(path, f"{value:.3g} {unit}{': ' * bool(text)}{text}", f"under {target:g} {unit}", value < target)


def interleave(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Let the sides take turns, so that whatever else the machine does falls on all alike.

    Each side does a piece of work and returns how many units it did; the result is units a second, by side and
    round. A first round warms up and does not count.
    """
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, work in sides.items():
            begin = time.perf_counter()
            units = work()
            if turn:
                rates[name].append(units / (time.perf_counter() - begin))
    return rates


def ratio(rates: dict[str, list[float]], fast: str, plain: str) -> float:
    """Ratio of the two sides' medians."""
    return statistics.median(rates[fast]) / statistics.median(rates[plain])


def spread(values: list[float]) -> str:
    """Median with the range of all rounds."""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f}, n = {len(values)})"


def matmul_peak(dtype: torch.dtype, size: int = 2048, rounds: int = 9) -> float:
    """FLOP/s of square matrix products, the best that this process reaches with its threads: the machine's own peak."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - begin)
    return 2 * size**3 / min(times)


class _Count(TorchDispatchMode):
    """FlopCounterMode's own counts, without its hooks on modules, which gradient penalties break."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if count := flop_registry.get(function._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def flops(work: Callable[[], object]) -> int:
    """Floating point operations of the matrix products and convolutions in `work`, backward passes included."""
    with _Count() as counter:
        work()
    return counter.total


def machine() -> str:
    """Where these figures were measured."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    cores = len(os.sched_getaffinity(0))
    return f"{cpu_model()}, {cores} cores, {', '.join(gpus) or 'no GPU'}, torch {torch.__version__}"
