"""Changes of size as a GPU does them, held to PyTorch's own, with their derivatives of first and second order."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from duel.models.convolutions import Pointwise, pixel_products
from duel.models.resampling import Bilinear, Halved, Repeated, _Mean, _Repeat, bilinear_products


def bilinear(x):
    return bilinear_products(x, Bilinear(x.shape[-1]).weights)


KINDS = {
    "mean": (_Mean.apply, lambda x: F.avg_pool2d(x, 2)),
    "repeated": (lambda x: _Repeat.apply(x, 1.0), lambda x: F.interpolate(x, scale_factor=2, mode="nearest")),
    "bilinear": (bilinear, lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")),
}
EACH = pytest.mark.parametrize("kind", KINDS)


def maps(dtype=torch.float64, layout=torch.channels_last, side=4):
    x = torch.randn(2, 3, side, side, dtype=dtype, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=layout)


@EACH
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_values_are_pytorchs_and_channels_are_last(kind, layout):
    ours, theirs = KINDS[kind]
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.bfloat16, 0.02)):
        x = maps(dtype, layout)
        y = ours(x)
        assert y.dtype == dtype
        assert y.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(y, theirs(x), rtol=tolerance, atol=tolerance)


@EACH
def test_derivatives(kind):
    x = maps().requires_grad_()
    assert gradcheck(KINDS[kind][0], x)
    assert gradgradcheck(KINDS[kind][0], x)


@EACH
def test_gradients_come_with_channels_last(kind):
    x = maps().requires_grad_()
    (gradient,) = torch.autograd.grad(KINDS[kind][0](x).square().sum(), x)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("side", [4, 8, 32])
def test_bilinear_at_every_side_of_a_network(side):
    x = maps(side=side)
    torch.testing.assert_close(bilinear(x).float(), Bilinear(side)(x).float(), rtol=1e-5, atol=1e-5)


def test_bilinear_weights_are_exact_in_bfloat16_and_belong_to_no_state():
    layer = Bilinear(8)
    assert torch.equal(layer.weights, layer.weights.bfloat16().float())
    assert layer.state_dict() == {}


@pytest.mark.parametrize("layer", [Halved(), Repeated(), Bilinear(4)])
def test_off_cuda_the_layers_are_pytorchs(layer):
    theirs = {Halved: KINDS["mean"][1], Repeated: KINDS["repeated"][1], Bilinear: KINDS["bilinear"][1]}[type(layer)]
    x = maps(torch.float32)
    assert torch.equal(layer(x), theirs(x))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_pointwise_convolution_is_a_product(layout):
    torch.manual_seed(0)
    layer, x = Pointwise(3, 5).double(), maps(layout=layout).requires_grad_()
    y = pixel_products(x, layer.weight, layer.bias)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, layer(x), rtol=1e-12, atol=1e-12)
    assert gradgradcheck(lambda x, w, b: pixel_products(x, w, b), (x, layer.weight, layer.bias))
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    assert gradient.is_contiguous(memory_format=torch.channels_last)
