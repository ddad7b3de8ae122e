"""Fixed views of an image in which a generator's traces stand out. Nothing here is trained.

All take images [N, 3, S, S] in [-1, 1], S a multiple of 8, and compute in float32 also under autocast: rounded to
bfloat16 at the edge, a bright image would lose its last bits, where the traces are.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duel.device import full_precision

SECOND = (1.0, -2.0, 1.0)  # the second difference along a line
# KV: the residual of the 5x5 square predictor
KV = (
    (-1.0, 2.0, -2.0, 2.0, -1.0),
    (2.0, -6.0, 8.0, -6.0, 2.0),
    (-2.0, 8.0, -12.0, 8.0, -2.0),
    (2.0, -6.0, 8.0, -6.0, 2.0),
    (-1.0, 2.0, -2.0, 2.0, -1.0),
)
GAIN = 8.0  # brings the residuals of photographs to a spread of about 1
FLOOR = 1e-5  # power below which a coefficient says nothing: that of rounding to bytes, twice


def srm_kernels() -> Tensor:
    """[3, 5, 5]: the filters of the spatial rich model (Fridrich & Kodovsky 2012) that Zhou 2018 keeps.

    The 3x3 square and the 5x5 square predictor's residual, and the second difference along rows, each divided by its
    centre, so that they are in units of a pixel's value.
    """
    line = torch.tensor(SECOND)
    square, along = torch.zeros(5, 5), torch.zeros(5, 5)
    square[1:4, 1:4] = -torch.outer(line, line) / 4
    along[2, 1:4] = line / 2
    return torch.stack([square, torch.tensor(KV) / 12, along])


class Srm(nn.Module):
    """Residuals of the three SRM filters on each colour, times GAIN: [N, 9, S, S]; images are mirrored at the edge.

    Unlike in the papers nothing is truncated, so that gradients reach the images whatever they hold.
    """

    channels = 9
    kernels: Tensor

    def __init__(self) -> None:
        super().__init__()
        kernels = torch.zeros(3, 3, 3, 5, 5)  # [colour out, filter, colour in]: of the same colour only
        kernels[range(3), :, range(3)] = GAIN * srm_kernels()
        self.register_buffer("kernels", kernels.flatten(0, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Residuals of images, colour by colour."""
        with full_precision(images.device):
            return F.conv2d(F.pad(images.float(), (2, 2, 2, 2), mode="reflect"), self.kernels)


class Npr(nn.Module):
    """Neighbouring pixel relations (Tan 2024), times GAIN: [N, 3, S, S].

    The image minus itself made half as large and twice as large again by the nearest pixel: what each pixel of a 2x2
    square has over the upper left one. An upsampling generator makes these four in its own way.
    """

    channels = 3

    def forward(self, images: Tensor) -> Tensor:
        """Relations in images."""
        images = images.float()
        small = F.interpolate(images, scale_factor=0.5, mode="nearest")
        return GAIN * (images - F.interpolate(small, scale_factor=2.0, mode="nearest"))


def dct_matrix(size: int) -> Tensor:
    """The orthonormal [size, size] matrix of the discrete cosine transform of type II."""
    k = torch.arange(size, dtype=torch.float32)
    rows = torch.cos(math.pi / size * k[:, None] * (k + 0.5)) * math.sqrt(2 / size)
    return torch.cat([rows[:1] / math.sqrt(2), rows[1:]])


class LogSpectrum(nn.Module):
    """The logarithm of the power at each frequency (Frank 2020), standardised: [N, 3, B, B].

    The power is the mean over the image's blocks of B x B (Bartlett 1948); with B = S it is the whole image's, as in
    the paper. transform: 'dct', the low frequencies at the upper left, or 'fft', at the centre. Each frequency has
    its running mean and variance, which eval mode uses.
    """

    cosines: Tensor

    def __init__(self, transform: str, block: int) -> None:
        super().__init__()
        self.transform, self.block = transform, block
        self.register_buffer("cosines", dct_matrix(block), persistent=False)
        self.standardise = nn.BatchNorm1d(3 * block**2, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        """Standardised spectra of images."""
        with full_precision(images.device):
            spectra = log_power(images, self.transform, self.block, self.cosines)
            return self.standardise(spectra.flatten(1)).view_as(spectra)


def log_power(images: Tensor, transform: str, block: int, cosines: Tensor) -> Tensor:
    """[N, 3, block, block]: log of the mean power over blocks; cosines is dct_matrix(block)."""
    count, side = len(images), images.shape[-1] // block
    # a block's rows and columns last; contiguous, as images may lie with their channels last
    blocks = images.float().contiguous().view(count, 3, side, block, side, block).transpose(3, 4)
    if transform == "dct":
        power = (cosines @ blocks @ cosines.T).square()
    else:
        turned = torch.fft.fft2(blocks, norm="ortho")
        power = torch.fft.fftshift(turned.real.square() + turned.imag.square(), dim=(-2, -1))
    return (power.mean((2, 3)) + FLOOR).log()
