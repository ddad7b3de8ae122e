"""How fast duel is on this GPU: `python tests/gpu/speed.py OUT [PART ...]`, the most important first.

families: training of each family, plain and as a CUDA graph, and its share of the bf16 peak that is measured here.
sharing: 1, 2, 4 and 8 trials at once, with and without MPS. round_robin: 16 x 16 through Ray over its bare forward
passes. peer: dcgan/main.py of github.com/pytorch/examples (--peer FILE), as shipped and fed from memory. reading:
detectors' answers, generators' fakes, KID. settings: what deterministic kernels cost.
CPU=1 tries every line on sizes that mean nothing.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from results import Results

sys.path += [str(Path(__file__).resolve().parents[1] / "bench"), str(Path(__file__).resolve().parents[1])]

from harness import flops
from PIL import Image
from planted import REHEARSAL, settings_of
from round_robin import DEFAULTS, arena
from training import Peer

from duel.cluster import mps
from duel.device import keep_memory, pick_device, place
from duel.faces import draw_faces
from duel.families import FAMILIES, family_settings
from duel.metrics import feature_network, features, kid
from duel.models import build
from duel.models.inference import make_fakes, predict
from duel.train import loop
from duel.train.detector import DetectorTrainer
from duel.train.generator import GeneratorTrainer
from duel.train.loop import Trainer

SMALL = REHEARSAL
SIDE, WARM_UP = (16, 4) if SMALL else (64, 12)
STEPS = 2 if SMALL else 60
IMAGES = 64 if SMALL else 2048
READ = 64 if SMALL else 15_000
AT_ONCE = (1, 2) if SMALL else (1, 2, 4, 8)
SECONDS = 0.5 if SMALL else 3.0


def noise(count: int, side: int = SIDE) -> np.ndarray:
    """Images of which speed is all that matters; never zeros, which some kernels are faster on."""
    return np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8)


def wait() -> None:
    """Until the device has done what was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def trainer_of(side: str, family: str, plain: bool = False, **changes: Any) -> Trainer:
    """A training of the family at its default settings."""
    images, device = noise(IMAGES), pick_device()
    settings = settings_of(side, family, **changes)
    trainer: Trainer
    if side == "generator":
        trainer = GeneratorTrainer(family, settings, images, lambda _: 0.0, image_size=SIDE, device=device, seed=0)
    else:
        trainer = DetectorTrainer(family, settings, images, images[::-1].copy(), images[:64], images[:64],
                                  image_size=SIDE, device=device, seed=0)  # fmt: skip
    if plain:
        trainer.graphs = None
    return trainer


def training_rate(trainer: Trainer, steps: int = STEPS) -> float:
    """Images a second, past the steps in which kernels are chosen and graphs recorded."""
    every = trainer.settings.model_dump().get("penalty_every", 1)
    trainer.train_to(trainer.images + max(WARM_UP, 4 * every if not SMALL else 4) * trainer.batch_size)
    wait()
    before, begin = trainer.images, time.perf_counter()
    trainer.train_to(before + steps * trainer.batch_size)
    wait()
    return (trainer.images - before) / (time.perf_counter() - begin)


def rate(work: Callable[[], Any], units: int, rounds: int = 3) -> float:
    """Units a second, the best of some rounds after one that warms up."""
    times = []
    for _ in range(rounds + 1):
        wait()
        begin = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - begin)
    return units / min(times[1:])


def machine(results: Results) -> float:
    """What it is; its own bf16 peak in FLOP/s and its memory's bandwidth."""
    device = pick_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else "no GPU"
    size = 256 if SMALL else 8192
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    peak = rate(lambda: [a @ b for _ in range(10)], 10 * 2 * size**3)
    moved = torch.empty(size * size * 8, dtype=torch.uint8, device=device).random_()
    copy = torch.empty_like(moved)
    bandwidth = rate(lambda: [copy.copy_(moved) for _ in range(10)], 10 * 2 * moved.numel())
    results.add("machine", "device", name=name, torch=torch.__version__, cores=len(os.sched_getaffinity(0)),
                bf16_tflops=peak / 1e12, copy_tb_s=bandwidth / 1e12)  # fmt: skip
    return peak


