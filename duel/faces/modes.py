"""Any of Pillow's modes -> RGB."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import ExifTags, Image

# TIFF's tag and value that Pillow has no names for.
_SAMPLE_FORMAT = 339
_WHITE_IS_ZERO = 0
_BAND = 1 << 20  # pixels of a deep grey picture that are scaled at a time
_AVERAGED = ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB")  # modes in which the mean of colours is their mean


def to_rgb(image: Image.Image) -> Image.Image:
    """Any of Pillow's modes -> RGB. Cut-out pictures are laid on white, the page they were made for."""
    if image.mode.startswith("I") or image.mode == "F":
        image = deep_grey(image)
    elif image.mode == "La":  # has no way to RGBA of its own
        image = image.convert("LA")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def central_square(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box of the largest square in the middle."""
    width, height = size
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def smaller_square(image: Image.Image, side: int) -> Image.Image:
    """The central square of a very large picture, averaged down to `side` pixels a side if it has more.

    Done first, so that whatever is then done to the picture takes little memory.
    """
    if image.mode.startswith("I") or image.mode == "F":
        image = deep_grey(image)
    box = central_square(image.size)
    if image.mode not in _AVERAGED or "transparency" in image.info:
        plain = image.mode in ("1", "P") and "transparency" not in image.info
        image = (image if image.width == image.height else image.crop(box)).convert("RGB" if plain else "RGBA")
        box = central_square(image.size)
    side = min(side, box[2] - box[0])
    return image.resize((side, side), Image.Resampling.BOX, box)


def deep_grey(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits -> 8 bits, from black to the white that its file means, see _white.

    What lies outside 0..white has no scale that could be known; there the picture's own range becomes 0..255.
    """
    tags = getattr(image, "tag_v2", {})  # a TIFF's
    bits, signed = _first(tags.get(ExifTags.Base.BitsPerSample, 16)), _first(tags.get(_SAMPLE_FORMAT, 1)) != 1
    unsigned = image.mode == "I" and bits == 32 and not signed
    ranges = [(float(values.min()), float(values.max())) for _, _, values in _bands(image, unsigned)]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    white = _white(image, bits, high)
    if low >= 0 and white is not None:
        low, high = 0.0, white
    grey = np.empty((image.height, image.width), dtype=np.uint8)
    for top, raw, values in _bands(image, unsigned):
        scaled = (values - low) / max(high - low, 1e-12) * 255.0
        if tags.get(ExifTags.Base.PhotometricInterpretation) == _WHITE_IS_ZERO:  # Pillow turns only 8 bits round
            scaled = 255.0 - scaled
        if "transparency" in image.info:  # the one grey of a PNG that is see-through
            scaled[raw == image.info["transparency"]] = 255.0
        grey[top : top + len(scaled)] = np.rint(scaled)
    return Image.fromarray(grey)


def _bands(image: Image.Image, unsigned: bool) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield (first row, float64 pixels as they are, the same as finite numbers), some rows at a time."""
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        raw = np.asarray(band, dtype=np.float64)
        values = np.nan_to_num(raw, posinf=0.0, neginf=0.0)
        if unsigned:
            values = np.where(values < 0, values + 2**32, values)  # Pillow has no unsigned 32 bits
        yield top, raw, values


def _white(image: Image.Image, bits: int, high: float) -> float | None:
    """The value of white in a deep grey picture whose largest is `high`; None where it cannot be known.

    16 bits and less say so themselves, and Pillow brings PGMs to 16. Signed, 32-bit and float TIFFs hold what their
    writer put there: mostly 0..1 (floats), 0..255 or 16 bits.
    """
    if image.mode.startswith("I;"):
        return 2.0**bits - 1
    if image.mode == "I" and image.format != "TIFF":
        return 65535.0
    usual = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 32767.0 if bits == 16 else 65535.0)
    return next((white for white in usual if high <= white), None)


def _first(value: Any) -> int:
    """Of a TIFF's tag that may hold one number or several."""
    return int(value[0] if isinstance(value, tuple) else value)
