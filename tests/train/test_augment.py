import io
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode

from duel.train import augment
from duel.train.augment import blur, colour, cutout, diff_augment, flip, jpeg, jpeg_round_trip, noise, translate


def smooth_images(count, size, seed=0):
    """Colour images in [-1, 1] with the soft structure of photographs, on the grid of bytes."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=rng) * 2 - 1
    images = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(-1, 1)
    return (images * 127.5 + 127.5).round() / 127.5 - 1


def pillow_jpeg(image, quality):
    array = (image.permute(1, 2, 0).numpy() * 127.5 + 127.5).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=quality, subsampling=2)
    return np.asarray(Image.open(buffer)).astype(int).transpose(2, 0, 1)


@pytest.mark.parametrize("change", [diff_augment, colour, translate, cutout])
def test_diff_augment_keeps_shape_and_passes_gradients(change):
    torch.manual_seed(0)
    images = smooth_images(6, 32).requires_grad_()
    changed = change(images)
    assert changed.shape == images.shape
    assert changed.dtype == torch.float32
    changed.sum().backward()
    assert images.grad.isfinite().all()
    assert (images.grad.abs().sum((1, 2, 3)) > 0).all()


def test_each_image_gets_its_own_change():
    torch.manual_seed(0)
    same = smooth_images(1, 32).repeat(8, 1, 1, 1)
    for change in (colour, translate, cutout):
        changed = change(same)
        assert len({tuple(image.flatten().tolist()) for image in changed}) > 4


def test_translate_moves_by_at_most_an_eighth():
    torch.manual_seed(0)
    dot = torch.zeros(200, 1, 32, 32)
    dot[:, :, 16, 10] = 1
    rows, columns = (translate(dot) == 1).nonzero(as_tuple=True)[2:]
    assert len(rows) == 200
    assert (rows.min(), rows.max()) == (12, 20)
    assert (columns.min(), columns.max()) == (6, 14)


def test_cutout_removes_at_most_a_quarter():
    torch.manual_seed(0)
    left = cutout(torch.ones(200, 3, 32, 32)).mean((1, 2, 3))
    assert left.min() == pytest.approx(0.75)
    assert left.max() < 1


def test_chances():
    torch.manual_seed(0)
    images = smooth_images(400, 16)
    for change in (flip, blur, jpeg, partial(noise, strongest=10)):
        assert (change(images, 0.0) == images).all()
        changed = (change(images, 0.25) != images).flatten(1).any(1).float().mean()
        assert changed == pytest.approx(0.25, abs=0.08)
        assert (change(images, 1.0) != images).flatten(1).any(1).float().mean() > 0.8


def test_flip_mirrors():
    images = smooth_images(3, 16)
    assert (flip(images, 1.0) == images.flip(-1)).all()


def test_blur_keeps_brightness_and_softens():
    torch.manual_seed(0)
    images = torch.rand(20, 3, 64, 64) * 2 - 1
    soft = blur(images, 1.0)
    assert blur(torch.ones(4, 3, 64, 64), 1.0) == pytest.approx(1, abs=1e-5)
    assert (soft.std((1, 2, 3)) <= images.std((1, 2, 3)) + 1e-6).all()
    assert soft.std() < 0.9 * images.std()


def test_blur_is_at_most_as_strong_as_asked():
    """A point spread by a Gaussian keeps its sum; the variance along a line is sigma squared."""
    torch.manual_seed(0)
    dot = torch.zeros(300, 1, 64, 64)
    dot[:, :, 32, 32] = 1
    for strongest in (2.0, 8.0):
        spread = (blur(dot, 1.0, strongest).sum((1, 2)) * (torch.arange(64) - 32.0) ** 2).sum(1).sqrt()
        assert 0.9 < spread.max() / (strongest * 64 / 256) < 1.1
    assert torch.allclose(blur(dot, 1.0, 0.1), dot)


def test_jpeg_is_at_least_as_good_as_asked():
    images = smooth_images(1, 32).repeat(200, 1, 1, 1)
    damage = {}
    for lowest in (10, 90):
        torch.manual_seed(0)
        damage[lowest] = (jpeg(images, 1.0, lowest) - images).abs().mean((1, 2, 3))
        worst = (jpeg_round_trip(images[:1], torch.full((1, 1, 1, 1), float(lowest))) - images[:1]).abs().mean()
        assert damage[lowest].max() == pytest.approx(worst.item(), rel=0.1)
    assert damage[10].max() > 2 * damage[90].max()


def test_noise_is_gaussian_and_at_most_as_strong_as_asked():
    torch.manual_seed(0)
    grey = torch.zeros(400, 3, 16, 16)
    levels = (noise(grey, 1.0, 20.0) * 127.5).flatten(1)
    sigma = levels.std(1)
    assert 18 < sigma.max() < 22
    assert sigma.mean() == pytest.approx(10, abs=1)  # evenly from none to the strongest
    assert (levels / sigma[:, None]).square().square().mean() == pytest.approx(3, abs=0.1)  # a Gaussian's kurtosis
    assert noise(torch.ones(2, 3, 16, 16), 1.0, 20.0).max() <= 1


@pytest.mark.parametrize("quality", [30, 50, 75, 95])
def test_jpeg_does_what_libjpeg_does(quality):
    images = smooth_images(6, 64)
    mine = jpeg_round_trip(images, torch.full((6, 1, 1, 1), float(quality)))
    mine = (mine * 127.5 + 127.5).round().int().numpy()
    theirs = np.stack([pillow_jpeg(image, quality) for image in images])
    assert np.abs(mine - theirs).mean() < 1  # grey level; libjpeg also rounds between its steps


def test_jpeg_quality_is_taken_per_image():
    images = smooth_images(1, 32).repeat(2, 1, 1, 1)
    quality = torch.tensor([30.0, 95.0]).view(2, 1, 1, 1)
    damage = (jpeg_round_trip(images, quality) - images).abs().mean((1, 2, 3))
    assert damage[0] > 2 * damage[1]


def test_jpeg_makes_its_tables_once_and_for_training(monkeypatch):
    """Made anew they would be copied to a GPU at each step, which waits for it."""
    monkeypatch.setattr(augment, "_placed", {})
    images = smooth_images(2, 32)
    with torch.inference_mode():
        first = jpeg_round_trip(images, torch.full((2, 1, 1, 1), 50.0))
    monkeypatch.setattr(augment, "_make_tables", None)
    images.requires_grad_()
    again = jpeg_round_trip(images, torch.full((2, 1, 1, 1), 50.0))
    again.sum().backward()
    assert (again == first).all()


def test_a_simulation_leaves_no_tables_behind(monkeypatch):
    monkeypatch.setattr(augment, "_placed", {})
    with FakeTensorMode():
        jpeg_round_trip(torch.zeros(2, 3, 32, 32), torch.full((2, 1, 1, 1), 50.0))
    assert type(jpeg_round_trip(smooth_images(2, 32), torch.full((2, 1, 1, 1), 50.0))) is torch.Tensor
