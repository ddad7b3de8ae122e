"""The validation reals' features are measured once a run, whoever needs them first."""

import numpy as np
import torch

from duel.store import Store
from duel.sweep.yardsticks import real_features


class Means(torch.nn.Module):
    """A feature network for tests: the mean of each channel."""

    def forward(self, images):
        return images.float().mean((2, 3))


def test_features_are_measured_once_and_kept_in_the_store(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (70, 3, 8, 8), dtype=np.uint8)
    store, device = Store(str(tmp_path)), torch.device("cpu")
    first = real_features(store, Means(), images, device)
    assert np.allclose(first, images.mean((2, 3)), atol=1e-3)
    written = (tmp_path / "work" / "real_features.npy").stat().st_mtime_ns
    assert (real_features(store, Means(), np.zeros_like(images), device) == first).all()
    assert (tmp_path / "work" / "real_features.npy").stat().st_mtime_ns == written
