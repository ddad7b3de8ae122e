"""The faster kernels against PyTorch's own, in float64 to the last digits and in bfloat16 up to rounding."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from duel.models import convolutions
from duel.models.convolutions import Double, Gather, Halve, Project, double, halve

SHAPES = [(3, 5, 8), (5, 3, 8), (4, 6, 16), (2, 3, 4)]  # channels of the larger map, of the smaller, side


def close(got, wanted, rounding):
    return (got.double() - wanted.double()).abs().max() <= rounding * wanted.double().abs().max()


@pytest.fixture
def as_on_a_cpu_in_bfloat16(monkeypatch):
    """The same code in float64, where a wrong tap can't hide in rounding."""
    monkeypatch.setattr(convolutions, "computes_in_bf16", lambda x: True)
    monkeypatch.setattr(convolutions, "_bf16", lambda x: x.contiguous(memory_format=torch.channels_last))
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self)


def doubles(*shape):
    return torch.randn(*shape, dtype=torch.double, requires_grad=True)


@pytest.mark.usefixtures("as_on_a_cpu_in_bfloat16")
@pytest.mark.parametrize(("large", "small", "side"), SHAPES)
def test_exact_in_float64(large, small, side):
    torch.manual_seed(0)
    x, weight, bias = doubles(2, large, side, side), doubles(small, large, 4, 4), doubles(small)
    check(halve, F.conv2d, (x, weight, bias))
    check(double, F.conv_transpose2d, (doubles(2, small, side // 2, side // 2), weight))


def check(fast, plain, inputs):
    got, wanted = fast(*inputs), plain(*inputs, stride=2, padding=1)
    assert close(got, wanted, 1e-12)
    direction = torch.randn_like(wanted)
    for mine, theirs in zip(*(torch.autograd.grad(y, inputs, direction) for y in (got, wanted)), strict=True):
        assert close(mine, theirs, 1e-12)


@pytest.mark.usefixtures("as_on_a_cpu_in_bfloat16")
def test_one_gradient_may_be_asked_for_alone():
    torch.manual_seed(0)
    x, weight, bias = doubles(2, 3, 8, 8), doubles(5, 3, 4, 4), doubles(5)
    for function, inputs in ((halve, (x, weight, bias)), (double, (doubles(2, 5, 4, 4), weight))):
        y = function(*inputs).square().sum()
        for one, whole in zip(inputs, torch.autograd.grad(y, inputs, retain_graph=True), strict=True):
            assert torch.equal(torch.autograd.grad(y, one, retain_graph=True)[0], whole)


@pytest.mark.usefixtures("as_on_a_cpu_in_bfloat16")
def test_gradients_have_gradients():
    """Penalties on gradients (R1) are trained through them."""
    torch.manual_seed(0)
    x, weight, bias = doubles(1, 2, 4, 4), doubles(3, 2, 4, 4), doubles(3)
    assert torch.autograd.gradgradcheck(halve, (x, weight, bias))
    assert torch.autograd.gradgradcheck(double, (doubles(1, 3, 2, 2), weight))


@pytest.mark.parametrize(("large", "small", "side"), [(64, 128, 8), (32, 64, 16), (3, 32, 32)])
def test_bfloat16_is_as_close_as_oneDNN(large, small, side):
    torch.manual_seed(0)
    x, weight = torch.randn(16, large, side, side), torch.randn(small, large, 4, 4) / 30
    direction = torch.randn(16, small, side // 2, side // 2)
    for fast, plain, start, end in ((halve, F.conv2d, x, direction), (double, F.conv_transpose2d, direction, x)):
        results = []
        for function, amp in ((fast, True), (plain, True), (plain, False)):
            inputs = start.clone().requires_grad_(), weight.clone().requires_grad_()
            options = {} if function is fast else {"stride": 2, "padding": 1}
            with torch.autocast("cpu", torch.bfloat16, enabled=amp):
                y = function(*inputs, **options)
            results.append([y, *torch.autograd.grad(y, inputs, end.to(y.dtype))])
        for mine, oneDNN, exact in zip(*results, strict=True):
            assert close(mine, exact, 0.02)
            assert (mine - exact).abs().mean() <= 1.5 * (oneDNN - exact).abs().mean()


def test_modules_are_their_parents():
    """Same weights, same numbers: a checkpoint does not know which of the two reads it."""
    torch.manual_seed(0)
    pairs = [
        (Halve(3, 8), nn.Conv2d(3, 8, 4, stride=2, padding=1), torch.randn(2, 3, 8, 8)),
        (Double(8, 3), nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1, bias=False), torch.randn(2, 8, 4, 4)),
        (Gather(8, 2, 4), nn.Conv2d(8, 2, 4), torch.randn(2, 8, 4, 4)),
        (Project(8, 5, 4), nn.ConvTranspose2d(8, 5, 4, bias=False), torch.randn(2, 8, 1, 1)),
    ]
    for ours, parent, x in pairs:
        parent.load_state_dict(ours.state_dict())
        got = ours(x.flatten(1) if isinstance(ours, Project) else x)
        assert torch.allclose(got, parent(x).view_as(got), atol=1e-5), type(ours)
