"""Faces that duel draws itself: as many as one likes, each from its seed and number alone."""

import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import numpy as np

from duel.errors import DuelError
from duel.faces.canvas import LARGEST_SCALE, Array, Canvas, Dice, turned
from duel.faces.parallel import default_workers, in_order
from duel.faces.portrait import draw_person

DRAWING_VERSION = 1  # part of the cache's key: a new number for any change to a pixel
_CHOICES = 17 * 64  # uniform numbers a face; drawing asks for fewer
MANY = 2048  # faces from which on processes pay, whose start takes half a second
_MAIN = "from duel.faces.drawn import main; main()"
_BATCH = 16  # keeps the working arrays of a 64x64 batch inside a core's cache


def draw_faces(count: int, image_size: int, seed: int, workers: int | None = None) -> np.ndarray:
    """Draw faces 0 .. count-1 of a seed.

    Returns uint8 [count, 3, image_size, image_size], RGB. Face i depends on (seed, i) alone, and shows
    the same person at every size. image_size: a power of two, 16 at least.
    """
    out, done = np.empty((count, 3, image_size, image_size), dtype=np.uint8), 0
    for part in drawn_in_order(count, image_size, seed, workers):
        out[done : done + len(part)] = part
        done += len(part)
    return out


def drawn_in_order(count: int, image_size: int, seed: int, workers: int | None = None) -> Iterator[np.ndarray]:
    """The same faces in batches, as they get done.

    Drawing is many small steps of numpy, for which threads would wait for each other: 16 of them draw fewer faces
    than one. So from MANY faces on each thread has a process that draws. DuelError if one dies.
    """
    _check(image_size)
    draw: Callable[[np.ndarray], np.ndarray] = partial(draw_indexed, image_size=image_size, seed=seed)
    with ExitStack() as stack:
        if count >= MANY and (workers or default_workers()) > 1:
            draw = stack.enter_context(_Draughtsmen(image_size, seed)).draw
        yield from in_order(lambda chunk: [draw(np.array(chunk))], range(count), 4 * _BATCH, workers)


class _Draughtsmen:
    """A process for each thread that asks: it is told the first and the last face and writes them as bytes.

    Not multiprocessing's, which would run the caller's own script again in each.
    """

    def __init__(self, image_size: int, seed: int) -> None:
        self._size, self._seed = image_size, seed
        self._mine = threading.local()
        self._all: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "_Draughtsmen":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._all:
            process.communicate()  # the end of its input is its end

    def draw(self, indices: np.ndarray) -> np.ndarray:
        """The faces with these consecutive numbers."""
        process = self._process()
        assert process.stdin is not None
        assert process.stdout is not None
        shape = (len(indices), 3, self._size, self._size)
        with suppress(BrokenPipeError):  # then nothing comes back
            process.stdin.write(f"{indices[0]} {indices[-1]}\n".encode())
            process.stdin.flush()
        data = process.stdout.read(math.prod(shape))
        if len(data) < math.prod(shape):
            raise DuelError(f"a process that draws faces ended with exit status {process.wait()}")
        return np.frombuffer(data, np.uint8).reshape(shape)

    def _process(self) -> subprocess.Popen[bytes]:
        if not hasattr(self._mine, "process"):
            package = str(Path(__file__).resolve().parents[2])
            path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
            self._mine.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _MAIN, str(self._size), str(self._seed)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C is for the one that asks
            )  # fmt: skip
            self._all.append(self._mine.process)
        return self._mine.process


def draw_indexed(indices: np.ndarray, image_size: int, seed: int) -> np.ndarray:
    """Draw the faces with these numbers: uint8 [len(indices), 3, image_size, image_size]."""
    _check(image_size)
    batch = max(1, _BATCH * 64 * 64 // image_size**2)
    parts = [_draw(indices[i : i + batch], image_size, seed) for i in range(0, len(indices), batch)]
    return np.concatenate([np.zeros((0, 3, image_size, image_size), dtype=np.uint8), *parts])


def _check(image_size: int) -> None:
    if image_size < 16 or image_size & (image_size - 1):
        raise ValueError(f"image_size is {image_size}; it must be a power of two, 16 at least")


def _draw(indices: np.ndarray, size: int, seed: int) -> np.ndarray:
    streams = [np.random.Generator(np.random.PCG64([seed % 2**64, int(index)])) for index in indices]
    dice = Dice(np.stack([stream.random(_CHOICES, dtype=np.float32) for stream in streams]))
    canvas = _stage(dice.part(), size)
    draw_person(canvas, dice)
    noise = np.stack([stream.integers(0, 256, (3, size, size), dtype=np.uint8) for stream in streams])
    return _photograph(canvas.pixels, dice.part(), noise)


def _stage(dice: Dice, size: int) -> Canvas:
    """An empty picture with the head's position, size and tilt."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0
    scale = dice.around(LARGEST_SCALE - 0.13, 0.13)
    x = (axis[None, None, :] - dice.around(0.0, 0.14)) / scale
    y = (axis[None, :, None] - dice.around(0.03, 0.11)) / scale
    x, y = turned(x, y, dice.around(0.0, 0.30))
    pixels = np.empty((len(scale), 3, size, size), dtype=np.float32)
    return Canvas(pixels, x, y, scale * (size / 2.0))


def _photograph(pixels: Array, dice: Dice, noise: Array) -> np.ndarray:
    """What a camera adds: white balance, contrast, exposure, blur, noise; now and then black and white."""
    warmth = dice.around(0.0, 0.09)[:, None]
    contrast = dice.around(1.0, 0.18)[:, None]
    pixels *= np.concatenate([1.0 + warmth, np.ones_like(warmth), 1.0 - warmth], axis=1) * contrast
    pixels += 0.5 - 0.5 * contrast + dice.around(0.0, 0.09)[:, None]
    grey = pixels.mean(axis=1, keepdims=True)
    pixels -= grey
    pixels *= (dice.around(1.0, 0.25) * (1 - dice.chance(0.04)))[:, None]
    pixels += grey
    widest = 0.32 * min(1.0, (pixels.shape[-1] / 64) ** 2)  # as much of the face at 32 pixels as at 64
    pixels = _blur(pixels, (dice.between(0.0, 1.0) ** 3)[:, None] * widest)
    strength = (0.006 + 0.04 * dice.between(0.0, 1.0) ** 3)[:, None]
    pixels += (noise - np.float32(127.5)) * (strength / np.float32(127.5))
    pixels *= 255.0
    return np.clip(np.rint(pixels, out=pixels), 0, 255, out=pixels).astype(np.uint8)


def _blur(pixels: Array, amount: Array) -> Array:
    """A three-tap blur each way; amount [n, 1, 1, 1] is the weight of each neighbour, up to 1/3."""
    for axis in (2, 3):
        inner = np.moveaxis(pixels, axis, 0)
        around = np.empty_like(pixels)
        into = np.moveaxis(around, axis, 0)
        into[1:-1] = inner[2:] + inner[:-2]
        into[0], into[-1] = inner[0] + inner[1], inner[-1] + inner[-2]
        around -= 2 * pixels
        around *= amount
        pixels += around
    return pixels


def main() -> None:
    """Draw what is asked for, line by line, until there is nothing more: see _Draughtsmen."""
    size, seed = int(sys.argv[1]), int(sys.argv[2])
    for line in sys.stdin:
        first, last = map(int, line.split())
        sys.stdout.buffer.write(draw_indexed(np.arange(first, last + 1), size, seed).tobytes())
        sys.stdout.buffer.flush()
