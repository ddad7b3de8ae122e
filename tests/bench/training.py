"""Generator training against the public PyTorch DCGAN example, as it is shipped."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from harness import Options, Row, at_least, flops, interleave, matmul_peak, ratio, spread

from duel.device import keep_memory, pick_device
from duel.faces import load_faces
from duel.families import DcganSettings
from duel.train.generator import GeneratorTrainer

BATCH, SIDE = 64, 64
PEER_FLOPS = 12 / 11  # it also computes the gradients of the discriminator's weights in the generator's step
BATCH_LINE = re.compile(r"^\[\d+/\d+\]\[\d+/\d+\] Loss_D")


class Peer:
    """The example at work in a process of its own, which stands still between its turns."""

    def __init__(self, script: Path, photographs: Path, folder: Path, *more: str) -> None:
        (folder / "data").mkdir()
        (folder / "data" / "faces").symlink_to(photographs.absolute(), target_is_directory=True)
        accelerator = ["--accel"] if torch.cuda.is_available() else []
        self.process = subprocess.Popen(
            [sys.executable, "-u", str(script.absolute()), "--dataset", "folder", "--dataroot", str(folder / "data"),
             "--outf", str(folder), *accelerator, *more],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        )  # fmt: skip

    def advance(self, batches: int, size: int = BATCH) -> int:
        """Let it train on so many batches of its size; the number of images."""
        assert self.process.stdout is not None
        self._signal(signal.SIGCONT)
        left = batches
        while left and (line := self.process.stdout.readline()):
            left -= bool(BATCH_LINE.match(line))
        self._signal(signal.SIGSTOP)
        if left:
            raise RuntimeError("the peer ended before its time")
        return batches * size

    def end(self) -> None:
        """Stop it and its loaders, where it has not ended by itself."""
        if self.process.poll() is None:
            self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)


@contextmanager
def peer_at_work(options: Options, *more: str, count: int | None = None) -> Iterator[tuple[Peer, Path]]:
    """The peer on the first `count` photographs (default all), and the folder that it writes to."""
    assert options.faces is not None
    assert options.peer is not None
    with tempfile.TemporaryDirectory() as name:
        photographs = Path(name, "photographs")
        photographs.mkdir()
        for path in sorted(options.faces.iterdir())[:count]:
            (photographs / path.name).symlink_to(path.absolute())
        peer = Peer(options.peer, photographs, Path(name), *more)
        try:
            yield peer, Path(name)
        finally:
            peer.end()


@contextmanager
def running_peer(options: Options) -> Iterator[Peer | None]:
    """The peer, or None where its file or the photographs are missing."""
    if options.peer is None or options.faces is None:
        yield None
        return
    with peer_at_work(options, "--niter", "1000") as (peer, _):
        yield peer


def some_faces(options: Options, count: int, side: int = SIDE) -> np.ndarray:
    """Faces as training sees them."""
    source = "drawn" if options.faces is None else str(options.faces)
    with tempfile.TemporaryDirectory() as cache:
        return np.array(load_faces(source, side, count, 0, Path(cache)).images)


def dcgan_trainer(images: np.ndarray, seed: int = 0, **changes: object) -> GeneratorTrainer:
    """Ours with the example's networks, batch, objective and optimiser."""
    settings = DcganSettings(batch_size=BATCH, **changes)  # type: ignore[arg-type]
    return GeneratorTrainer(
        "dcgan", settings, images, lambda fakes: 0.0, image_size=images.shape[-1], device=pick_device(), seed=seed
    )


@contextmanager
def trials_a_core(images: np.ndarray) -> Iterator[list[Connection]]:
    """As a sweep trains on CPUs: a trial a core. Send one so many batches, and it answers with its images."""
    spawn = multiprocessing.get_context("spawn")
    here, processes = [], []
    for _ in os.sched_getaffinity(0):
        mine, theirs = spawn.Pipe()
        processes.append(spawn.Process(target=_trial, args=(theirs, images), daemon=True))
        processes[-1].start()
        here.append(mine)
    yield here
    for connection, process in zip(here, processes, strict=True):
        connection.send(0)
        process.join()


def _trial(connection: Connection, images: np.ndarray) -> None:
    torch.set_num_threads(1)
    keep_memory()
    trainer = dcgan_trainer(images)
    while batches := connection.recv():
        trainer.train_to(trainer.images + batches * BATCH)
        connection.send(batches * BATCH)


def measure(options: Options) -> list[Row]:
    """Images a second of both, and how far ours is from the machine's own peak."""
    keep_memory()
    images = some_faces(options, 512)
    trainer, batches = dcgan_trainer(images), 2 if options.quick else 8

    def one() -> int:
        trainer.train_to(trainer.images + batches * BATCH)
        return batches * BATCH

    with trials_a_core(images) as trials, running_peer(options) as peer:

        def several() -> int:
            for trial in trials:
                trial.send(batches)
            return sum(trial.recv() for trial in trials)

        sides = {"one": one, "several": several}
        if peer is not None:
            sides["peer"] = lambda: peer.advance(batches)
        rates = interleave(sides, options.rounds)
    return [*_against_peer(rates), *_arithmetic(trainer, rates)]


def _against_peer(rates: dict[str, list[float]]) -> list[Row]:
    titles = {
        "one": "generator training against dcgan/main.py, same networks and batch, one at a time",
        "several": "... a trial a core at once, as sweeps do, against one peer on all cores",
    }
    if "peer" not in rates:
        return [
            Row(title, f"images/s {spread(rates[side])}; no ratio without --peer") for side, title in titles.items()
        ]
    text = f"peer {spread(rates['peer'])}"
    return [
        at_least(title, ratio(rates, side, "peer"), 3, f"images/s ours {spread(rates[side])}, {text}")
        for side, title in titles.items()
    ]


def _arithmetic(trainer: GeneratorTrainer, rates: dict[str, list[float]]) -> list[Row]:
    each = flops(lambda: trainer.train_to(trainer.images + BATCH)) / BATCH
    single, half = matmul_peak(torch.float32), matmul_peak(torch.bfloat16)
    shares = ", ".join(f"{side} {each * float(np.median(rates[side])) / half:.0%}" for side in ("one", "several"))
    text = f"{each / 1e9:.2f} GFLOP an image; of the bf16 peak {shares}"
    if "peer" in rates:
        text += f"; peer {PEER_FLOPS * each * float(np.median(rates['peer'])) / single:.0%} of fp32 peak"
    return [
        Row(
            "... as a share of what matrix products reach",
            f"{text} (products: {half / 1e9:,.0f} GFLOP/s in bf16, {single / 1e9:,.0f} in fp32)",
        )
    ]
