"""One image file's bytes -> one square uint8 face, the same road for every format.

Steps: first frame, RGB, centre crop to a square, upright by EXIF, one antialiased resize.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import numpy as np
from PIL import Image, UnidentifiedImageError

# What the pixels depend on, part of the cache's key. Any change to this file that changes one needs a new number.
DECODER_VERSION = (3, version("pillow"), version("torch"))
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
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _square(image, image_size)
    except UnusableImage:
        raise
    except UnidentifiedImageError:
        raise UnusableImage("not an image that Pillow can read") from None
    except Image.DecompressionBombError:
        raise UnusableImage(f"more than {MAXIMUM_PIXELS:,} pixels") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on broken files
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


def _square(image: Image.Image, image_size: int) -> np.ndarray:
    width, height = image.size
    if min(width, height) < MINIMUM_SIDE:
        raise UnusableImage(f"{width}x{height} pixels; the shorter side must have at least {MINIMUM_SIDE}")
    if width * height > MAXIMUM_PIXELS:
        raise UnusableImage(f"{width}x{height} is more than {MAXIMUM_PIXELS:,} pixels")
    turn = _UPRIGHT.get(_orientation(image))
    image.draft("RGB", _draft_size(width, height, 1.5 * image_size))
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
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _deep_grey(image: Image.Image) -> Image.Image:
    """16-bit grey keeps its scale; 32-bit and float pictures have none, so their own range becomes 0..255."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I") and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    scaled = (values - low) / max(high - low, 1e-12) * 255.0
    return Image.fromarray(np.rint(scaled).astype(np.uint8))
