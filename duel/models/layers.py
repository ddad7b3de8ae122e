"""Pieces that several families share."""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from duel.device import full_precision
from duel.models.convolutions import Double, double, halve


def stages_down_to(smallest: int, image_size: int) -> int:
    """How many halvings lead from `image_size` to `smallest` (both powers of two)."""
    return int(math.log2(image_size // smallest))


def growing(width: int, stages: int, widest: int) -> list[int]:
    """Channels of each stage, the one nearest the image first: width, 2 width, ... up to widest times width."""
    return [width * min(2**stage, widest) for stage in range(stages)]


def _box() -> Tensor:
    """[16, 9]: spreads a 3x3 kernel to 4x4 by a 2x2 box; each tap reaches two, in rows as in columns."""
    box = torch.zeros(4, 3)
    box[range(3), range(3)] = box[range(1, 4), range(3)] = 1.0
    return torch.kron(box, box)


class NearestUpsample(nn.Module):
    """Nearest-neighbour enlargement by 2, then a 3x3 convolution (Odena 2016), in one transposed convolution.

    Doubling the pixels is itself a convolution with a 2x2 box, so the two steps together are a stride-2
    transposed convolution whose 4x4 kernel is the 3x3 kernel spread by that box: the same numbers with
    4 instead of 9 multiplications an output pixel, and every output pixel overlapped alike.

    [N, in_channels, S, S] -> [N, out_channels, 2S, 2S].
    """

    spread: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels, 3, 3))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.register_buffer("spread", _box(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps of twice the side."""
        with full_precision(x.device):
            pixels = self.weight.permute(0, 2, 3, 1).flatten(1, 2)  # [C, 9, D]
            kernel = (self.spread @ pixels).unflatten(1, (4, 4)).permute(0, 3, 1, 2)
        return double(x, kernel)


class AverageDownsample(nn.Module):
    """A 3x3 convolution, then the average of each 2x2 pixels, in one strided convolution.

    The mirror of NearestUpsample: the 4x4 kernel is the 3x3 kernel spread by a 2x2 box of quarters. The same
    numbers with 16 instead of 36 multiplications an output pixel.

    [N, in_channels, 2S, 2S] -> [N, out_channels, S, S].
    """

    spread: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.register_buffer("spread", _box() / 4, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps of half the side."""
        with full_precision(x.device):
            pixels = self.weight.permute(0, 2, 3, 1).flatten(1, 2)  # [D, 9, C]
            kernel = (self.spread @ pixels).unflatten(1, (4, 4)).permute(0, 3, 1, 2)
        return halve(x, kernel, self.bias)


class _FullPrecision(nn.Module):
    """Runs a parametrisation outside autocast: the power iteration's dot products need float32."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, weight: Tensor) -> Tensor:
        with full_precision(weight.device):
            return self.inner(weight)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


def spectral(layer: nn.Module) -> nn.Module:
    """`layer` with its weight divided by its largest singular value (Miyato 2018), also under autocast.

    The weight is a matrix of its output channels by all else, for `Project` of its inputs by all else.
    """
    spectral_norm(layer, dim=1 if isinstance(layer, NearestUpsample | Double) else 0)
    steps: nn.ModuleList = layer.parametrizations.weight  # type: ignore[assignment, union-attr]
    steps[0] = _FullPrecision(steps[0])
    return layer


def spectral_all(network: nn.Module) -> None:
    """`spectral` on every layer of `network` that multiplies by a weight; norms have scales, not weights."""
    layers = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, NearestUpsample, AverageDownsample)
    for layer in list(network.modules()):
        if isinstance(layer, layers):
            spectral(layer)


@torch.no_grad()
def settle(network: nn.Module) -> nn.Module:
    """`network` in eval mode with the weights that `spectral` gives it there, for good.

    The same numbers without dividing anew at each call, and it can be pickled, which parametrised modules cannot.
    """
    network.eval()  # in training mode to read a weight changes it
    for layer in list(network.modules()):
        if is_parametrized(layer, "weight"):
            remove_parametrizations(layer, "weight")
    return network
