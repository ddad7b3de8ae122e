from contextlib import nullcontext

import numpy as np
import pytest
import torch

from duel import metrics
from duel.errors import UsageError
from duel.metrics import (
    FEATURE_NETWORK,
    FEATURE_NETWORKS,
    KidScorer,
    feature_network,
    features,
    kid,
    kid_of_halves,
    noise_images,
)


def plain_kid(x, y):
    """Binkowski 2018: the unbiased squared MMD under (x.y / D + 1)^3, pair by pair."""

    def kernel(a, b):
        return (a.astype(np.float64) @ b.astype(np.float64).T / a.shape[1] + 1) ** 3

    n, m = len(x), len(y)
    xx, yy = kernel(x, x), kernel(y, y)
    same = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return same - 2 * kernel(x, y).mean()


class Colours(torch.nn.Module):
    """A feature network for tests: the mean and the spread of each channel."""

    name = "colours"

    def forward(self, images):
        x = images.float() / 64
        return torch.cat([x.mean((2, 3)), x.std((2, 3))], 1)


@pytest.fixture(scope="module")
def network():
    return feature_network()


def test_kid_follows_the_formula():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 16)).astype(np.float32), rng.normal(0.5, 1, size=(80, 16)).astype(np.float32)
    assert kid(x, y) == pytest.approx(plain_kid(x, y), rel=1e-9)


def test_kid_is_that_of_torchmetrics():
    poly_mmd = pytest.importorskip("torchmetrics.image.kid").poly_mmd
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(70, 40)), rng.normal(0.3, 1, size=(70, 40))
    assert kid(x, y) == pytest.approx(poly_mmd(torch.from_numpy(x), torch.from_numpy(y)).item(), rel=1e-12)


def test_kid_averages_over_subsets():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(120, 8)), rng.normal(0.5, 1, size=(90, 8))
    assert kid(x, y, seed=3, subsets=200, subset_size=50) == pytest.approx(plain_kid(x, y), rel=0.05)
    assert kid(x, y, seed=3) == kid(x, y, seed=3)
    assert kid(x, y, seed=3) != kid(x, y, seed=4)


def test_kid_is_to_the_bit_that_of_subsets_drawn_one_after_the_other():
    """Numbers of runs before it could be computed on a GPU stay true."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 64)).astype(np.float32), rng.normal(0.1, 1, size=(250, 64)).astype(np.float32)
    x.flags.writeable = False  # as what Ray shares
    y = y[::-1]
    draws, scores = np.random.default_rng(5), []
    for _ in range(10):
        a, b = (torch.tensor(f[draws.permutation(len(f))[:200]]).double() for f in (x, y))
        aa, bb, ab = ((p @ q.T / 64 + 1) ** 3 for p, q in ((a, a), (b, b), (a, b)))
        among = sum((k.sum() - k.trace()) / (200 * 199) for k in (aa, bb))
        scores.append((among - 2 * ab.mean()).item())
    assert kid(x, y, 5, subset_size=200) == float(np.mean(scores))
    assert kid(torch.tensor(x), y, 5, subset_size=200) == float(np.mean(scores))


def test_kid_is_computed_where_the_scorer_computes(monkeypatch):
    """On a GPU's CPU it would take seconds a report. A meta device stands for the GPU: it holds no numbers."""
    seen = []

    def squared_mmd(x, y):
        seen.append((x.device.type, x.dtype, tuple(x.shape), y.device.type, tuple(y.shape)))
        return torch.ones((), dtype=torch.float64)

    monkeypatch.setattr(metrics, "_squared_mmd", squared_mmd)
    monkeypatch.setattr(metrics, "autocast", lambda device: nullcontext())
    scorer = KidScorer(Colours(), np.zeros((1500, 6), np.float32), torch.device("meta"))
    assert scorer(noise_images(1200, 16, 0)) == 1.0
    assert seen == [("meta", torch.float64, (1000, 6), "meta", (1000, 6))] * 10


def test_kid_needs_two_images_a_side():
    with pytest.raises(UsageError, match="at least 2 images a side, got 1 and 5"):
        kid(np.zeros((1, 4)), np.zeros((5, 4)))


def test_kid_of_the_same_distribution_is_near_zero_and_far_below_noise():
    scorer = scorer_of(Colours(), faces_like(400, 0))
    reals = abs(kid_of_halves(scorer.real_features))
    unseen = abs(scorer(faces_like(400, 1)))
    noise = scorer(noise_images(400, 16, 0))
    assert reals < 0.01 * noise
    assert unseen < 0.01 * noise


def faces_like(count, seed):
    """Images with colours of their own, that vary."""
    rng = np.random.default_rng(seed)
    level = rng.normal((150, 110, 90), 20, size=(count, 3))[:, :, None, None]
    return np.clip(level + rng.normal(0, 10, (count, 3, 16, 16)), 0, 255).astype(np.uint8)


def scorer_of(network, reals):
    return KidScorer(network, features(network, reals, torch.device("cpu")), torch.device("cpu"))


def test_feature_network_is_frozen_and_tells_noise_from_faces(network):
    assert network.name == FEATURE_NETWORK
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    got = features(network, faces_like(6, 0), torch.device("cpu"), batch=4)
    assert got.shape == (6, 1280)
    assert got.dtype == np.float32
    assert np.isfinite(got).all()
    scorer = scorer_of(network, faces_like(40, 0))
    assert scorer(faces_like(40, 1)) < 0.2 * scorer(noise_images(40, 16, 0))


def test_features_do_not_depend_on_batches(network):
    images = faces_like(6, 0)
    one = features(network, images, torch.device("cpu"), batch=1)
    assert features(network, images, torch.device("cpu"), batch=6) == pytest.approx(one, abs=0.05)


def test_feature_network_reads_any_size(network):
    for size in (16, 64, 256):
        assert features(network, noise_images(2, size, 0), torch.device("cpu")).shape == (2, 1280)


def test_names_of_feature_networks():
    assert FEATURE_NETWORK in FEATURE_NETWORKS
    with pytest.raises(UsageError, match="feature_network: 'vgg' is unknown; allowed: efficientnet"):
        feature_network("vgg")


def test_noise_images():
    noise = noise_images(20, 32, 5)
    assert noise.shape == (20, 3, 32, 32)
    assert noise.dtype == np.uint8
    assert 125 < noise.mean() < 130
    assert (noise == noise_images(20, 32, 5)).all()
    assert (noise != noise_images(20, 32, 6)).any()