def families(results: Results) -> None:
    """Every family both ways, one after the other on the same device."""
    peak = machine(results)
    for side, of_side in FAMILIES.items():
        for family in of_side:
            with reported(results, "families", f"{side} {family}") as figures:
                _family(side, family, peak, figures)
    for batch in (64, 256):
        with reported(results, "families", f"generator dcgan batch {batch}") as figures:
            _family("generator", "dcgan", peak, figures, batch_size=8 if SMALL else batch)
    with reported(results, "families", "detector cnn augmented") as figures:
        _family("detector", "cnn", peak, figures, blur=0.5, jpeg=0.5, noise=0.5)


def _family(side: str, family: str, peak: float, figures: dict[str, Any], **changes: Any) -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    graph = trainer_of(side, family, **changes)
    figures["batch"] = graph.batch_size
    figures["graph"] = training_rate(graph)
    if torch.cuda.is_available():
        figures["mib"] = round(torch.cuda.max_memory_reserved() / 2**20)
    if graph.graphs:
        figures.update(recorded=graph.graphs.recorded, apart=graph.graphs.apart, note=graph.graphs.note)
    del graph
    plain = trainer_of(side, family, plain=True, **changes)
    figures["plain"] = training_rate(plain)
    figures["ratio"] = figures["graph"] / figures["plain"]
    each = flops(lambda: plain.train_to(plain.images + plain.batch_size)) / plain.batch_size
    figures.update(gflop=each / 1e9, share_of_peak=each * figures["graph"] / peak)


