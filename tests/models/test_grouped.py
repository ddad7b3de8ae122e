"""Convolutions in groups: PyTorch's numbers in every derivative, from few operations whatever the groups."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from duel.device import fold_batch_norm
from duel.families import R3ganSettings
from duel.losses import discriminator_loss, gradient_penalty
from duel.models import build_discriminator
from duel.models.convolutions import Double, Halve
from duel.models.grouped import Grouped, _GroupedBackward, grouped


def plain(x, weight, bias, groups):
    return F.conv2d(x, weight, bias, padding=1, groups=groups)


def inputs(channels, out, groups, side):
    torch.manual_seed(0)
    shapes = (2, channels, side, side), (out, channels // groups, 3, 3), (out,)
    return [torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in shapes]


SHAPES = pytest.mark.parametrize(("channels", "out", "groups", "side"), [(4, 6, 2, 3), (3, 3, 3, 2), (3, 2, 1, 3)])


@SHAPES
def test_gradients_and_their_gradients_are_right(channels, out, groups, side):
    x, weight, bias = inputs(channels, out, groups, side)
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda *given: grouped(*given, groups), (x, weight, bias), fast_mode=True)
        assert check(lambda *given: grouped(*given, None, groups), (x, weight), fast_mode=True)


@SHAPES
@pytest.mark.parametrize("asked", [[0], [1], [2], [0, 1], [0, 1, 2]], ids=str)
def test_three_derivatives_are_pytorchs_whichever_are_asked_for(channels, out, groups, side, asked):
    given = inputs(channels, out, groups, side)
    ours, theirs = (derivatives(function, given, groups, asked) for function in (grouped, plain))
    for mine, wanted in zip(ours, theirs, strict=True):
        assert (mine - wanted).abs().max() <= 1e-12 * wanted.abs().max()


def derivatives(function, given, groups, asked):
    y = function(*given, groups)
    first = torch.autograd.grad(y.square().sum(), [given[at] for at in asked], create_graph=True)
    second = torch.autograd.grad(sum(slope.pow(3).sum() for slope in first), given[:2], create_graph=True)
    return y, *first, *second, *torch.autograd.grad(sum(slope.square().sum() for slope in second), given[:2])


def test_without_a_penalty_the_bits_are_pytorchs():
    torch.manual_seed(0)
    layer = Grouped(32, 32, 2).to(memory_format=torch.channels_last)
    start = torch.randn(8, 32, 16, 16).to(memory_format=torch.channels_last)
    results = []
    for amp in (False, True):
        for function in (grouped, plain):
            layer.zero_grad()
            x = start.clone().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=amp):
                y = function(x, layer.weight, layer.bias, 2)
            y.float().square().sum().backward()
            assert y.dtype == (torch.bfloat16 if amp else torch.float32)
            assert y.is_contiguous(memory_format=torch.channels_last)
            results.append([y, x.grad, layer.weight.grad.clone(), layer.bias.grad.clone()])
    for ours, theirs in (results[:2], results[2:]):
        assert all(torch.equal(mine, wanted) for mine, wanted in zip(ours, theirs, strict=True))


class Seen(TorchDispatchMode):
    """The convolutions that run inside: True for those that give a weight's gradient."""

    def __init__(self):
        super().__init__()
        self.convolutions = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "convolution" in str(function):
            self.convolutions.append("backward" in str(function) and args[-1][1])
        return function(*args, **(kwargs or {}))


def discriminator(width):
    """One whose residual branches are no longer 0."""
    torch.manual_seed(0)
    network = build_discriminator("r3gan", 16, R3ganSettings(width_discriminator=width, depth=1))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.1)
    return network


def penalised(network, context):
    reals, fakes = (torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(at)) * 2 - 1 for at in (1, 2))
    with context:
        on_reals, on_fakes = network(reals.requires_grad_()), network(fakes.requires_grad_())
    loss = discriminator_loss("relativistic", on_reals, on_fakes)
    (loss + gradient_penalty(reals, on_reals) + gradient_penalty(fakes, on_fakes)).backward()


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("width", [8, 64])
def test_penalties_take_five_convolutions_a_layer_and_pass(width, amp):
    """There, back to the images, back, and for the penalty once more there and back; the largest has 64 groups."""
    network, context = discriminator(width), torch.autocast("cpu", torch.bfloat16, enabled=amp)
    layers = sum(isinstance(module, torch.nn.Conv2d) for module in network.modules())
    with Seen() as seen:
        penalised(network, context)
    assert len(seen.convolutions) == 5 * 2 * layers


def test_penalties_of_a_discriminator_are_pytorchs(monkeypatch):
    ours = discriminator(16)
    theirs = copy.deepcopy(ours)
    penalised(ours, torch.autocast("cpu", enabled=False))
    monkeypatch.setattr("duel.models.grouped.grouped", plain)
    penalised(theirs, torch.autocast("cpu", enabled=False))
    for mine, wanted in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert wanted.grad.any()
        torch.testing.assert_close(mine.grad, wanted.grad, rtol=1e-4, atol=1e-5 * wanted.grad.abs().max().item())


@pytest.mark.parametrize("make", [lambda: Grouped(4, 4, 2), lambda: Halve(4, 4), lambda: Double(4, 4)])
def test_a_penalty_leaves_the_weights_gradient_until_it_is_asked_for(make):
    torch.manual_seed(0)
    layer, x = make(), torch.randn(2, 4, 32, 32, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(torch.tanh(x))
    with Seen() as penalty:
        (slope,) = torch.autograd.grad(y.float().square().sum(), x, create_graph=True)
    with Seen() as training:
        slope.square().sum().backward()
    assert penalty.convolutions
    assert not any(penalty.convolutions)
    assert any(training.convolutions)
    assert layer.weight.grad.any()


def test_it_is_a_convolution_to_everyone_else():
    """Copies, pickles, folds and is read by PyTorch's own; runs where nothing has a gradient."""
    torch.manual_seed(0)
    layer, norm, x = Grouped(8, 8, 4), torch.nn.BatchNorm2d(8), torch.randn(4, 8, 5, 5)
    network = torch.nn.Sequential(layer, norm)
    parent = torch.nn.Conv2d(8, 8, 3, padding=1, groups=4)
    parent.load_state_dict(layer.state_dict())
    for same in (parent, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(same(x), layer(x))
    network(x)
    folded = fold_batch_norm(network)
    assert isinstance(folded[0], Grouped)
    with torch.inference_mode():
        assert torch.allclose(folded(x), network.eval()(x), atol=1e-6)


def test_shapes_and_layouts_on_cuda():
    """On a machine without one."""
    with FakeTensorMode(), torch.device("cuda"), torch.no_grad():
        layer, x = Grouped(32, 64, 2), torch.empty(4, 32, 8, 8).to(memory_format=torch.channels_last)
        y = layer(x)
        gradients = _GroupedBackward.apply(y, x, layer.weight, 2, (True, True, True))
        assert y.shape == (4, 64, 8, 8)
        for tensor, like in zip((y, *gradients), (y, x, layer.weight, layer.bias), strict=True):
            assert tensor.device.type == "cuda"
            assert tensor.shape == like.shape
            assert tensor.ndim < 4 or tensor.is_contiguous(memory_format=torch.channels_last)
