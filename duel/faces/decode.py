"""One image file's bytes -> one square uint8 face, the same road for every format.

Steps: first frame, RGB, centre crop to a square, upright by EXIF, one antialiased resize. What Pillow calls broken
though every pixel is there gets a second try, see duel.faces.mend.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from duel.faces.mend import mended

# What the pixels depend on, part of the cache's key. Any change to this file that changes one needs a new number.
DECODER_VERSION = (4, version("pillow"), version("torch"))
MINIMUM_SIDE = 16  # pixels of the shorter side; below that there is no face to see
MAXIMUM_PIXELS = 100_000_000  # a decompression bomb, not a photograph
MAXIMUM_BYTES = 200_000_000

# Formats are named because Pillow would otherwise also hand files to Ghostscript (EPS) and the like.
# MPO, what some phones write, opens as JPEG. A Pillow built without a format does not list it.
_NAMED = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA", "ICO")
Image.init()
FORMATS = tuple(name for name in _NAMED if name in Image.OPEN)
# HEIC is among them so that it is reported as skipped, not passed over in silence.
EXTENSIONS = frozenset(
    f".{ending}"
    for ending in (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff"),
        *("ppm", "pgm", "pbm", "pnm", "avif", "jp2", "j2k", "tga", "ico", "heic", "heif"),
    )
)

# TIFF's tag and value that Pillow has no names for.
_SAMPLE_FORMAT = 339
_WHITE_IS_ZERO = 0

# EXIF tag 0x0112 -> what brings the picture upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnusableImage(Exception):
    """An image that cannot become a face; the message says why."""


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Mute Pillow's warnings about odd files: what cannot be used is listed in the manifest instead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def decode_face(data: bytes, image_size: int) -> np.ndarray:
    """Decode an image file to uint8 [3, image_size, image_size], RGB.

    Raises UnusableImage, and nothing else, for whatever is wrong with the bytes.
    """
    return resize_squares([decode_square(data, image_size)], image_size)[0]


def decode_square(data: bytes, image_size: int) -> np.ndarray:
    """Decode an image file to its upright central square, uint8 [H, H, 3], for resize_squares.

    JPEGs are decoded at 1/2, 1/4 or 1/8 when that still leaves one and a half times the wanted side
    (Pillow's draft mode): several times faster, and the resize still antialiases. It moves a photograph
    of 200 pixels by half a grey level at 64. What is left much larger is resized here, so that a batch
    of squares needs little memory. Raises UnusableImage.
    """
    if not data:
        raise UnusableImage("the file is empty (0 bytes)")
    try:
        return _opened_square(data, image_size)
    except UnusableImage:
        raise
    except Image.DecompressionBombError:
        raise UnusableImage(f"more than {MAXIMUM_PIXELS:,} pixels") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on broken files
        with suppress(Exception):
            whole = mended(data, MAXIMUM_PIXELS)
            if whole is not None:
                return _opened_square(whole, image_size)
        if isinstance(error, UnidentifiedImageError):
            raise UnusableImage("not an image that Pillow can read") from None
        raise UnusableImage(f"broken image: {str(error)[:120] or type(error).__name__}") from None


def resize_squares(squares: list[np.ndarray], image_size: int) -> np.ndarray:
    """Resize uint8 [H, H, 3] squares to uint8 [n, 3, image_size, image_size]; H may differ.

    Torch's antialiased bicubic filter gives Pillow's pixels, to one grey level, many times faster. Most of that
    comes from resizing those of one size together: the filter's weights are then computed once.
    """
    import torch  # takes seconds, which checking a source can spare
    from torch.nn.functional import interpolate

    faces = np.empty((len(squares), 3, image_size, image_size), dtype=np.uint8)
    sides = np.array([len(square) for square in squares])
    for side in np.unique(sides):
        chosen = np.flatnonzero(sides == side)
        planes = torch.from_numpy(np.stack([squares[i] for i in chosen])).permute(0, 3, 1, 2)
        faces[chosen] = interpolate(planes, (image_size, image_size), mode="bicubic", antialias=True).numpy()
    return faces


def _opened_square(data: bytes, image_size: int) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return _square(image, image_size)


def _square(image: Image.Image, image_size: int) -> np.ndarray:
    width, height = image.size
    if min(width, height) < MINIMUM_SIDE:
        raise UnusableImage(f"{width}x{height} pixels; the shorter side must have at least {MINIMUM_SIDE}")
    if width * height > MAXIMUM_PIXELS:
        raise UnusableImage(f"{width}x{height} is more than {MAXIMUM_PIXELS:,} pixels")
    image.draft("RGB", _draft_size(width, height, 1.5 * image_size))
    image.load()
    turn = _UPRIGHT.get(_orientation(image))  # asked only now: loading turns a TIFF, and clears its tag
    rgb = _to_rgb(image)
    side = min(rgb.size)
    if rgb.width != rgb.height:
        left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
        rgb = rgb.crop((left, top, left + side, top + side))
    if turn is not None:
        rgb = rgb.transpose(turn)
    pixels = np.asarray(rgb, dtype=np.uint8)
    return pixels if side <= 4 * image_size else resize_squares([pixels], image_size)[0].transpose(1, 2, 0)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # a broken EXIF block does not make the picture unusable
        return 1


def _draft_size(width: int, height: int, side: float) -> tuple[int, int]:
    scale = max(1.0, min(width, height) / side)
    return max(1, int(width / scale)), max(1, int(height / scale))


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any of Pillow's modes -> RGB. Cut-out pictures are laid on white, the page they were made for."""
    if image.mode.startswith("I") or image.mode == "F":
        image = _deep_grey(image)
    elif image.mode == "La":  # has no way to RGBA of its own
        image = image.convert("LA")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _deep_grey(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits -> 8 bits, from black to the white that its file means, see _white.

    What lies outside 0..white has no scale that could be known; there the picture's own range becomes 0..255.
    """
    tags = getattr(image, "tag_v2", {})  # a TIFF's
    bits, signed = _first(tags.get(ExifTags.Base.BitsPerSample, 16)), _first(tags.get(_SAMPLE_FORMAT, 1)) != 1
    raw = np.asarray(image, dtype=np.float64)
    values = np.nan_to_num(raw, posinf=0.0, neginf=0.0)
    if image.mode == "I" and bits == 32 and not signed:
        values = np.where(values < 0, values + 2**32, values)  # Pillow has no unsigned 32 bits
    low, high = float(values.min()), float(values.max())
    white = _white(image, bits, high)
    if low >= 0 and white is not None:
        low, high = 0.0, white
    scaled = (values - low) / max(high - low, 1e-12) * 255.0
    if tags.get(ExifTags.Base.PhotometricInterpretation) == _WHITE_IS_ZERO:  # Pillow turns only 8 bits round
        scaled = 255.0 - scaled
    if "transparency" in image.info:  # the one grey of a PNG that is see-through
        scaled[raw == image.info["transparency"]] = 255.0
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


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
