"""A linear probe: the features of a network that never saw a fake, and a linear head (Ojha 2023)."""

from collections.abc import Callable
from typing import Self

from torch import Tensor, nn

from duel.families import ProbeSettings
from duel.models.detector import Detector
from duel.models.feature_network import efficientnet_lite0

FEATURES = 1280


class ProbeDetector(Detector):
    """Images [N, 3, S, S] in [-1, 1] -> logits [N], high for fake: a linear head on frozen ImageNet features.

    The paper's features are CLIP's; these are EfficientNet-Lite0's, which are always at hand. They are standardised
    before the head, as is usual for probes (He 2022, appendix A.1). Only the head is trained and saved.
    """

    def __init__(self, image_size: int, settings: ProbeSettings) -> None:
        super().__init__()
        # In a tuple no one finds it: it is neither trained nor saved, nor put into training mode.
        self._frozen = (efficientnet_lite0(settings.input_size),)
        self.head = nn.Sequential(
            nn.BatchNorm1d(FEATURES, affine=False), nn.Dropout(settings.dropout), nn.Linear(FEATURES, 1), nn.Flatten(0)
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What moves this network, or changes its memory format, moves the frozen one too."""
        self._frozen[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def logits(self, images: Tensor) -> Tensor:
        """Logits of images."""
        return self.head(self._frozen[0]((images.float() + 1.0) * 127.5))
