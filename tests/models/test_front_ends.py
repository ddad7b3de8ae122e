"""The fixed front ends against scipy and numpy, and what the detectors behind them promise."""

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import torch

from duel.device import autocast
from duel.families import PatchSettings, ProbeSettings, SpectrumSettings
from duel.models import build
from duel.models.front_ends import FLOOR, GAIN, LogSpectrum, Npr, Srm, dct_matrix, log_power, srm_kernels

CPU = torch.device("cpu")


@pytest.fixture
def some():
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def channels_last(images):
    return images.contiguous(memory_format=torch.channels_last)


def test_srm_kernels_are_blind_to_what_a_plane_predicts():
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="ij")
    for kernel in srm_kernels():
        for plane in (torch.ones(5, 5), x, y):
            assert (kernel * plane).sum().item() == pytest.approx(0, abs=1e-6)
        assert kernel[2, 2].item() == -1  # a pixel less its prediction, in units of a pixel


def test_srm_filters_each_colour(some):
    got = Srm()(channels_last(some)).numpy()
    for colour in range(3):
        for number, kernel in enumerate(srm_kernels().numpy()):
            wanted = [scipy.ndimage.correlate(image[colour].numpy(), kernel, mode="mirror") for image in some]
            assert got[:, 3 * colour + number] == pytest.approx(GAIN * np.stack(wanted), abs=1e-4)


def test_npr_is_what_a_pixel_has_over_the_upper_left_of_its_square(some):
    pixels = some.numpy()
    corners = np.repeat(np.repeat(pixels[..., ::2, ::2], 2, axis=-2), 2, axis=-1)
    assert Npr()(channels_last(some)).numpy() == pytest.approx(GAIN * (pixels - corners), abs=1e-6)


def test_dct_matrix_is_scipys():
    assert dct_matrix(12).numpy() == pytest.approx(scipy.fft.dct(np.eye(12), axis=0, norm="ortho"), abs=1e-6)


@pytest.mark.parametrize("block", [8, 16])
@pytest.mark.parametrize("transform", ["dct", "fft"])
def test_log_power_is_that_of_scipy(some, transform, block):
    got = log_power(channels_last(some), transform, block, dct_matrix(block)).numpy()
    power = np.zeros((4, 3, block, block))
    corners = [(row, column) for row in range(0, 16, block) for column in range(0, 16, block)]
    for row, column in corners:
        part = some[..., row : row + block, column : column + block].numpy()
        if transform == "dct":
            power += scipy.fft.dctn(part, axes=(2, 3), norm="ortho") ** 2
        else:
            turned = scipy.fft.fftn(part, axes=(2, 3), norm="ortho")
            power += np.abs(scipy.fft.fftshift(turned, axes=(2, 3))) ** 2
    assert got == pytest.approx(np.log(power / len(corners) + FLOOR), abs=1e-3)


def test_fixed_front_ends_keep_float32_under_autocast(some):
    """In bfloat16 a pixel near 1 has steps of a whole grey level."""
    for front in (Srm(), Npr(), LogSpectrum("dct", 16).eval(), LogSpectrum("fft", 8).eval()):
        with autocast(CPU):
            got = front(some)
        assert got.dtype == torch.float32
        assert (got == front(some)).all()


def test_log_spectra_are_standardised_at_each_frequency(some):
    front = LogSpectrum("dct", 16)
    got = front(some)
    assert got.mean(0).abs().max() < 1e-3
    assert got.var(0, correction=0) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("block", [0, 64])
def test_block_of_the_whole_image(block):
    network = build("detector", "spectrum", 32, SpectrumSettings(block=block))
    assert network.front.block == 32


@pytest.mark.parametrize(("depth", "stride", "side"), [(1, 1, 3), (3, 1, 7), (4, 2, 15)])
def test_a_patch_sees_its_square_and_no_more(depth, stride, side):
    torch.manual_seed(0)
    network = build("detector", "patch", 32, PatchSettings(depth=depth, stride=stride)).eval()
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    network.patch_logits(image)[0, 2, 1].backward()
    rows, columns = image.grad[0].abs().sum(0).nonzero(as_tuple=True)
    assert (rows.min().item(), rows.max().item()) == (2 * stride, 2 * stride + side - 1)
    assert (columns.min().item(), columns.max().item()) == (stride, stride + side - 1)


def test_patches_are_blind_to_brightness(some):
    network = build("detector", "patch", 16, PatchSettings()).eval()
    assert torch.allclose(network(some), network(some + 0.25), atol=1e-4)


def test_a_probe_trains_and_saves_its_head_alone(some):
    network = build("detector", "probe", 16, ProbeSettings(input_size=32)).train()
    frozen = network._frozen[0]
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    adam = torch.optim.Adam(network.parameters(), 0.1)
    network(some).sum().backward()
    adam.step()
    assert {name for name, _ in network.named_parameters()} == {"head.2.weight", "head.2.bias"}
    assert set(network.state_dict()) == {
        *("scale", "shift", "head.0.running_mean", "head.0.running_var", "head.0.num_batches_tracked"),
        *("head.2.weight", "head.2.bias"),
    }
    assert not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert all((value == before[name]).all() for name, value in frozen.state_dict().items())


def test_a_probe_moves_as_a_whole():
    network = build("detector", "probe", 16, ProbeSettings(input_size=32)).to("meta")
    assert {p.device.type for p in network._frozen[0].parameters()} == {"meta"}


def test_a_probe_sees_what_the_feature_network_sees():
    network = build("detector", "probe", 32, ProbeSettings(input_size=128)).eval()
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features = network._frozen[0](pixels)
    assert torch.allclose(network(pixels.float() / 127.5 - 1), network.head(features), atol=1e-3)
