"""What single networks promise beyond the contract."""

import pytest
import torch
import torch.nn.functional as F

from duel.device import autocast
from duel.families import DcganSettings, Resnet18Settings
from duel.models import build, build_discriminator
from duel.models.layers import NearestUpsample, spectral


def test_nearest_upsample_is_nearest_then_convolution():
    layer = NearestUpsample(5, 7).double()
    x = torch.randn(2, 5, 8, 8, dtype=torch.float64)
    # a transposed convolution reads its kernel mirrored
    kernel = layer.weight.flip(2, 3).transpose(0, 1)
    expected = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), kernel, padding=1)
    torch.testing.assert_close(layer(x), expected)


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


def test_resnet18_of_the_paper_has_its_size():
    network = build("detector", "resnet18", 32, Resnet18Settings())
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 1 + 4 * 4 + 3  # stem, four stages of two blocks of two, three fitted shortcuts
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(11.17e6, rel=0.01)


@pytest.mark.parametrize(("size", "side"), [(32, 32), (64, 64), (128, 64), (256, 64)])
def test_resnet18_stem_fits_the_image(size, side):
    network = build("detector", "resnet18", size, Resnet18Settings(width=8, depth=1))
    assert network.features(torch.zeros(1, 3, size, size)).shape[-1] == side
