"""Many small judgements instead of one: each from a patch, their logits averaged (Chai 2020)."""

import torch.nn.functional as F
from torch import Tensor, nn

from duel.device import full_precision
from duel.families import PatchSettings
from duel.models.detector import Detector
from duel.models.front_ends import GAIN


class Contrast(nn.Conv2d):
    """A 3x3 convolution without padding that is blind to brightness: its kernels are used less their means.

    Nearly all of an image's power is in its brightness, next to which a convolution hardly learns of fine traces.
    After Bayar & Stamm 2016, whose first layer is held to prediction errors; in float32, as the fixed front ends.
    """

    def __init__(self, out_channels: int, stride: int) -> None:
        super().__init__(3, out_channels, 3, stride)

    def forward(self, images: Tensor) -> Tensor:
        """Maps of images."""
        with full_precision(images.device):
            kernels = self.weight - self.weight.mean((2, 3), keepdim=True)
            return F.conv2d(images.float(), GAIN * kernels, self.bias, self.stride)


class PatchDetector(Detector):
    """Images [N, 3, S, S] in [-1, 1] -> logits [N], high for fake: the mean of all patches' logits.

    `depth` convolutions of 3x3 without padding, the first in steps of `stride`: a logit sees a square of
    3 + 2 stride (depth - 1) pixels and nothing else, not even where it lies.
    """

    def __init__(self, image_size: int, settings: PatchSettings) -> None:
        super().__init__()
        width = settings.width
        layers: list[nn.Module] = [Contrast(width, settings.stride), nn.ReLU(inplace=True)]
        for _ in range(settings.depth - 1):
            layers += [nn.Conv2d(width, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(settings.dropout), nn.Conv2d(width, 1, 1))

    def patch_logits(self, images: Tensor) -> Tensor:
        """Logits of all patches: [N, P, P]."""
        return self.head(self.features(images)).squeeze(1)

    def logits(self, images: Tensor) -> Tensor:
        """Logits of images."""
        return self.patch_logits(images).float().mean((1, 2))
