"""A convolution in groups whose gradient's gradient stays in groups, as gradient penalties need it.

PyTorch takes that one group by group: 920 convolutions in R3GAN's discriminator step at width 64, depth 2, in place
of 184.
"""

from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duel.models.convolutions import is_asked


class Grouped(nn.Conv2d):
    """3x3 convolution of padding 1 within groups of channels: [N, C, S, S] -> [N, D, S, S]."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Maps of the same side."""
        return grouped(x, self.weight, self.bias, self.groups)


def grouped(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """The function of Grouped; weight [D, C / groups, 3, 3], bias [D]."""
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    return _Grouped.apply(_laid_out(x), weight, bias, groups)


class _Grouped(torch.autograd.Function):
    """PyTorch's own kernels, there and back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.groups = groups
        return F.conv2d(x, weight, bias, padding=1, groups=groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        asked = is_asked(ctx, 0), is_asked(ctx, 1), is_asked(ctx, 2)
        return *_GroupedBackward.apply(gradients[0], x, weight, ctx.groups, asked), None


class _GroupedBackward(torch.autograd.Function):
    """The gradients of _Grouped for those of x, weight and bias that are `asked` for, else None.

    They are linear in the output's gradient, and that of x in weight, that of weight in x. So the gradients
    of these gradients are convolutions and their gradients again, of all groups at once.
    """

    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, x: Tensor, weight: Tensor, groups: int, asked: tuple[bool, bool, bool]
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(gradient, x, weight)
        gradient = _laid_out(gradient)
        ctx.set_materialize_grads(False)  # no convolutions of zeros: R1 comes back along x alone
        ctx.groups = groups
        return torch.ops.aten.convolution_backward(
            gradient, x, weight, [len(weight)], [1, 1], [1, 1], [1, 1], False, [0, 0], groups, asked
        )

    @staticmethod
    def backward(ctx: Any, *directions: Tensor | None) -> tuple[Tensor | None, ...]:
        gradient, x, weight = ctx.saved_tensors
        along_x, along_weight, along_bias = directions
        parts = [] if along_bias is None else [along_bias[:, None, None].expand_as(gradient)]
        if along_x is not None:
            parts.append(_Grouped.apply(along_x, weight, None, ctx.groups))
        if along_weight is not None:
            parts.append(_Grouped.apply(x, along_weight, None, ctx.groups))
        asked = along_weight is not None and is_asked(ctx, 1), along_x is not None and is_asked(ctx, 2), False
        x, weight = x if along_x is None else along_x, weight if along_weight is None else along_weight
        d_x, d_weight, _ = _GroupedBackward.apply(gradient, x, weight, ctx.groups, asked)
        return reduce(torch.add, parts) if parts else None, d_x, d_weight, None, None


def _laid_out(x: Tensor) -> Tensor:
    """On CUDA with channels last: cuDNN's grouped kernels are for these."""
    return x.contiguous(memory_format=torch.channels_last) if x.is_cuda else x
