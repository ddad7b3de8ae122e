"""Faces that duel draws itself: as many as one likes, each from its seed and number alone."""

import numpy as np

from duel.faces.canvas import LARGEST_SCALE, Array, Canvas, Dice, turned
from duel.faces.parallel import in_order
from duel.faces.portrait import draw_person

DRAWING_VERSION = 1  # part of the cache's key: a new number for any change to a pixel
_CHOICES = 17 * 64  # uniform numbers a face; drawing asks for fewer
_BATCH = 16  # keeps the working arrays of a 64x64 batch inside a core's cache


def draw_faces(count: int, image_size: int, seed: int, workers: int | None = None) -> np.ndarray:
    """Draw faces 0 .. count-1 of a seed.

    Returns uint8 [count, 3, image_size, image_size], RGB. Face i depends on (seed, i) alone, and shows
    the same person at every size. image_size: a power of two, 16 at least.
    """
    out = np.empty((count, 3, image_size, image_size), dtype=np.uint8)

    def draw(indices: list[int]) -> list[None]:
        out[indices[0] : indices[-1] + 1] = draw_indexed(np.array(indices), image_size, seed)
        return []

    list(in_order(draw, range(count), 4 * _BATCH, workers))
    return out


def draw_indexed(indices: np.ndarray, image_size: int, seed: int) -> np.ndarray:
    """Draw the faces with these numbers: uint8 [len(indices), 3, image_size, image_size]."""
    if image_size < 16 or image_size & (image_size - 1):
        raise ValueError(f"image_size is {image_size}; it must be a power of two, 16 at least")
    batch = max(1, _BATCH * 64 * 64 // image_size**2)
    parts = [_draw(indices[i : i + batch], image_size, seed) for i in range(0, len(indices), batch)]
    return np.concatenate([np.zeros((0, 3, image_size, image_size), dtype=np.uint8), *parts])


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