@contextmanager
def reported(results: Results, part: str, name: str) -> Iterator[dict[str, Any]]:
    """What is put into the dict is kept; an error is kept too, and the next is measured."""
    figures: dict[str, Any] = {}
    try:
        yield figures
    except Exception as error:
        figures["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    finally:
        results.add(part, name, **figures)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def reading(results: Results) -> None:
    """Each detector's answers on 15,000 images, each generator's fakes, features and KID."""
    device, images = pick_device(), noise(READ)
    shown = torch.from_numpy(images).to(device)
    for family in FAMILIES["detector"]:
        with reported(results, "reading", family) as figures:
            detector = place(build("detector", family, SIDE, family_settings("detector", family, {})), device).eval()
            figures["images_s"] = rate(lambda d=detector: predict(d, shown, device), READ)
    for family in FAMILIES["generator"]:
        with reported(results, "fakes", family) as figures:
            network = place(build("generator", family, SIDE, family_settings("generator", family, {})), device).eval()
            figures["images_s"] = rate(lambda n=network: make_fakes(n, READ, 0, device), READ)
    with reported(results, "reading", "features") as figures:
        network = feature_network(device=device)
        figures["images_s"] = rate(lambda: features(network, images[: READ // 3], device), READ // 3)
    with reported(results, "reading", "kid") as figures:
        one, other = (np.random.default_rng(i).normal(size=(READ // 3, 1280)).astype(np.float32) for i in range(2))
        figures["seconds"] = 1 / rate(lambda: _kid(one, other, device), 1)


def _kid(one: np.ndarray, other: np.ndarray, device: torch.device) -> float:
    return kid(one, other, device=device)


def settings(results: Results) -> None:
    """What kernels that repeat themselves cost, for the families that trials spend their time on."""
    for side, family in (("generator", "dcgan"), ("generator", "r3gan"), ("detector", "resnet18")):
        with reported(results, "settings", f"{side} {family}") as figures:
            figures["as it is"] = training_rate(trainer_of(side, family))
            with mock.patch.object(loop, "training_kernels", lambda device: nullcontext()):
                figures["any kernels"] = training_rate(trainer_of(side, family))


def _trial(connection: Any, family: str) -> None:
    """One trial of several: says when it is warm, then trains for as long as it is told, again and again."""
    torch.set_num_threads(1)
    keep_memory()
    try:
        trainer = trainer_of("generator", family)
        training_rate(trainer, 2)
        connection.send(trainer.graphs.note if trainer.graphs else "")
        while seconds := connection.recv():
            before, begin = trainer.images, time.perf_counter()
            while time.perf_counter() - begin < seconds:
                trainer.train_to(trainer.images + 20 * trainer.batch_size)
            wait()
            connection.send((trainer.images - before) / (time.perf_counter() - begin))
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}"[:300])


def sharing(results: Results) -> None:
    """Images a second of so many trials together."""
    families = ("dcgan",) if SMALL else ("dcgan", "r3gan")
    for family in families:
        _share(results, family, family)
    with mps.shared_gpus():
        for family in families if mps.at_work() else ():
            _share(results, f"{family}, MPS", family)
    if not mps.at_work():
        results.add("sharing", "MPS", note="there is none here")
    mps.end()


def _share(results: Results, name: str, family: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    with reported(results, "sharing", name) as figures:
        pipes, processes = [], []
        for _ in range(AT_ONCE[-1]):
            mine, theirs = spawn.Pipe()
            processes.append(spawn.Process(target=_trial, args=(theirs, family), daemon=True))
            processes[-1].start()
            theirs.close()  # so that one that dies is heard of
            pipes.append(mine)
        try:
            for pipe in pipes:
                if not pipe.poll(60):
                    raise TimeoutError("a trial did not get warm within 60 s")
                if note := pipe.recv():
                    figures["note"] = note
            for count in AT_ONCE:
                for pipe in pipes[:count]:
                    pipe.send(SECONDS)
                figures[str(count)] = sum(pipe.recv() for pipe in pipes[:count])
        finally:
            for process in processes:
                process.kill()
                process.join()


def round_robin(results: Results) -> None:
    """The mission's round robin with untrained entrants, from Ray's warm processes to the match table."""
    entrants, count = (2, 32) if SMALL else (16, 15_000)
    device, images = pick_device(), noise(count, 64)
    make, read = (place(build(side, family, 64, family_settings(side, family, {})), device).eval()
                  for side, family in (("generator", "dcgan"), ("detector", "cnn")))  # fmt: skip
    made, judged = (rate(work, count) for work in (lambda: make_fakes(make, count, 0, device),
                                                  lambda: predict(read, images, device)))  # fmt: skip
    bare = entrants * count / made + (entrants + 1) * entrants * count / judged
    with (
        reported(results, "round_robin", f"{entrants} x {entrants}") as figures,
        arena(entrants, count, DEFAULTS) as found,
    ):
        match, figures["places"] = found
        begin = time.perf_counter()
        match.play(entrants, entrants)
        figures.update(seconds=time.perf_counter() - begin, bare_seconds=bare)
        figures["ratio"] = figures["seconds"] / bare


def peer(results: Results, script: Path | None) -> None:
    """The public example at batch 128 on JPEG files, as it comes and with its batches in memory; ours last."""
    if script is None:
        results.add("peer", "skipped", note="no --peer FILE")
        return
    batch, batches, faces = (8, 2, 64) if SMALL else (128, 60, 4096)
    sides = {"as shipped": script, "from memory": Path(__file__).with_name("from_memory.py")}
    with tempfile.TemporaryDirectory() as name, mock.patch.dict(os.environ, PEER=str(script.absolute())):
        photographs = Path(name, "photographs")
        photographs.mkdir()
        for index, face in enumerate(draw_faces(faces, 64, seed=0)):
            Image.fromarray(face.transpose(1, 2, 0)).save(photographs / f"{index:05}.jpg", quality=95)
        for side, code in sides.items():
            with reported(results, "peer", side) as figures:
                folder = Path(name, side.replace(" ", "-"))
                folder.mkdir()
                example = Peer(code, photographs, folder, "--niter", "1000", "--batchSize", str(batch))
                try:
                    example.advance(batches)
                    begin = time.perf_counter()
                    figures["images_s"] = example.advance(batches, batch) / (time.perf_counter() - begin)
                finally:
                    example.end()
    with reported(results, "peer", "ours") as figures:
        figures["images_s"] = training_rate(trainer_of("generator", "dcgan", batch_size=batch))


def main() -> None:
    """Each part by itself, so that a fault of one leaves the others."""
    parts: dict[str, Callable[[Results], None]] = {
        "families": families, "sharing": sharing, "round_robin": round_robin,
        "peer": lambda results: peer(results, given.peer), "reading": reading, "settings": settings,
    }  # fmt: skip
    parser = argparse.ArgumentParser(prog="python tests/gpu/speed.py", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)} (default: all)")
    parser.add_argument("--peer", type=Path, metavar="FILE", help="dcgan/main.py of github.com/pytorch/examples")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(parts):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; allowed: {', '.join(parts)}")
    results = Results(given.out)
    for part in given.parts or parts:
        parts[part](results)
    sys.exit(results.failed)


if __name__ == "__main__":
    main()
