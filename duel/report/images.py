"""Sheets of faces as PNG and their way through training as GIF."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from duel.store import replaced

SMALLEST_FACE = 64  # pixels on the page: below it faces are too small to judge
PALETTE_SAMPLE = 1024 * 1024  # pixels that the shared palette is chosen from: more changes nothing visible


def sheet(images: NDArray[np.uint8], columns: int, path: Path) -> Path:
    """Write images [N, 3, S, S] (uint8, RGB) as one PNG grid, row by row; returns the path.

    Faces smaller than 64 pixels are scaled up by a whole factor, nearest neighbour, so that no pixel is
    invented. The file appears whole or not at all. Raises ValueError for another shape or dtype, no image or
    no column.
    """
    _save(path, _grid(images, columns), format="PNG", optimize=True)
    return path


def animation(
    frames: Sequence[NDArray[np.uint8]],
    columns: int,
    path: Path,
    seconds_a_frame: float = 0.25,
    hold_last: float = 2.0,
) -> Path:
    """Write frames, each [N, 3, S, S] (uint8, RGB), as one endless GIF of grids; returns the path.

    The last frame stays for hold_last seconds. All frames share one palette of 256 colours, without
    dithering: its noise would change every pixel from frame to frame, which looks like flicker and triples
    the file. Keep N and the number of frames small: 16 faces of 64 pixels over 24 frames are about 1 MB.
    Raises ValueError for no frame, or for a frame that sheet would refuse.
    """
    if not frames:
        raise ValueError("an animation needs at least one frame, got none")
    grids = [_grid(frame, columns) for frame in frames]
    palette = _shared_palette(grids)
    indexed = [grid.quantize(palette=palette, dither=Image.Dither.NONE) for grid in grids]
    milliseconds = [round(1000 * seconds_a_frame)] * (len(indexed) - 1) + [round(1000 * hold_last)]
    _save(
        path,
        indexed[0],
        format="GIF",
        save_all=True,
        append_images=indexed[1:],
        duration=milliseconds,
        loop=0,
        optimize=True,
    )
    return path


def _grid(images: NDArray[np.uint8], columns: int) -> Image.Image:
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != np.uint8 or len(images) == 0 or columns < 1:
        raise ValueError(
            f"a grid needs uint8 images [N, 3, S, S], N >= 1, in columns >= 1;"
            f" got {images.dtype} {list(images.shape)} in {columns} columns"
        )
    n, _, height, width = images.shape
    rows = -(-n // columns)
    cells = np.zeros((rows * columns, height, width, 3), np.uint8)
    cells[:n] = images.transpose(0, 2, 3, 1)
    grid = cells.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
    scale = max(1, -(-SMALLEST_FACE // height))
    return Image.fromarray(grid.repeat(scale, axis=0).repeat(scale, axis=1))


def _shared_palette(grids: Sequence[Image.Image]) -> Image.Image:
    pixels = np.concatenate([np.asarray(grid).reshape(-1, 3) for grid in grids])
    sample = pixels[:: max(1, len(pixels) // PALETTE_SAMPLE)]
    return Image.fromarray(sample[None]).quantize(256, method=Image.Quantize.MEDIANCUT)


def _save(path: Path, picture: Image.Image, **options: Any) -> None:
    """Whole or not at all: a killed run leaves no half of a picture."""
    with replaced(path) as file:
        picture.save(file, **options)
