"""Weather: what happens to pictures on their way to a viewer, done alike to reals and fakes before a match.

A detector that lives on the last bits of fine detail loses them here: blur and JPEG are the tests of Wang 2020 ("CNN-
generated images are surprisingly easy to spot... for now"), noise is among those of Frank 2020.
"""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from duel.errors import UsageError

# Kind -> least and greatest strength, and what the strength is.
KINDS: dict[str, tuple[float, float, str]] = {
    "jpeg": (1, 100, "quality, a whole number"),
    "blur": (0.1, 8, "sigma in pixels"),
    "resize": (0.1, 0.95, "factor of the side, down and back up"),
    "noise": (0.5, 64, "standard deviation in grey levels of 255"),
}
_CHUNK = 1024  # images as floats at once


@dataclass(frozen=True)
class Weather:
    """One change of images; `name`, e.g. jpeg50, goes into the tables' columns."""

    name: str
    kind: str
    strength: float


def parse_weather(text: str) -> list[Weather]:
    """What `--weather jpeg50,blur1` asks for, in its order; needs no torch.

    Raises UsageError, naming the flag, the value received and what is allowed, for anything else than different
    known kinds with a strength in range.
    """
    weathers: list[Weather] = []
    for item in text.split(","):
        weather = _parse_one(item.strip())
        if weather in weathers:
            raise UsageError(f"--weather: got {weather.name} twice in {text!r}; each change is allowed once")
        weathers.append(weather)
    return weathers


def _parse_one(item: str) -> Weather:
    match = re.fullmatch(r"([a-z]+)([0-9]+(?:\.[0-9]+)?)", item)
    if not match or match[1] not in KINDS:
        raise UsageError(f"--weather: got {item!r}; allowed, separated by commas: {_allowed()}")
    kind, strength = match[1], float(f"{float(match[2]):g}")  # as its name will show it
    low, high, what = KINDS[kind]
    if not low <= strength <= high or (kind == "jpeg" and strength % 1):
        raise UsageError(f"--weather: got {item!r}; allowed for {kind}: {low:g} to {high:g} ({what})")
    return Weather(f"{kind}{strength:g}", kind, strength)


def _allowed() -> str:
    return "; ".join(f"{kind} and {low:g} to {high:g} ({what})" for kind, (low, high, what) in KINDS.items())


def change(images: np.ndarray, weather: Weather, seed: int) -> np.ndarray:
    """uint8 images [N, 3, S, S] under `weather`: a new uint8 array of the same shape.

    `seed` matters to noise alone. Image i's noise depends on the seed and on i, not on how many images follow, so
    pass all images of a set at once, and other sets with other seeds. The same values on every machine's device: all
    of it runs on the CPU.
    """
    changed = np.empty(images.shape, np.uint8)
    apply = {"jpeg": _jpeg, "blur": _blur, "resize": _resize, "noise": _noise}[weather.kind](weather.strength, seed)
    for part in _chunks(len(images)):
        changed[part] = apply(images[part])
    return changed


Change = Callable[[np.ndarray], np.ndarray]


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, count, _CHUNK))


def _to_bytes(levels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def _jpeg(quality: float, seed: int) -> Change:
    """Saved as JPEG by libjpeg with its default chroma at half the resolution, and read again."""
    from PIL import Image

    def round_trip(pixels: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=int(quality))
        with Image.open(file) as image:
            return np.asarray(image)

    return lambda images: _each(round_trip, images)


def _resize(factor: float, seed: int) -> Change:
    """Down by `factor` and back up, both bicubic; on the way down antialiased."""
    from PIL import Image

    def there_and_back(pixels: np.ndarray) -> np.ndarray:
        side = pixels.shape[0]
        small = max(1, round(side * factor))
        image = Image.fromarray(pixels).resize((small, small), Image.Resampling.BICUBIC)
        return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))

    return lambda images: _each(there_and_back, images)


def _each(work: Change, images: np.ndarray) -> np.ndarray:
    """`work` on each image as [S, S, 3], as Pillow keeps them."""
    rows = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    return np.stack([work(pixels) for pixels in rows]).transpose(0, 3, 1, 2)


def _blur(sigma: float, seed: int) -> Change:
    """Gaussian; beyond the edge lies the image's mirror image."""
    from scipy.ndimage import gaussian_filter

    return lambda images: _to_bytes(gaussian_filter(images.astype(np.float32), (0, 0, sigma, sigma)))


def _noise(sd: float, seed: int) -> Change:
    """Gaussian, each pixel and channel its own."""
    rng = np.random.default_rng(seed)
    return lambda images: _to_bytes(images + np.float32(sd) * rng.standard_normal(images.shape, np.float32))
