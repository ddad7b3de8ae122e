"""Ingest of photographs: load_faces with an empty cache against plain Pillow on the same cores; and from the cache."""

import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from harness import Options, Row, at_least, below, interleave, ratio, spread
from PIL import Image

from duel.faces import Faces, draw_faces, load, load_faces
from duel.faces.parallel import default_workers

CORES = default_workers()


def measure(options: Options) -> list[Row]:
    """Rows for a cold ingest at 64 and at 32 pixels, and for a warm one."""
    rounds = 1 if options.quick else max(3, options.rounds // 2)  # a round takes half a minute
    with tempfile.TemporaryDirectory() as place, multiprocessing.get_context("spawn").Pool(CORES) as pool:
        folder, what = _photographs(options, Path(place))
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        about = f"{len(paths):,} {what}, {CORES} cores"
        large, small = (_against_plain(pool, folder, paths, size, rounds, Path(place)) for size in (64, 32))
        return [
            at_least("cold ingest at 64 against plain Pillow", large[0], 1.8, f"{large[1]}; {about}"),
            Row("cold ingest at 32 against plain Pillow", f"{small[0]:.2f}x: {small[1]}; {about}"),
            *_inside(folder, len(paths), Path(place), about),
        ]


def _against_plain(
    pool: Pool, folder: Path, paths: list[Path], size: int, rounds: int, place: Path
) -> tuple[float, str]:
    """Ratio of the medians, and both sides' rates."""
    ours, plain = partial(_cold, folder, len(paths), size, place), partial(_plain, pool, paths, size)
    rates = interleave({"ours": ours, "plain": plain}, rounds)
    text = f"{spread(rates['ours'])} against {spread(rates['plain'])} images/s"
    return ratio(rates, "ours", "plain"), text


def _inside(folder: Path, count: int, place: Path, about: str) -> list[Row]:
    """Where a cold ingest spends its time, and how long the cached one takes."""
    spent = dict.fromkeys(("write_images", "find_groups"), 0.0)  # decoding happens while images are written

    def timed(name: str) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            begin = time.perf_counter()
            result = work(*given)
            spent[name] += time.perf_counter() - begin
            return result

        work = getattr(load, name)
        return call

    with ExitStack() as stack:
        for name in spent:
            stack.enter_context(patch.object(load, name, timed(name)))
        begin = time.perf_counter()
        _load(folder, count, 64, place / "kept")
        total = time.perf_counter() - begin
    decode, duplicates = (100 * seconds / total for seconds in spent.values())
    shares = f"decoding {decode:.0f} %, duplicates {duplicates:.0f} %, the rest {100 - decode - duplicates:.0f} %"
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        _load(folder, count, 64, place / "kept")
        times.append(time.perf_counter() - begin)
    text = f"{min(times):.2f} to {max(times):.2f}, n = {len(times)}; {about}"
    return [
        Row("cold ingest at 64: wall time", shares),
        below("warm ingest at 64", statistics.median(times), 1.0, "s", text),
    ]


def _photographs(options: Options, place: Path) -> tuple[Path, str]:
    """A folder, and what is in it; drawn faces where no photographs are given."""
    folder, count = place / "photographs", 300 if options.quick else 2000
    if options.faces and not options.quick:
        return options.faces, "photographs"
    folder.mkdir()
    if options.faces:
        for path in sorted(options.faces.rglob("*.jpg"))[:count]:
            shutil.copy(path, folder)
        return folder, "photographs"
    for number, face in enumerate(draw_faces(count, 256, seed=0)):
        Image.fromarray(face.transpose(1, 2, 0)).resize((200, 200)).save(folder / f"{number:05}.jpg")
    return folder, "drawn faces as JPEGs of 200x200 (no --faces)"


def _load(folder: Path, count: int, size: int, cache: Path) -> Faces:
    return load_faces(str(folder), size, count, 0, cache)


def _cold(folder: Path, count: int, size: int, place: Path) -> float:
    with tempfile.TemporaryDirectory(dir=place) as cache:
        return len(_load(folder, count, size, Path(cache)).images)


def _plain(pool: Pool, paths: list[Path], size: int) -> float:
    """The usual loop, a process a core, with the filter that duel uses."""
    return len(np.stack(pool.map(partial(_plain_face, size=size), paths, chunksize=64)))


def _plain_face(path: Path, size: int) -> np.ndarray:
    image = Image.open(path).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.BICUBIC))
