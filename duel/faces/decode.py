"""One image file's bytes -> one square uint8 face, the same road for every format.

Steps: first frame, RGB, centre crop to a square, upright by EXIF, one antialiased resize. What Pillow calls broken
though every pixel is there gets a second try, see duel.faces.mend.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version

import numpy as np
from PIL import Image, UnidentifiedImageError

from duel.faces.limits import DECODING, MAXIMUM_DECODING, MAXIMUM_PIXELS
from duel.faces.mend import mended
from duel.faces.modes import central_square, smaller_square, to_rgb
from duel.faces.weigh import REDUCED_ABOVE, bytes_to_decode, hoard

# What the pixels depend on, part of the cache's key. Any change here or in modes that changes one needs a new number.
DECODER_VERSION = (5, version("pillow"), version("torch"))
MINIMUM_SIDE = 16  # pixels of the shorter side; below that there is no face to see
_LARGEST_EXIF = 4_000_000  # bytes; Pillow makes thirty times as many of them

# Pillow refuses twice this as a bomb, as it opens a file; without it, 178 million.
Image.MAX_IMAGE_PIXELS = MAXIMUM_PIXELS // 2

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
    of squares needs little memory. Waits until the other threads leave room for it, see duel.faces.limits.
    Raises UnusableImage.
    """
    if not data:
        raise UnusableImage("the file is empty (0 bytes)")
    if reason := hoard(data):
        raise UnusableImage(reason)
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
        return _square(image, image_size, data)


def _square(image: Image.Image, image_size: int, data: bytes) -> np.ndarray:
    width, height = image.size
    if min(width, height) < MINIMUM_SIDE:
        raise UnusableImage(f"{width}x{height} pixels; the shorter side must have at least {MINIMUM_SIDE}")
    if width * height > MAXIMUM_PIXELS:
        raise UnusableImage(f"{width}x{height} is more than {MAXIMUM_PIXELS:,} pixels")
    image.draft("RGB", _draft_size(width, height, 1.5 * image_size))
    cost = bytes_to_decode(image, (width, height), data)
    if cost > MAXIMUM_DECODING:
        raise UnusableImage(f"{width}x{height} takes {cost:,} bytes to decode; at most {MAXIMUM_DECODING:,} are given")
    with DECODING.of(cost):
        return _loaded_square(image, image_size)


def _loaded_square(image: Image.Image, image_size: int) -> np.ndarray:
    image.load()
    turn = _UPRIGHT.get(_orientation(image))  # asked only now: loading turns a TIFF, and clears its tag
    large = image.width * image.height > REDUCED_ABOVE
    rgb = to_rgb(smaller_square(image, 4 * image_size) if large else image)
    if rgb.width != rgb.height:
        rgb = rgb.crop(central_square(rgb.size))
    if turn is not None:
        rgb = rgb.transpose(turn)
    pixels = np.asarray(rgb, dtype=np.uint8)
    return pixels if len(pixels) <= 4 * image_size else resize_squares([pixels], image_size)[0].transpose(1, 2, 0)


def _orientation(image: Image.Image) -> int:
    if len(image.info.get("exif") or b"") > _LARGEST_EXIF:
        return 1
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # a broken EXIF block does not make the picture unusable
        return 1


def _draft_size(width: int, height: int, side: float) -> tuple[int, int]:
    scale = max(1.0, min(width, height) / side)
    return max(1, int(width / scale)), max(1, int(height / scale))
