"""The round robin: against playing each pair by itself, its cost and memory by size, its decisions against float32."""

import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fp32
import numpy as np
import ray
import torch
from arena import MB, ROOM, SIZE, MemoryWatch, cpu_seconds, local_ray, untrained
from harness import Options, Row, at_least, below
from planted import Silent
from ray import cloudpickle

from duel.checkpoint import WEIGHTS, load_model
from duel.device import claim, pick_device
from duel.faces import draw_faces
from duel.families import family_settings
from duel.matches import play
from duel.models.inference import make_fakes, predict
from duel.readings import BLOCK, Ground, schedule
from duel.seeds import derive
from duel.train.detector import DetectorTrainer

cloudpickle.register_pickle_by_value(sys.modules[__name__])

DEFAULTS: dict[str, dict[str, Any]] = {"generator": {}, "detector": {}}
SLICES = 4  # in which the two ways take turns


@dataclass(frozen=True)
class Arena:
    """Entrants, reals and a work folder."""

    generators: dict[str, Path]
    detectors: dict[str, Path]
    reals: Any  # reference to uint8 [count, 3, S, S]
    count: int
    work: Path

    def play(self, generators: int, detectors: int, work: Path | None = None) -> None:
        """The league among the first so many; goes on with what is in the work folder."""
        first = dict(list(self.generators.items())[:generators])
        second = dict(list(self.detectors.items())[:detectors])
        sparring: dict[str, list[str]] = {name: [] for name in second}
        ground = Ground(self.reals, (0, self.count), 0, work or self.work, ROOM, Silent())
        play(first, second, sparring, dict.fromkeys(first, "dcgan"), ground)


def measure(options: Options) -> list[Row]:
    """All rows."""
    entrants, count = (4, 64) if options.quick else (16, 2000)
    with arena(entrants, count, DEFAULTS) as (match, places):
        rows = _against_pairs(match, places, 1 if options.quick else 4)
    with arena(entrants, 32 if options.quick else 125, DEFAULTS) as (match, _):
        rows.append(_linearity(match, 1 if options.quick else 3))
    return [*rows, *_decisions(options)]


@contextmanager
def arena(entrants: int, count: int, settings: dict[str, dict[str, Any]]) -> Iterator[tuple[Arena, int]]:
    """Untrained entrants on disk, faces in Ray; also the number of tasks at once."""
    with tempfile.TemporaryDirectory() as folder, local_ray() as places:
        generators = untrained(Path(folder), "generator", "dcgan", entrants, settings["generator"])
        detectors = untrained(Path(folder), "detector", "cnn", entrants, settings["detector"])
        reals = ray.put(draw_faces(count, SIZE, seed=0))
        match = Arena(generators, detectors, reals, count, Path(folder, "work"))
        _warm(match, places)
        yield match, places


def _warm(match: Arena, places: int) -> None:
    """Every place has a process that has imported torch and run both networks."""
    models = [ray.put(load_model(next(iter(side.values())))[0]) for side in (match.generators, match.detectors)]
    ray.get([_pair.options(num_gpus=ROOM["gpu"]).remote(*models, match.reals, 16, 0) for _ in range(2 * places)])


def _against_pairs(match: Arena, places: int, pairs_a_slice: int) -> list[Row]:
    """Slices of the round robin in turn with some pairs by themselves, drawn at random; these are scaled to all."""
    pairs = [(g, d) for g in match.generators for d in match.detectors]
    drawn = random.Random(0).sample(pairs, SLICES * pairs_a_slice)
    ours, theirs, parts = np.zeros(2), np.zeros(2), []
    with MemoryWatch() as memory:
        for turn in range(SLICES):
            upto = len(match.generators) * (turn + 1) // SLICES
            ours += _spent(lambda upto=upto: match.play(upto, len(match.detectors)))
            batch = drawn[turn * pairs_a_slice : (turn + 1) * pairs_a_slice]
            theirs += _spent(lambda batch=batch: parts.extend(_pairs(match, batch)))
    theirs *= len(pairs) / len(drawn)
    same = all(np.array_equal(np.load(match.work / "scores" / d / f"{g}.npy"), probs)
               for (g, d), (_, _, probs) in zip(drawn, parts, strict=True))  # fmt: skip
    make, read = (statistics.median(column) for column in list(zip(*parts, strict=True))[:2])
    g, d = len(match.generators), len(match.detectors)
    bare = g * make + (d + g * d) * read
    what = f"round robin {g} x {d}, {match.count:,} + {match.count:,} images"
    return [
        at_least(f"{what}: against each pair by itself", theirs[0] / ours[0], 8,
                 f"{ours[0]:.0f} s against {theirs[0]:.0f} s ({len(drawn)} of {len(pairs)} pairs, scaled); in CPU time "
                 f"{theirs[1] / ours[1]:.2f}x; making a fake costs {make / read:.1f} readings, so "
                 f"{g * d * (make + 2 * read) / bare:.2f}x is all there is; same scores: {same}"),
        below(f"{what}: over its bare forward passes", ours[1] / bare, 2, "x", f"CPU time, {bare:.0f} s of passes"),
        *_memory(what, match, places, memory),
    ]  # fmt: skip


def _memory(what: str, match: Arena, places: int, memory: MemoryWatch) -> list[Row]:
    grown = {key: (memory.peak[key] - memory.start[key]) / MB for key in memory.peak}
    text = (f"driver {grown['driver']:+.0f} MB to {memory.peak['driver'] / MB:.0f} MB, "
            f"largest worker {memory.peak['worker'] / MB:.0f} MB")  # fmt: skip
    bound = store_bound(match.generators, match.detectors, match.count, places) / MB
    return [below(f"{what}: object store beside the reals", grown["store"], bound, "MB", text)]


