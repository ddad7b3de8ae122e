"""Fakes by their spectrum: upsampling leaves peaks among the high frequencies (Frank 2020)."""

from torch import Tensor, nn

from duel.families import SpectrumSettings
from duel.models.cnn import PlainCnn
from duel.models.detector import Detector
from duel.models.front_ends import LogSpectrum


class SpectrumDetector(Detector):
    """Images [N, 3, S, S] in [-1, 1] -> logits [N], high for fake, from their standardised log-spectrum.

    A `block` of 0, or one as large as the image or larger, stands for the whole image, as in the paper.
    """

    def __init__(self, image_size: int, settings: SpectrumSettings) -> None:
        super().__init__()
        block = min(settings.block or image_size, image_size)
        self.front = LogSpectrum(settings.transform, block)
        self.network = (
            PlainCnn(3, block, settings.width, settings.depth, settings.dropout)
            if settings.classifier == "cnn"
            else nn.Sequential(nn.Flatten(), nn.Dropout(settings.dropout), nn.Linear(3 * block**2, 1), nn.Flatten(0))
        )

    def logits(self, images: Tensor) -> Tensor:
        """Logits of images."""
        return self.network(self.front(images))
