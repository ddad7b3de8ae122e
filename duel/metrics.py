"""How good fakes are: KID on a named feature network."""

import numpy as np
import torch
from torch import Tensor, nn

from duel.device import autocast, in_batches
from duel.errors import UsageError
from duel.models.feature_network import FEATURE_NETWORKS as FEATURE_NETWORKS
from duel.models.feature_network import FeatureNetwork as FeatureNetwork
from duel.models.feature_network import feature_network as feature_network
from duel.rules.scores import FEATURE_NETWORK as FEATURE_NETWORK


def features(network: nn.Module, images: np.ndarray, device: torch.device, batch: int | None = None) -> np.ndarray:
    """float32 [N, D]: the features of uint8 images [N, 3, S, S] by `network`, which is on `device`."""
    return _features(network, images, device, batch).cpu().numpy()


@torch.inference_mode()
def _features(network: nn.Module, images: np.ndarray, device: torch.device, batch: int | None = None) -> Tensor:
    parts = []
    for part in in_batches(images, device, batch):
        with autocast(device):
            parts.append(network(part))
    return torch.cat(parts)


def kid(
    real_features: np.ndarray | Tensor,
    fake_features: np.ndarray | Tensor,
    seed: int = 0,
    subsets: int = 10,
    subset_size: int = 1000,
    device: torch.device | None = None,
) -> float:
    """Kernel inception distance (Binkowski 2018): lower is better, 0 in the mean for the same distribution.

    The unbiased squared MMD of features [N, D] and [M, D] with the kernel (x.y / D + 1)^3, averaged over
    `subsets` random subsets of `subset_size` (or of all there are, where there are fewer). It can be
    slightly negative. Computed on `device`, default the CPU; devices differ in the last digits.
    Raises UsageError for fewer than 2 features on a side.
    """
    size = min(subset_size, len(real_features), len(fake_features))
    if size < 2:
        raise UsageError(f"KID needs at least 2 images a side, got {len(real_features)} and {len(fake_features)}")
    if size == len(real_features) == len(fake_features):
        subsets = 1  # every subset would be the whole
    rng = np.random.default_rng(seed)
    sides = [_placed(side, device or torch.device("cpu")) for side in (real_features, fake_features)]
    # all subsets are drawn before the first is used, so that a GPU is waited for once
    drawn = np.array([[rng.permutation(len(side))[:size] for side in sides] for _ in range(subsets)])
    scores = []
    for rows in torch.from_numpy(drawn).to(sides[0].device):
        # float64: the distance is a small difference of large sums
        real, fake = (side[chosen].double() for side, chosen in zip(sides, rows, strict=True))
        scores.append(_squared_mmd(real, fake))
    return float(np.mean(torch.stack(scores).cpu().numpy()))


def _placed(features: np.ndarray | Tensor, device: torch.device) -> Tensor:
    if isinstance(features, np.ndarray):
        # in order and writable, as torch asks for
        features = torch.from_numpy(np.require(features, requirements=["C", "W"]))
    return features.to(device)


def _squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    """The unbiased estimate, a scalar, from features [N, D] and [N, D]: no point is compared with itself.

    As torchmetrics' poly_mmd, which a test holds it to; that import costs every worker two seconds.
    """

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def among(a: Tensor) -> Tensor:
        products = kernel(a, a)
        return (products.sum() - products.trace()) / (len(a) * (len(a) - 1))

    return among(x) + among(y) - 2 * kernel(x, y).mean()


def kid_of_halves(real_features: np.ndarray, seed: int = 0, device: torch.device | None = None) -> float:
    """KID of one half of the reals against the other, computed on `device`: what a perfect generator would get."""
    order = np.random.default_rng(seed).permutation(len(real_features))
    half = len(order) // 2
    return kid(real_features[order[:half]], real_features[order[half:]], seed, device=device)


class KidScorer:
    """KID of fakes against one set of reals, given by their features [N, D] by `network`, which is on `device`.

    All is computed there: on a GPU a report costs milliseconds, on the CPU beside it seconds.
    """

    def __init__(self, network: nn.Module, real_features: np.ndarray, device: torch.device, seed: int = 0) -> None:
        self.network, self.real_features, self.device, self.seed = network, real_features, device, seed
        self._known = _placed(real_features, device)

    def __call__(self, fakes: np.ndarray) -> float:
        """KID of uint8 fakes [N, 3, S, S]."""
        return kid(self._known, _features(self.network, fakes, self.device), self.seed, device=self.device)


def noise_images(count: int, size: int, seed: int) -> np.ndarray:
    """Uniform noise, uint8 [count, 3, size, size]: the yardstick for a generator that has learnt nothing."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8)
