"""What single networks promise beyond the contract."""

import pytest
import torch
import torch.nn.functional as F

from duel.device import autocast
from duel.families import DcganSettings, R3ganSettings, Resnet18Settings, SaganSettings, SnganSettings
from duel.models import build, build_discriminator
from duel.models.layers import AverageDownsample, NearestUpsample, spectral
from duel.models.sagan import SelfAttention


def test_nearest_upsample_is_nearest_then_convolution():
    layer = NearestUpsample(5, 7).double()
    x = torch.randn(2, 5, 8, 8, dtype=torch.float64)
    # a transposed convolution reads its kernel mirrored
    kernel = layer.weight.flip(2, 3).transpose(0, 1)
    expected = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), kernel, padding=1)
    torch.testing.assert_close(layer(x), expected)


def test_average_downsample_is_convolution_then_average():
    layer = AverageDownsample(5, 7).double()
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 5, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x), F.avg_pool2d(F.conv2d(x, layer.weight, layer.bias, padding=1), 2))


def test_spectral_norm_is_one_also_under_autocast():
    torch.manual_seed(0)
    layer = spectral(torch.nn.Conv2d(8, 16, 4))
    for _ in range(30):
        with autocast(torch.device("cpu")):
            layer(torch.randn(2, 8, 8, 8))
            weight = layer.weight
    assert weight.dtype == torch.float32
    assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-3)


def test_dcgan_of_the_paper():
    """64x64 with 64 channels: the network of the paper's figure 1 and its initialisation."""
    torch.manual_seed(0)
    generator = build("generator", "dcgan", 64, DcganSettings())
    shapes = [tuple(m.weight.shape) for m in generator.modules() if isinstance(m, torch.nn.ConvTranspose2d)]
    assert shapes == [(100, 512, 4, 4), (512, 256, 4, 4), (256, 128, 4, 4), (128, 64, 4, 4), (64, 3, 4, 4)]
    discriminator = build_discriminator("dcgan", 64, DcganSettings())
    shapes = [tuple(m.weight.shape) for m in discriminator.modules() if isinstance(m, torch.nn.Conv2d)]
    assert shapes == [(64, 3, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4), (1, 512, 4, 4)]
    norms = [m for m in discriminator.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 3  # none at the image
    weights = torch.cat([p.flatten() for p in generator.parameters() if p.ndim == 4])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_sagan_has_spectral_norm_in_every_layer(network):
    torch.manual_seed(0)
    made = build("generator", "sagan", 32, SaganSettings(width=8, width_discriminator=8))
    network = made if network == "generator" else build_discriminator("sagan", 32, SaganSettings(width_discriminator=8))
    layers = [module for module in network.modules() if hasattr(module, "parametrizations")]
    plain = [n for n, p in network.named_parameters() if p.ndim > 1 and "original" not in n]
    assert plain == []
    for layer in layers:
        for _ in range(30):
            layer.weight  # noqa: B018  each reading in training mode is a step of the power iteration
        # a transposed convolution's weight has its outputs second; Project is a matrix of its inputs
        turned = isinstance(layer, NearestUpsample)
        matrix = (layer.weight.transpose(0, 1) if turned else layer.weight).flatten(1)
        assert torch.linalg.matrix_norm(matrix, 2).item() == pytest.approx(1, abs=0.02)


def test_self_attention_follows_its_formula():
    """Zhang 2019, equations 1 to 3, pixel by pixel; keys and values pooled as in the authors' networks."""
    torch.manual_seed(0)
    layer = SelfAttention(16).double()
    maps = torch.randn(2, 16, 4, 4, dtype=torch.float64)
    assert (layer(maps) == maps).all()  # gamma begins at 0
    layer.gamma.data.fill_(0.7)
    query, key, value = layer.query(maps), F.max_pool2d(layer.key(maps), 2), F.max_pool2d(layer.value(maps), 2)
    for row in range(4):
        for column in range(4):
            scores = torch.einsum("nc,ncij->nij", query[:, :, row, column], key)
            shares = scores.exp() / scores.exp().sum((1, 2), keepdim=True)
            found = torch.einsum("nij,ncij->nc", shares, value)
            out = found @ layer.out.weight[:, :, 0, 0].T + layer.out.bias
            expected = maps[:, :, row, column] + 0.7 * out
            torch.testing.assert_close(layer(maps)[:, :, row, column], expected)


@pytest.mark.parametrize(("size", "asked", "side"), [(16, 32, 8), (32, 32, 16), (64, 32, 32), (64, 16, 16)])
def test_sagan_attends_where_it_is_asked_to_if_that_fits(size, asked, side):
    settings, sides = SaganSettings(width=4, width_discriminator=4, attention=asked), []
    for network in (build("generator", "sagan", size, settings), build_discriminator("sagan", size, settings)):
        (layer,) = (module for module in network.modules() if isinstance(module, SelfAttention))
        layer.register_forward_hook(lambda _, given, __: sides.append(given[0].shape[-1]))
        network(torch.zeros(2, 128) if network.layers[-1].__class__ is torch.nn.Tanh else torch.zeros(2, 3, size, size))
    assert sides == [side, side]


def test_sngan_of_the_paper():
    """The 128x128 network of appendix B.4: channels 1024 to 64 and back, one more block, sums over pixels."""
    generator = build("generator", "sngan", 128, SnganSettings())
    assert [layer.channels for layer in generator.layers[1:6]] == [1024, 512, 256, 128, 64]
    discriminator = build_discriminator("sngan", 128, SnganSettings())
    assert [layer.channels for layer in discriminator.layers[:5]] == [64, 128, 256, 512, 1024]
    assert discriminator.layers[5](torch.zeros(1, 1024, 4, 4)).shape == (1, 1024, 4, 4)
    pooled = discriminator.layers[6](torch.full((1, 1024, 4, 4), 2.0, dtype=torch.bfloat16))
    assert pooled.dtype == torch.float32
    assert (pooled == 32).all()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in discriminator.modules())


def test_r3gan_begins_with_branches_that_add_nothing():
    """Fixup: at first every block passes its input on, whatever the depth; there is no norm."""
    torch.manual_seed(0)
    for depth in (1, 4):
        generator = build("generator", "r3gan", 32, R3ganSettings(width=8, depth=depth))
        assert not any("Norm" in type(module).__name__ for module in generator.modules())
        maps = torch.randn(2, 64, 4, 4)
        assert (generator.layers[1](maps) == maps).all()
        first = generator.layers[1].layers[0].weight
        expected = (2 / (1 + 0.2**2)) ** 0.5 * (4 * depth) ** -0.25 / 64**0.5
        assert first.std().item() == pytest.approx(expected, rel=0.05)


def test_resnet18_of_the_paper_has_its_size():
    network = build("detector", "resnet18", 32, Resnet18Settings())
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 1 + 4 * 4 + 3  # stem, four stages of two blocks of two, three fitted shortcuts
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(11.17e6, rel=0.01)


@pytest.mark.parametrize(("size", "side"), [(32, 32), (64, 64), (128, 64), (256, 64)])
def test_resnet18_stem_fits_the_image(size, side):
    network = build("detector", "resnet18", size, Resnet18Settings(width=8, depth=1))
    assert network.features(torch.zeros(1, 3, size, size)).shape[-1] == side
