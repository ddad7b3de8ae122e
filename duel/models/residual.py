"""Noise residuals before a CNN: what is left of an image once its content is predicted away."""

from torch import Tensor

from duel.families import ResidualSettings
from duel.models.cnn import PlainCnn
from duel.models.detector import Detector
from duel.models.front_ends import Npr, Srm


class ResidualDetector(Detector):
    """Images [N, 3, S, S] in [-1, 1] -> logits [N], high for fake: a PlainCnn on fixed residuals.

    front: 'srm' (Fridrich & Kodovsky 2012, as Zhou 2018 uses it) or 'npr' (Tan 2024).
    """

    def __init__(self, image_size: int, settings: ResidualSettings) -> None:
        super().__init__()
        self.front = Srm() if settings.front == "srm" else Npr()
        self.network = PlainCnn(self.front.channels, image_size, settings.width, settings.depth, settings.dropout)

    def logits(self, images: Tensor) -> Tensor:
        """Logits of images."""
        return self.network(self.front(images))
