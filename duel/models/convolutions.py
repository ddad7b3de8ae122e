"""The convolutions of GANs, with the kernels that are fastest where they run.

Each module is its PyTorch parent with the shape fixed: same weights, same names, same numbers up to rounding.
Off the CPU, and in float32, the parents' own kernels run. On the CPU in bfloat16 three cases differ, where
oneDNN reaches a third to a half of what the same arithmetic does as a matrix product:
the gradient of the weights of small maps, images of few channels that are enlarged, and maps of a single pixel.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duel.device import computes_in_bf16

KERNEL = 4
SMALL = 8  # side of the larger map up to which the weights' gradient is a matrix product
THIN = 4  # channels of an image up to which it is enlarged by a 3x3 convolution and a shuffle of pixels


class Halve(nn.Conv2d):
    """4x4 convolution of stride 2 and padding 1: [N, C, 2S, 2S] -> [N, D, S, S]."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, KERNEL, stride=2, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """The smaller map."""
        return halve(x, self.weight, self.bias)


class Double(nn.ConvTranspose2d):
    """4x4 transposed convolution of stride 2 and padding 1, without bias: [N, C, S, S] -> [N, D, 2S, 2S]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, KERNEL, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """The larger map."""
        return double(x, self.weight)


class Pointwise(nn.Conv2d):
    """1x1 convolution: [N, C, S, S] -> [N, D, S, S].

    On CUDA a product of pixels and channels, which keeps channels last whatever comes in, there and back: given maps
    of both layouts, cuDNN took tens of milliseconds of R3GAN's step for kernels without tensor cores and for copies.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps of the same side."""
        return pixel_products(x, self.weight, self.bias) if x.is_cuda else super().forward(x)


def pixel_products(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The function of Pointwise as a product; weight [D, C, 1, 1], bias [D]."""
    return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


class Project(nn.ConvTranspose2d):
    """Vectors to maps by a transposed convolution, without bias, as a matrix product: [N, C] -> [N, D, K, K]."""

    def __init__(self, in_channels: int, out_channels: int, side: int) -> None:
        super().__init__(in_channels, out_channels, side, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """The maps."""
        side = self.kernel_size[0]
        pixels = x @ self.weight.permute(0, 2, 3, 1).flatten(1)
        return pixels.unflatten(1, (side, side, self.out_channels)).permute(0, 3, 1, 2)


class Gather(nn.Conv2d):
    """Whole maps to vectors by a convolution as large as they are, as a matrix product: [N, C, K, K] -> [N, D]."""

    def __init__(self, in_channels: int, out_channels: int, side: int) -> None:
        super().__init__(in_channels, out_channels, side)

    def forward(self, x: Tensor) -> Tensor:
        """The vectors."""
        return F.linear(x.permute(0, 2, 3, 1).flatten(1), self.weight.permute(0, 2, 3, 1).flatten(1), self.bias)


def halve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The function of Halve; weight [D, C, 4, 4], bias [D]."""
    if not computes_in_bf16(x):
        return F.conv2d(x, weight, bias, stride=2, padding=1)
    return _Halve.apply(_bf16(x), _bf16(weight), None if bias is None else bias.bfloat16())


def double(x: Tensor, weight: Tensor) -> Tensor:
    """The function of Double; weight [C, D, 4, 4]."""
    if not computes_in_bf16(x):
        return F.conv_transpose2d(x, weight, stride=2, padding=1)
    return _Double.apply(_bf16(x), _bf16(weight))


def _bf16(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16, memory_format=torch.channels_last)


class _Halve(torch.autograd.Function):
    """The gradients are made of functions that have gradients themselves, for penalties on gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return F.conv2d(x, weight, bias, stride=2, padding=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        for_x, for_weight = is_asked(ctx, 0), is_asked(ctx, 1) or is_asked(ctx, 2)
        d_x = _Double.apply(gradient, weight) if for_x else None
        d_weight, d_bias = _of_weight(x, gradient, weight, ctx.has_bias) if for_weight else (None, None)
        return d_x, d_weight, d_bias


class _Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        if weight.shape[1] <= THIN:
            return F.pixel_shuffle(F.conv2d(x, _phases(weight), padding=1), 2)
        return F.conv_transpose2d(x, weight, stride=2, padding=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        for_x, for_weight = is_asked(ctx, 0), is_asked(ctx, 1)
        d_x = _Halve.apply(gradient, weight, None) if for_x else None
        d_weight = _of_weight(gradient, x, weight, False)[0] if for_weight else None
        return d_x, d_weight


def is_asked(ctx: Any, argument: int) -> bool:
    """Whether the backward that is running asks for the gradient of this argument, before which none is None.

    `needs_input_grad` says only whether some backward could: R1 asks for the images' gradient and not the weights'.
    """
    if not ctx.needs_input_grad[argument]:
        return False
    try:
        return torch._C._will_engine_execute_node(ctx.next_functions[argument][0])
    except RuntimeError:  # a leaf that torch.autograd.grad was asked for by name
        return True


def _phases(weight: Tensor) -> Tensor:
    """[C, D, 4, 4] -> [4 D, C, 3, 3]: the taps that reach each of the four pixels that one pixel becomes.

    An even row gets tap 3 of the pixel above and tap 1 of its own; an odd row tap 2 of its own and tap 0 of the
    one below. Columns likewise.
    """
    c, d = weight.shape[:2]
    taps = weight.new_zeros(d, 2, 2, c, 3, 3)
    for row, (rows, above) in enumerate((([3, 1], 0), ([2, 0], 1))):
        for column, (columns, left) in enumerate((([3, 1], 0), ([2, 0], 1))):
            picked = weight[:, :, rows][..., columns]
            taps[:, row, column, :, above : above + 2, left : left + 2] = picked.transpose(0, 1)
    return taps.flatten(0, 2)


def _of_weight(large: Tensor, small: Tensor, weight: Tensor, with_bias: bool) -> tuple[Tensor, Tensor | None]:
    """Gradient of a weight [D, C, 4, 4] that leads from maps `large` [N, C, 2S, 2S] to `small` [N, D, S, S].

    For a transposed convolution the larger map is the gradient and the smaller one the input. The bias' gradient is
    the sum over `small`.
    """
    if large.shape[-1] > SMALL:
        mask = [False, True, with_bias]
        bias = [small.shape[1]] if with_bias else None
        _, d_weight, d_bias = torch.ops.aten.convolution_backward(
            small, large, weight, bias, [2, 2], [1, 1], [1, 1], False, [0, 0], 1, mask
        )
        return d_weight, d_bias
    pixels = small.permute(0, 2, 3, 1).flatten(0, 2)
    d_weight = pixels.t() @ _patches(large)
    d_weight = d_weight.unflatten(1, (KERNEL, KERNEL, large.shape[1])).permute(0, 3, 1, 2)
    return d_weight, pixels.sum(0) if with_bias else None


def _patches(x: Tensor) -> Tensor:
    """[N, C, 2S, 2S] -> [N S S, 16 C]: what each step of a 4x4 convolution of stride 2 and padding 1 sees."""
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    windows = padded.unfold(1, KERNEL, 2).unfold(2, KERNEL, 2)  # [N, S, S, C, 4, 4]
    return windows.permute(0, 1, 2, 4, 5, 3).flatten(3).flatten(0, 2)
