"""Supervised training of one detector on reals and fakes, half and half."""

import numpy as np
import torch
from torch import Tensor, nn

from duel.device import autocast, place, to_network
from duel.families import DetectorSettings
from duel.losses import detector_loss
from duel.models import build
from duel.models.inference import predict
from duel.scores import auc
from duel.train.augment import blur, flip, jpeg
from duel.train.loop import ImageFeed, Trainer, mix, seeded


class DetectorTrainer(Trainer):
    """Trains a detector of `family` on `reals` and `fakes`, uint8 [N, 3, S, S] and [M, 3, S, S].

    Reports hold "auc" and "accuracy" (at P(fake) = 0.5, both classes weighing the same) on the validation
    images, and "loss". "images" counts reals and fakes shown; the two keep to half of each batch.
    """

    def __init__(
        self,
        family: str,
        settings: DetectorSettings,
        reals: np.ndarray,
        fakes: np.ndarray,
        val_reals: np.ndarray,
        val_fakes: np.ndarray,
        *,
        image_size: int,
        device: torch.device,
        seed: int,
    ) -> None:
        self._half = settings.batch_size // 2
        super().__init__(batch_size=2 * self._half, device=device, seed=seed)
        self.settings = settings
        self._reals = ImageFeed(reals, mix(seed, 1), device)
        self._fakes = ImageFeed(fakes, mix(seed, 2), device)
        self._val_reals, self._val_fakes = val_reals, val_fakes
        self._is_fake = torch.arange(2 * self._half, device=device) >= self._half
        with seeded(device, seed, 3):
            self._network = place(build("detector", family, image_size, settings), device)
        self._adam = torch.optim.AdamW(
            self._network.parameters(), settings.lr, weight_decay=settings.weight_decay, fused=True
        )
        self.parts = {"detector": self._network, "adam": self._adam}

    @property
    def detector(self) -> nn.Module:
        """The network as trained so far, in eval mode."""
        return self._network.eval()

    def _step(self) -> dict[str, Tensor]:
        position = self.images // 2
        batches = [feed.batch(position, self._half) for feed in (self._reals, self._fakes)]
        images = self._augment(to_network(torch.cat(batches)))
        self._network.train()
        with autocast(self.device):
            logits = self._network(images)
        loss = detector_loss(logits, self._is_fake)
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        self._adam.step()
        return {"loss": loss}

    def _augment(self, images: Tensor) -> Tensor:
        chances = self.settings
        for change, chance in ((flip, chances.flip), (blur, chances.blur), (jpeg, chances.jpeg)):
            if chance > 0:
                images = change(images, chance)
        return images

    def _validate(self) -> dict[str, float]:
        on_reals = predict(self.detector, self._val_reals, self.device)
        on_fakes = predict(self.detector, self._val_fakes, self.device)
        accuracy = (np.mean(on_reals < 0.5) + np.mean(on_fakes >= 0.5)) / 2
        return {"auc": auc(on_reals, on_fakes), "accuracy": float(accuracy)}
