"""Adversarial training of one generator: plain PyTorch, counted in images, exact over resumes."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from duel.device import autocast, place, to_network
from duel.families import GeneratorSettings
from duel.losses import OBJECTIVES, discriminator_loss, generator_loss, gradient_penalty
from duel.models import build, build_discriminator
from duel.models.inference import make_fakes, make_noise, render
from duel.train.augment import diff_augment
from duel.train.graphs import Values, recordable
from duel.train.loop import ImageFeed, Trainer, mix, seeded
from duel.train.rivals import Rivals

EMA_RAMP = 0.1  # the average's half-life is never longer than this share of the images seen so far
NORM_BATCHES, NORM_BATCH = 8, 128  # noise that sets the averaged generator's batch-norm statistics


class StepKind(NamedTuple):
    """What makes one step differ from another: whether a penalty is due, and which of the rivals' panel is met."""

    penalty: bool
    rival: int | None


class GeneratorTrainer(Trainer):
    """Trains a generator of `family` against its discriminator on `images`, uint8 [N, 3, S, S].

    `scorer` gives a number (KID) for `eval_fakes` fakes, uint8; lower is better. Reports hold "kid",
    "loss_discriminator" and "loss_generator". "images" counts the reals shown to the discriminator.
    The generator that is scored, sampled and kept has the moving average of the weights (Karras 2018).
    start: an earlier training's `legacy`, to go on from with optimisers of its own. rivals: detectors to get past;
    reports then hold "caught" too, the share of `eval_fakes` that they catch, and "loss_evasion".
    """

    def __init__(
        self,
        family: str,
        settings: GeneratorSettings,
        images: np.ndarray,
        scorer: Callable[[np.ndarray], float],
        *,
        image_size: int,
        device: torch.device,
        seed: int,
        fixed_noise_count: int = 64,
        eval_fakes: int = 1000,
        start: dict[str, dict[str, Tensor]] | None = None,
        rivals: Rivals | None = None,
    ) -> None:
        super().__init__(batch_size=settings.batch_size, device=device, seed=seed)
        self.settings = settings
        self._feed = ImageFeed(images, mix(seed, 1), device)
        self._scorer = scorer
        self._eval_fakes = eval_fakes
        self._fixed_noise = make_noise(fixed_noise_count, settings.latent, mix(seed, 2))
        with seeded(device, seed, 3):
            self._live = place(build("generator", family, image_size, settings), device)
            self._judge = place(build_discriminator(family, image_size, settings), device)
        self._averaged = copy.deepcopy(self._live).requires_grad_(False)
        self._rivals = rivals
        self._young = start is None  # an average of first weights is worth nothing
        if start is not None:
            for name, network in self._networks().items():
                network.load_state_dict(start[name])
        self._averaged_at = -1  # the image count at which its buffers were last set
        self._followers: list[Tensor] = list(self._averaged.parameters())
        self._leaders: list[Tensor] = list(self._live.parameters())
        betas = (settings.beta1, settings.beta2)
        adam = torch.optim.Adam
        self._live_adam = recordable(adam(self._live.parameters(), settings.lr_generator, betas, fused=True), device)
        self._judge_adam = recordable(
            adam(self._judge.parameters(), settings.lr_discriminator, betas, fused=True), device
        )
        self.parts = {
            **self._networks(),
            "generator_adam": self._live_adam,
            "discriminator_adam": self._judge_adam,
        }

    def _networks(self) -> dict[str, nn.Module]:
        return {"generator": self._live, "averaged": self._averaged, "discriminator": self._judge}

    def legacy(self) -> dict[str, dict[str, Tensor]]:
        """All networks' weights, for a later training to start from."""
        return {name: network.state_dict() for name, network in self._networks().items()}

    @property
    def generator(self) -> nn.Module:
        """The averaged generator, in eval mode; training on changes it."""
        if self._averaged_at != self.images:
            self._set_buffers()
            self._averaged_at = self.images
        return self._averaged.eval()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to `state`."""
        super().load_state_dict(state)
        self._averaged_at = -1

    def sample(self, noise: Tensor) -> np.ndarray:
        """Fakes of noise [N, latent]: uint8 [N, 3, S, S]."""
        return render(self.generator, noise, self.device)

    def frame(self) -> np.ndarray:
        """The fakes of the same `fixed_noise_count` noise vectors each time: one picture of an animation."""
        return self.sample(self._fixed_noise)

    def _inputs(self) -> Values:
        return {"reals": self._feed.batch(self.images, self.batch_size)}

    def _kind(self) -> StepKind:
        at, rivals = self.settings, self._rivals
        due = self.images // self.batch_size % at.penalty_every == 0
        return StepKind(due and (at.r1 > 0 or at.r2 > 0), rivals.drawn(self.seed, 6, self.images) if rivals else None)

    def _step(self, kind: StepKind, inputs: Values) -> Values:
        reals = to_network(inputs["reals"])
        noise = torch.randn(self.batch_size, self.settings.latent, device=self.device)
        with autocast(self.device):
            fakes = self._live(noise)
        losses = {"loss_discriminator": self._discriminator_step(reals, fakes.detach(), kind.penalty)}
        losses.update(self._generator_step(reals, fakes, kind.rival))
        return losses

    def _discriminator_step(self, reals: Tensor, fakes: Tensor, penalty: bool) -> Tensor:
        """Tell this batch's reals from this batch's fakes; where a penalty is due, do so smoothly."""
        due = self.settings.penalty_every if penalty else 0  # lazy regularisation makes up for the rest (Karras 2020)
        r1, r2 = due * self.settings.r1, due * self.settings.r2
        reals = self._shown(reals).detach().requires_grad_(r1 > 0)
        fakes = self._shown(fakes).detach().requires_grad_(r2 > 0)
        real_logits, fake_logits = self._judge_logits(reals), self._judge_logits(fakes)
        loss = discriminator_loss(self.settings.objective, real_logits, fake_logits)
        if r1:
            loss = loss + r1 / 2 * gradient_penalty(reals, real_logits)
        if r2:
            loss = loss + r2 / 2 * gradient_penalty(fakes, fake_logits)
        _descend(loss, self._judge_adam)
        return loss

    def _generator_step(self, reals: Tensor, fakes: Tensor, rival: int | None) -> Values:
        """Put the same fakes before the better discriminator, whose own gradients nobody needs."""
        self._judge.requires_grad_(False)
        fake_logits = self._judge_logits(self._shown(fakes))
        real_logits = None
        if OBJECTIVES[self.settings.objective].paired:
            with torch.no_grad():
                real_logits = self._judge_logits(self._shown(reals))
        losses = {"loss_generator": generator_loss(self.settings.objective, fake_logits, real_logits)}
        if self._rivals and rival is not None:
            losses["loss_evasion"] = self._rivals.loss(fakes, rival)
        _descend(sum(losses.values(), torch.zeros((), device=self.device)), self._live_adam)
        self._judge.requires_grad_(True)
        return losses

    def _shown(self, images: Tensor) -> Tensor:
        """Images as the discriminator sees them, in float32."""
        images = images.float()
        return diff_augment(images) if self.settings.augment else images

    def _judge_logits(self, images: Tensor) -> Tensor:
        with autocast(self.device):
            return self._judge(images)

    def _after_step(self) -> None:
        """The average of the weights, whose pace depends on the image count."""
        half_life: float = self.settings.ema_images
        if self._young:
            half_life = min(half_life, EMA_RAMP * self.images)
        keep = 0.5 ** (self.batch_size / half_life) if half_life > 0 else 0.0
        torch._foreach_lerp_(self._followers, self._leaders, 1 - keep)

    @torch.no_grad()
    def _set_buffers(self) -> None:
        """Measures batch norm's statistics anew: those of the live weights do not belong to the averaged ones.

        Spectral norm's vectors start from the live ones, so that they follow from the training alone, however
        often someone has looked.
        """
        for mine, live in zip(self._averaged.buffers(), self._live.buffers(), strict=True):
            mine.copy_(live)
        noise = make_noise(NORM_BATCHES * NORM_BATCH, self.settings.latent, mix(self.seed, 4))
        with autocast(self.device):
            update_bn(noise.split(NORM_BATCH), self._averaged, self.device)

    def _validate(self) -> dict[str, float]:
        fakes = make_fakes(self.generator, self._eval_fakes, mix(self.seed, 5), self.device)
        scores = {"kid": self._scorer(fakes)}
        return {**scores, "caught": self._rivals.caught(fakes, self.device)} if self._rivals else scores


def _descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
