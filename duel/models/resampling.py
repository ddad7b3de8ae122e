"""Changes of size by 2, in the layout and the precision of the maps.

Off CUDA PyTorch's own kernels run. On CUDA these run instead: there PyTorch's bilinear kernel took 12 ms for maps that
memory moves in 0.1 ms (128 of 64 channels at 64x64, an H100), autocast has every enlargement done in float32, and the
backward of avg_pool2d took three times as long as its forward. All have derivatives of any order.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mean_of_four(x: Tensor) -> Tensor:
    """The mean of each 2x2 pixels: [N, C, 2S, 2S] -> [N, C, S, S]."""
    return _Mean.apply(x) if x.is_cuda else F.avg_pool2d(x, 2)


def repeated(x: Tensor) -> Tensor:
    """Each pixel four times, the nearest neighbour: [N, C, S, S] -> [N, C, 2S, 2S]."""
    return _Repeat.apply(x, 1.0) if x.is_cuda else F.interpolate(x, scale_factor=2, mode="nearest")


class Halved(nn.Module):
    """`mean_of_four` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """The smaller maps."""
        return mean_of_four(x)


class Repeated(nn.Module):
    """`repeated` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """The larger maps."""
        return repeated(x)


class Bilinear(nn.Module):
    """Bilinear enlargement by 2, pixels as areas: [N, C, S, S] -> [N, C, 2S, 2S], for one S.

    On CUDA two products with a [2S, S] matrix, whose quarters bfloat16 holds exactly.
    """

    weights: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        rows = torch.eye(side)[None, None]
        weights = F.interpolate(rows, size=(side, 2 * side), mode="bilinear")[0, 0].T
        self.register_buffer("weights", weights.contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The larger maps."""
        return bilinear_products(x, self.weights) if x.is_cuda else F.interpolate(x, scale_factor=2, mode="bilinear")


def bilinear_products(x: Tensor, weights: Tensor) -> Tensor:
    """The function of Bilinear by products with its weights [2S, S]."""
    count, channels, side, _ = x.shape
    weights = weights.to(x.dtype)
    rows = x.permute(0, 2, 3, 1).reshape(count, side, side * channels)
    rows = torch.bmm(weights.expand(count, -1, -1), rows)
    columns = rows.reshape(count * 2 * side, side, channels)
    columns = torch.bmm(weights.expand(len(columns), -1, -1), columns)
    return columns.view(count, 2 * side, 2 * side, channels).permute(0, 3, 1, 2)


class _Mean(torch.autograd.Function):
    """Its gradient is _Repeat, and the other way round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return F.avg_pool2d(x.contiguous(memory_format=torch.channels_last), 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Repeat.apply(gradients[0], 0.25)


class _Repeat(torch.autograd.Function):
    """Each pixel four times, times `factor`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        count, channels, height, width = x.shape
        larger = x.new_empty(count, height, 2, width, 2, channels)
        torch.mul(x.permute(0, 2, 3, 1)[:, :, None, :, None].expand_as(larger), factor, out=larger)
        return larger.view(count, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return 4 * ctx.factor * _Mean.apply(gradients[0]), None
