"""What every detector is: images to logits, and a calibration of these logits."""

import copy

import torch
from torch import Tensor, nn


class Detector(nn.Module):
    """Images [N, 3, S, S] in [-1, 1] -> scale * logits + shift, float32 [N], high for fake.

    A family implements `logits`. The two buffers are 1 and 0 while it is trained and are set once it has been
    (Platt 1999), so that P(fake) = sigmoid(output) can be taken at 0.5. They belong to the weights on disk.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))

    def logits(self, images: Tensor) -> Tensor:
        """The network's own answers [N]."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Calibrated logits of images."""
        # in float32: rounded to bfloat16 once more, different answers could become the same
        return self.scale * self.logits(images).float() + self.shift

    def calibrate(self, scale: float, shift: float) -> None:
        """Sets the calibration; (1, 0) takes it away. The ranking of images stays for any scale above 0."""
        self.scale.fill_(scale)
        self.shift.fill_(shift)


def calibrated(detector: Detector, scale: float, shift: float) -> Detector:
    """A copy of `detector` in eval mode with this calibration."""
    detector = copy.deepcopy(detector).eval()
    detector.calibrate(scale, shift)
    return detector
