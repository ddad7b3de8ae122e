"""Random changes of images on their way into a discriminator or a detector.

All functions take float images [N, 3, S, S], change each image by its own draw of torch's random numbers,
run on any device without waiting for it, and return the same shape. Shifts and blurs are products with
[S, S] matrices: short, differentiable, and the same bits each time also on CUDA.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from duel.models.front_ends import dct_matrix


def diff_augment(images: Tensor) -> Tensor:
    """DiffAugment (Zhao 2020) with its colour, translation and cutout, for images in [-1, 1]."""
    return cutout(translate(colour(images)))


def _uniform(images: Tensor, low: float, high: float) -> Tensor:
    """One draw an image, shaped to be multiplied with images."""
    return torch.empty(len(images), 1, 1, 1, device=images.device).uniform_(low, high)


def colour(images: Tensor) -> Tensor:
    """Brightness by up to 0.5 either way, saturation times 0 to 2, contrast times 0.5 to 1.5."""
    images = images + _uniform(images, -0.5, 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * _uniform(images, 0.0, 2.0)
    level = images.mean((1, 2, 3), keepdim=True)
    return level + (images - level) * _uniform(images, 0.5, 1.5)


def _shifts(images: Tensor, ratio: float) -> Tensor:
    """[N, 1, S, S]: matrices that move the rows of an image by up to `ratio` of its side, zeros coming in."""
    size = images.shape[-1]
    most = round(size * ratio)
    pixels = torch.arange(size, device=images.device)
    moves = torch.randint(-most, most + 1, (len(images), 1, 1, 1), device=images.device)
    return (pixels[:, None] - pixels == moves).to(images.dtype)


def translate(images: Tensor, ratio: float = 0.125) -> Tensor:
    """Moves by up to `ratio` of the side, each way; what comes in is 0."""
    return _shifts(images, ratio) @ images @ _shifts(images, ratio)


def cutout(images: Tensor, ratio: float = 0.5) -> Tensor:
    """Sets a square of `ratio` of the side to 0; its centre lies anywhere, so parts of it may be outside."""
    size = images.shape[-1]
    hole = int(size * ratio)
    pixels = torch.arange(size, device=images.device)
    starts = torch.randint(-(hole // 2), size - hole // 2 + 1, (2, len(images), 1), device=images.device)
    inside = (pixels >= starts) & (pixels < starts + hole)
    return images * ~(inside[0][:, None, :, None] & inside[1][:, None, None, :])


def _some(images: Tensor, changed: Tensor, chance: float) -> Tensor:
    """Each image as `changed` with the given chance, else as it was."""
    return torch.where(torch.rand(len(images), 1, 1, 1, device=images.device) < chance, changed, images)


def flip(images: Tensor, chance: float) -> Tensor:
    """Mirrors each image with the given chance."""
    return _some(images, images.flip(-1), chance)


def blur(images: Tensor, chance: float, strongest: float = 3.0) -> Tensor:
    """Gaussian blur with the given chance, of up to `strongest` pixels at 256x256 (3 in Wang 2020).

    In proportion for smaller images, but below 64x64 as at 64x64, where less would do nothing.
    """
    size = images.shape[-1]
    pixels = torch.arange(size, device=images.device)
    most = strongest * max(size, 64) / 256
    sigma = _uniform(images, min(0.1, most), most)
    # rows of softmax sum to 1, so that the edges keep their brightness
    weights = torch.softmax(-((pixels[:, None] - pixels) ** 2) / (2 * sigma**2), dim=-1)
    return _some(images, weights @ images @ weights.mT, chance)


_LUMA = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 "
    "72 92 95 98 112 100 103 99"
)
_CHROMA = "17 18 24 47 18 21 26 66 24 26 56 99 47 66 99 99"  # the 4x4 corner; 99 elsewhere
_RGB_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_YCC_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


class _Tables(NamedTuple):
    """JPEG's constants: steps and the cosine transform [8, 8], changes of colours [3, 3]."""

    luma: Tensor
    chroma: Tensor
    to_ycc: Tensor
    to_rgb: Tensor
    dct: Tensor


