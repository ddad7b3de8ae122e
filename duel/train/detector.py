"""Supervised training of one detector on reals and fakes, half and half."""

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from duel.device import autocast, place, to_network
from duel.errors import DuelError
from duel.families import DetectorSettings
from duel.losses import detector_loss
from duel.models import build
from duel.models.detector import Detector, calibrated
from duel.models.inference import predict_logits
from duel.rules.match import THRESHOLD
from duel.rules.scores import auc, calibration, calibration_error, sigmoid
from duel.train.augment import blur, flip, jpeg, noise
from duel.train.graphs import Values, recordable
from duel.train.loop import Diverged, ImageFeed, Trainer, mix, seeded


class DetectorTrainer(Trainer):
    """Trains a detector of `family` on `reals` and `fakes`, uint8 [N, 3, S, S] and [M, 3, S, S].

    known: bool [of validation fakes], which are of generators that it trains on: it is calibrated on these alone, so
    that others stay unseen; default all.
    start: a detector's state dict to start from, calibrated or not; without it the first weights are random.
    Reports hold "auc", "accuracy" (at P(fake) = 0.5) and "calibration_error" on the validation images, both
    classes weighing the same and the last two of the calibrated network, and "loss". "images" counts reals and
    fakes shown; the two keep to half of each batch.
    """

    def __init__(
        self,
        family: str,
        settings: DetectorSettings,
        reals: np.ndarray,
        fakes: np.ndarray,
        val_reals: np.ndarray,
        val_fakes: np.ndarray,
        known: np.ndarray | None = None,
        *,
        image_size: int,
        device: torch.device,
        seed: int,
        start: dict[str, Tensor] | None = None,
    ) -> None:
        self._half = settings.batch_size // 2
        super().__init__(batch_size=2 * self._half, device=device, seed=seed)
        self.settings = settings
        self._reals = ImageFeed(reals, mix(seed, 1), device)
        self._fakes = ImageFeed(fakes, mix(seed, 2), device)
        self._val_reals, self._val_fakes = val_reals, val_fakes
        self._known = np.ones(len(val_fakes), bool) if known is None else known
        self._read_at = -1  # the image count at which the validation images were last read
        self._is_fake = torch.arange(2 * self._half, device=device) >= self._half
        with seeded(device, seed, 3):
            network = cast(Detector, build("detector", family, image_size, settings))
        self._network = cast(Detector, place(network if start is None else _started(network, start), device))
        adam = torch.optim.AdamW(
            self._network.parameters(), settings.lr, weight_decay=settings.weight_decay, fused=True
        )
        self._adam = recordable(adam, device)
        self.parts = {"detector": self._network, "adam": self._adam}

    @property
    def detector(self) -> Detector:
        """A copy of the network as trained so far, calibrated on the validation images, in eval mode."""
        return calibrated(self._network, *self._calibration())

    def _calibration(self) -> tuple[float, float]:
        """Scale and shift, from the reals and the fakes of known generators."""
        on_reals, on_fakes = self._validation_logits()
        return calibration(on_reals, on_fakes[self._known], self.settings.false_alarms)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to `state`."""
        super().load_state_dict(state)
        self._read_at = -1

    def _inputs(self) -> Values:
        position = self.images // 2
        return {"images": torch.cat([feed.batch(position, self._half) for feed in (self._reals, self._fakes)])}

    def _step(self, kind: None, inputs: Values) -> Values:
        images = self._augment(to_network(inputs["images"]))
        self._network.train()
        with autocast(self.device):
            logits = self._network(images)
        loss = detector_loss(logits, self._is_fake)
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        self._adam.step()
        return {"loss": loss}

    def _augment(self, images: Tensor) -> Tensor:
        at = self.settings
        if at.flip > 0:
            images = flip(images, at.flip)
        if at.blur > 0:
            images = blur(images, at.blur, at.blur_sigma)
        if at.noise > 0:
            images = noise(images, at.noise, at.noise_sigma)
        if at.jpeg > 0:
            images = jpeg(images, at.jpeg, at.jpeg_quality)
        return images

    def _validation_logits(self) -> tuple[np.ndarray, np.ndarray]:
        """The network's own logits of the validation reals and fakes, read once for each state of the training."""
        if self._read_at != self.images:
            network = self._network.eval()
            on_reals, on_fakes = (
                predict_logits(network, images, self.device) for images in (self._val_reals, self._val_fakes)
            )
            if not (np.isfinite(on_reals).all() and np.isfinite(on_fakes).all()):
                raise Diverged(f"a validation image's logit is not finite after {self.images:,} images")
            self._read, self._read_at = (on_reals, on_fakes), self.images
        return self._read

    def _validate(self) -> dict[str, float]:
        on_reals, on_fakes = self._validation_logits()
        scale, shift = self._calibration()
        p_reals, p_fakes = (sigmoid(scale * x + shift) for x in (on_reals, on_fakes))
        return {
            "auc": auc(on_reals, on_fakes),  # of the logits: a calibration has no say in it
            "accuracy": float((np.mean(p_reals < THRESHOLD) + np.mean(p_fakes >= THRESHOLD)) / 2),
            "calibration_error": calibration_error(p_reals, p_fakes),
        }


def _started(network: Detector, weights: dict[str, Tensor]) -> Detector:
    """`network` with the weights of another of its kind, without that one's calibration."""
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise DuelError(f"the weights to start from do not fit the detector: {error}") from error
    network.calibrate(1.0, 0.0)
    return network