def store_bound(generators: dict[str, Path], detectors: dict[str, Path], count: int, places: int) -> float:
    """Bytes, from the docstring of duel.matches, with 2 % for what Ray puts around the arrays."""
    largest = [max((path / WEIGHTS).stat().st_size for path in side.values()) for side in (generators, detectors)]
    block = min(BLOCK, len(detectors))
    at_play = schedule(block, places)[1]
    return 1.02 * ((at_play + 1) * (count * 3 * SIZE**2 + largest[0]) + block * largest[1])


@ray.remote
def _pair(generator: torch.nn.Module, detector: torch.nn.Module, reals: np.ndarray, count: int, seed: int) -> tuple:
    """One match by itself; CPU seconds of making its fakes, of one reading, and the scores of the fakes."""
    device = claim(ROOM)
    generator, detector = generator.to(device), detector.to(device)
    begin = time.process_time()
    fakes = make_fakes(generator, count, seed, device)
    made = time.process_time()
    predict(detector, reals, device)
    scores = predict(detector, fakes, device)
    return made - begin, (time.process_time() - made) / 2, scores


def _pairs(match: Arena, pairs: list[tuple[str, str]]) -> list[tuple]:
    call = _pair.options(num_cpus=ROOM["cpu"], num_gpus=ROOM["gpu"])
    loaded = [(load_model(match.generators[g])[0], load_model(match.detectors[d])[0]) for g, d in pairs]
    seeds = [derive(0, "fakes", "league", g) for g, _ in pairs]
    models = zip(loaded, seeds, strict=True)
    return ray.get([call.remote(g, d, match.reals, match.count, seed) for (g, d), seed in models])


def _spent(work: Any) -> np.ndarray:
    """Seconds by the clock and of all processes' CPU time."""
    before = np.array([time.perf_counter(), cpu_seconds()])
    work()
    return np.array([time.perf_counter(), cpu_seconds()]) - before


def _linearity(match: Arena, rounds: int) -> Row:
    """CPU seconds against a G + b D + c G D, fitted to relative errors; medians of some rounds."""
    most = len(match.generators)
    sizes = [(s, t) for s in (most // 4, most) for t in (most // 4, most)] + [(most // 2, most // 2)]
    times: dict[tuple[int, int], list[float]] = {size: [] for size in sizes}
    for turn in range(rounds):
        for g, d in sizes:
            work = match.work / f"{turn}-{g}-{d}"
            times[g, d].append(_spent(lambda g=g, d=d, work=work: match.play(g, d, work))[1])
            shutil.rmtree(work)
    measured = np.array([statistics.median(times[size]) for size in sizes])
    model = np.array([(g, d, g * d) for g, d in sizes])
    costs, *_ = np.linalg.lstsq(model / measured[:, None], np.ones(len(sizes)), rcond=None)
    errors = np.abs(model @ costs / measured - 1)
    shown = ", ".join(f"{g}x{d} {t:.1f} s" for (g, d), t in zip(sizes, measured, strict=True))
    text = (f"a, b, c = {', '.join(f'{c:.3f}' for c in costs)} s; {shown}; "
            f"{match.count} + {match.count} images, n = {rounds}")  # fmt: skip
    return below("round robin: CPU time off a G + b D + c G D", 100 * float(errors.max()), 10, "%", text)


def _decisions(options: Options) -> list[Row]:
    """Trained detectors on hard fakes, bf16 against float32: decisions and winners that differ."""
    count, images, detectors = (64, 256, 2) if options.quick else (1000, 3000, 4)
    faces = draw_faces(3 * count, SIZE, seed=1)
    found = [_compare(number, faces, count, images) for number in range(detectors)]
    both = [a for pair in found for a in pair]
    total, differ = sum(len(a.fast) for a in both), sum(int(a.differs.sum()) for a in both)
    furthest = max((float(np.abs(a.plain - 0.5)[a.differs].max(initial=0.0)) for a in both), default=0.0)
    outside, winners = sum(int(a.outside.sum()) for a in both), sum(not fp32.same_winner(*pair) for pair in found)
    text = (f"{differ} of {total:,} decisions differ, P(fake) at most {furthest:.4f} from 0.5; logits move by at most "
            f"{max(a.error for a in both):.2f} of the band; {winners} of {len(found)} winners differ")  # fmt: skip
    return [Row("fast path against plain float32: decisions that rounding does not explain", f"{outside}: {text}", "0",
                outside + winners == 0)]  # fmt: skip


def _compare(number: int, faces: np.ndarray, count: int, images: int) -> tuple[fp32.Answers, fp32.Answers]:
    """One detector, trained to find faces with faint noise on them, on reals and fakes that it has not seen."""
    noise = np.random.default_rng(number).normal(0, 4 + 3 * number, faces.shape)
    fakes = np.clip(faces + noise, 0, 255).round().astype(np.uint8)
    settings = family_settings("detector", "cnn", {"width": 16 * (1 + number % 2)})
    train, check, device = slice(0, count), slice(count, 2 * count), pick_device()
    trainer = DetectorTrainer("cnn", settings, faces[train], fakes[train], faces[check][:16], fakes[check][:16],
                              image_size=SIZE, device=device, seed=number)  # fmt: skip
    trainer.train_to(images)
    detector = trainer.detector.cpu()
    return fp32.answers(detector, faces[check], device), fp32.answers(detector, fakes[2 * count :], device)
