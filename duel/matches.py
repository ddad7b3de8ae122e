"""The round robin on Ray: fakes once a generator, reals once a detector, each pair once.

Everything is written to the run's work folder as soon as it is there, and read from it when a run is resumed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import ray
import torch

from duel.checkpoint import load_model
from duel.device import claim, release
from duel.errors import DuelError
from duel.models.inference import make_fakes, predict
from duel.progress import Watch
from duel.ratings import MATCH_COLUMNS, match_row
from duel.seeds import derive
from duel.store import write_array

Room = dict[str, float]  # the cpu and gpu that one task reserves


@ray.remote
def _make_fakes(generator: torch.nn.Module, count: int, seed: int, room: Room) -> np.ndarray:
    device = claim(room)
    try:
        return make_fakes(generator.to(device), count, seed, device)
    finally:
        release()


@ray.remote
def _score(detector: torch.nn.Module, images: np.ndarray, span: tuple[int, int], room: Room) -> np.ndarray:
    device = claim(room)
    try:
        return predict(detector.to(device), images[span[0] : span[1]], device)
    finally:
        release()


def fakes_of(generators: dict[str, Path], purpose: str, count: int, seed: int, work: Path,
             room: Room, watch: Watch) -> dict[str, ray.ObjectRef]:  # fmt: skip
    """`count` fakes of every generator in Ray's object store, as uint8 [count, 3, S, S].

    generators: name -> folder of its model. purpose: what they are for ('sparring', 'validation', 'league');
    noise is drawn anew for each purpose and generator, so that no two purposes share a fake.
    """
    jobs = {}
    for name, folder in generators.items():
        call = _make_fakes.options(num_cpus=room["cpu"], num_gpus=room["gpu"])
        jobs[work / "fakes" / purpose / f"{name}.npy"] = _Later(
            call, folder, count, derive(seed, "fakes", purpose, name), room
        )
    watch.stage(f"fakes for {purpose}", len(jobs), "generators")
    return dict(zip(generators, _run(jobs, watch), strict=True))


def play(generators: dict[str, Path], detectors: dict[str, Path], fakes: dict[str, ray.ObjectRef],
         reals: ray.ObjectRef, span: tuple[int, int], sparring: dict[str, list[str]], work: Path,
         room: Room, watch: Watch) -> pd.DataFrame:  # fmt: skip
    """Every generator against every detector: the match table, ordered by generator, then detector.

    fakes: generator -> its league fakes; reals, span: the array of all reals and the league's rows in it.
    sparring: detector -> generators whose fakes it trained on; such a match is `seen`.
    """
    count = span[1] - span[0]
    call = _score.options(num_cpus=room["cpu"], num_gpus=room["gpu"])
    jobs = {}
    for detector, folder in detectors.items():
        jobs[_scores(work, detector, "reals")] = _Later(call, folder, reals, span, room)
        for generator in generators:
            jobs[_scores(work, detector, generator)] = _Later(call, folder, fakes[generator], (0, count), room)
    watch.stage("matches", len(jobs), "readings")
    scores = dict(zip(jobs, (ray.get(ref) for ref in _run(jobs, watch)), strict=True))
    rows = []
    for generator in generators:
        for detector in detectors:
            row = _row(scores[_scores(work, detector, "reals")], scores[_scores(work, detector, generator)], detector)
            rows.append({"generator": generator, "detector": detector, **row, "seen": generator in sparring[detector]})
    return pd.DataFrame(rows)[MATCH_COLUMNS]


def _scores(work: Path, detector: str, of: str) -> Path:
    return work / "scores" / detector / f"{of}.npy"


def _row(real_probs: np.ndarray, fake_probs: np.ndarray, detector: str) -> dict[str, Any]:
    try:
        return match_row(real_probs, fake_probs)
    except ValueError as error:
        raise DuelError(f"detector {detector}: {error}") from None


class _Later:
    """A task to be started when its turn comes: its model is loaded and put into the object store only then."""

    def __init__(self, call: Any, folder: Path, *arguments: Any):
        self.call, self.folder, self.arguments = call, folder, arguments


def _run(jobs: dict[Path, _Later], watch: Watch, width: int = 64) -> list[ray.ObjectRef]:
    """Run every job whose file is missing, at most `width` at once; references to all results, in order."""
    refs: dict[Path, ray.ObjectRef] = {}
    for path in jobs:
        if path.exists():
            refs[path] = ray.put(np.load(path))
    watch.advance(len(refs))
    load = _model_loader()
    waiting: dict[ray.ObjectRef, Path] = {}
    todo = iter([path for path in jobs if path not in refs])
    while len(refs) < len(jobs):
        while len(waiting) < width and (ready := next(todo, None)) is not None:
            job = jobs[ready]
            waiting[job.call.remote(load(job.folder), *job.arguments)] = ready
        done, _ = ray.wait(list(waiting), num_returns=1)
        for ref in done:
            path = waiting.pop(ref)
            write_array(path, ray.get(ref))
            refs[path] = ref
        watch.advance(len(refs))
    return [refs[path] for path in jobs]


def _model_loader() -> Callable[[Path], ray.ObjectRef]:
    """A function that puts each model into the object store once, for as long as the function lives."""
    models: dict[Path, ray.ObjectRef] = {}

    def load(folder: Path) -> ray.ObjectRef:
        if folder not in models:
            models[folder] = ray.put(load_model(folder)[0])
        return models[folder]

    return load