_placed: dict[torch.device, _Tables] = {}


def _tables(device: torch.device) -> _Tables:
    """The constants on `device`, copied there by the first call alone: a copy waits for the device.

    So a first step has to come before a CUDA graph is captured, in which nothing may be copied.
    """
    if device not in _placed:
        with torch.inference_mode(False):  # what is made in there can't be used where gradients are taken
            tables = _Tables(*(table.to(device) for table in _make_tables()))
        if type(tables.luma) is not Tensor:
            return tables  # fake ones, of a simulation that ends
        _placed[device] = tables
    return _placed[device]


def _make_tables() -> _Tables:
    with torch.device("cpu"):
        luma = torch.tensor([float(step) for step in _LUMA.split()]).view(8, 8)
        corner = torch.tensor([float(step) for step in _CHROMA.split()]).view(4, 4)
        chroma = F.pad(corner, (0, 4, 0, 4), value=99.0)
        return _Tables(luma, chroma, torch.tensor(_RGB_TO_YCC), torch.tensor(_YCC_TO_RGB), dct_matrix(8))


def _quantisation(table: Tensor, quality: Tensor) -> Tensor:
    """Steps [N, 1, 8, 8]: a table of ITU T.81, annex K, at qualities [N, 1, 1, 1], as libjpeg scales it."""
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    return ((table * scale + 50) / 100).floor().clamp(1, 255)


def _round_trip(plane: Tensor, steps: Tensor, dct: Tensor) -> Tensor:
    """Quantises the 8x8 blocks of [N, 1, S, S] by steps [N, 1, 8, 8]; S is a multiple of 8, dct is dct_matrix(8)."""
    size = plane.shape[-1]
    blocks = plane.reshape(-1, size // 8, 8, size // 8, 8).transpose(2, 3)
    steps = steps[:, :, None]
    coefficients = dct @ blocks @ dct.T
    blocks = dct.T @ ((coefficients / steps).round() * steps) @ dct
    return blocks.transpose(2, 3).reshape(plane.shape)


def _mix_channels(matrix: Tensor, images: Tensor) -> Tensor:
    return torch.einsum("dc,nchw->ndhw", matrix, images)


def jpeg_round_trip(images: Tensor, quality: Tensor) -> Tensor:
    """What JPEG at `quality` [N, 1, 1, 1] (1 to 100) leaves of images in [-1, 1] whose side 16 divides.

    Only the losing steps: YCbCr, halved chroma, quantised 8x8 cosine transforms, rounding to bytes.
    """
    at = _tables(images.device)
    ycc = _mix_channels(at.to_ycc, images * 127.5 - 0.5)  # bytes - 128
    planes = [_round_trip(ycc[:, :1], _quantisation(at.luma, quality), at.dct)]
    for plane in (ycc[:, 1:2], ycc[:, 2:]):
        small = _round_trip(F.avg_pool2d(plane, 2), _quantisation(at.chroma, quality), at.dct)
        planes.append(F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False))
    rgb = _mix_channels(at.to_rgb, torch.cat(planes, 1))
    return (rgb + 128.0).round().clamp(0, 255) / 127.5 - 1.0


def jpeg(images: Tensor, chance: float, lowest: int = 30) -> Tensor:
    """JPEG of a quality between `lowest` (30 in Wang 2020) and 100 with the given chance."""
    return _some(images, jpeg_round_trip(images, _uniform(images, float(lowest), 100.0).round()), chance)


def noise(images: Tensor, chance: float, strongest: float) -> Tensor:
    """Gaussian noise on each value with the given chance, of a sigma of up to `strongest` levels of 0 to 255."""
    sigma = _uniform(images, 0.0, strongest / 127.5)
    return _some(images, (images + sigma * torch.randn_like(images)).clamp(-1.0, 1.0), chance)
