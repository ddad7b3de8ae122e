"""The plain CNN that detects fakes in many a course: convolution, ReLU, pooling, two dense layers."""

import torch
from torch import Tensor, nn

from duel.families import CnnSettings

HIDDEN = 128  # units of the first dense layer
SMALLEST = 2  # side of a feature map that is not pooled further
WIDEST = 512


class CnnDetector(nn.Module):
    """Images [N, 3, S, S] in [-1, 1] -> logits [N], high for fake.

    Each stage halves the image, down to 2x2; stages beyond that keep its size.
    """

    def __init__(self, image_size: int, settings: CnnSettings) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, side = 3, image_size
        for stage in range(settings.depth):
            after = min(settings.width * 2**stage, max(settings.width, WIDEST))
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
            nn.Dropout(settings.dropout),
            nn.Linear(HIDDEN, 1),
            nn.Flatten(0),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        maps = self.features(images)
        if maps.requires_grad:
            # Its gradient comes out of Flatten in the plain layout; every layer before would have to convert it.
            maps.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
        return self.head(maps)
