"""ResNet-18 (He, Zhang, Ren & Sun 2016) of torchvision's blocks, with a stem that fits small images."""

from itertools import pairwise

from torch import Tensor, nn

from duel.families import Resnet18Settings
from duel.models.detector import Detector

LARGEST_MAP = 64  # side of the feature maps that the first stage may see


def _stem(image_size: int, width: int) -> list[nn.Module]:
    """The paper's stem divides the side by 4; here it does so only as far as the image exceeds 64x64."""
    if image_size <= LARGEST_MAP:
        convolution = nn.Conv2d(3, width, 3, padding=1, bias=False)
    else:
        convolution = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
    layers: list[nn.Module] = [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    if image_size > 2 * LARGEST_MAP:
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    return layers


def _stage(before: int, after: int, stride: int) -> nn.Sequential:
    """Two basic blocks; the first fits the shortcut where size or channels change."""
    from torchvision.models.resnet import (
        BasicBlock,  # takes seconds, which other families' processes can spare
    )

    shortcut = None
    if stride != 1 or before != after:
        shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
    return nn.Sequential(BasicBlock(before, after, stride, shortcut), BasicBlock(after, after))


class Resnet18Detector(Detector):
    """Images [N, 3, S, S] in [-1, 1] -> logits [N], high for fake. `depth` keeps the first stages of four."""

    def __init__(self, image_size: int, settings: Resnet18Settings) -> None:
        super().__init__()
        widths = [settings.width * 2**stage for stage in range(settings.depth)]
        stages = [_stage(widths[0], widths[0], stride=1)]
        stages += [_stage(before, after, stride=2) for before, after in pairwise(widths)]
        self.features = nn.Sequential(*_stem(image_size, settings.width), *stages)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(settings.dropout),
            nn.Linear(widths[-1], 1),
            nn.Flatten(0),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def logits(self, images: Tensor) -> Tensor:
        """Logits of images."""
        return self.head(self.features(images))
