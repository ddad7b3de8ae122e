"""The plain CNN that detects fakes in many a course: convolution, ReLU, pooling, two dense layers."""

import torch
from torch import Tensor, nn

from duel.families import CnnSettings
from duel.models.detector import Detector

HIDDEN = 128  # units of the first dense layer
SMALLEST = 2  # side of a feature map that is not pooled further
WIDEST = 512


class PlainCnn(nn.Module):
    """Maps [N, channels, side, side] -> logits [N].

    Each of the `depth` stages halves the maps, down to 2x2; stages beyond that keep their size. `width` is the
    first stage's and doubles a stage.
    """

    def __init__(self, channels: int, side: int, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for stage in range(depth):
            after = min(width * 2**stage, max(width, WIDEST))
            layers.append(nn.Conv2d(before, after, 3, padding=1))
            if side > SMALLEST:
                layers.append(nn.MaxPool2d(2))  # before the ReLU: the same numbers, a quarter of its work
                side //= 2
            layers.append(nn.ReLU(inplace=True))
            before = after
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(before * side * side, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(HIDDEN, 1),
            nn.Flatten(0),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Logits of maps."""
        maps = self.features(maps)
        if maps.requires_grad:
            # Its gradient comes out of Flatten in the plain layout; every layer before would have to convert it.
            maps.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
        return self.head(maps)


class CnnDetector(Detector):
    """Images [N, 3, S, S] in [-1, 1] -> logits [N], high for fake: a PlainCnn on the pixels."""

    def __init__(self, image_size: int, settings: CnnSettings) -> None:
        super().__init__()
        self.network = PlainCnn(3, image_size, settings.width, settings.depth, settings.dropout)

    def logits(self, images: Tensor) -> Tensor:
        """Logits of images."""
        return self.network(images)
