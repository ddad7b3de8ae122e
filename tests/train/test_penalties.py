"""R1 and R2 within training: when they come, how much they count, and what they do."""

import numpy as np
import pytest
import torch
from test_training import SMALL_GAN, blobs, gan

from duel.device import to_network
from duel.losses import gradient_penalty
from duel.train import generator as training


def with_penalties(**changes):
    return SMALL_GAN.model_copy(update=changes)


@pytest.fixture
def flat(monkeypatch):
    """Penalties of 1 that pull at no weight; the images at which they came."""
    came = []

    def penalty(images, logits):
        assert images.requires_grad
        assert logits.shape == (len(images),)
        came.append(trainer_now[0].images)
        return torch.ones(())

    trainer_now = [None]
    monkeypatch.setattr(training, "gradient_penalty", penalty)

    def losses(settings):
        came.clear()
        trainer_now[0] = gan(settings)
        return trainer_now[0].train_to(16 * 16)["loss_discriminator"], list(came)

    return losses


@pytest.mark.parametrize("every", [1, 4, 16])
def test_lazy_penalties_count_as_much_as_eager_ones(flat, every):
    """Karras 2020: every k-th step, times k."""
    without, never = flat(with_penalties())
    loss, came = flat(with_penalties(r1=3.0, r2=1.0, penalty_every=every))
    assert never == []
    assert came == [images for images in range(0, 16 * 16, 16 * every) for _ in ("r1", "r2")]
    assert loss - without == pytest.approx(3.0 / 2 + 1.0 / 2, rel=1e-4)


def test_each_penalty_goes_by_itself(flat):
    without, _ = flat(with_penalties())
    for changes, due in (({"r1": 3.0}, 1.5), ({"r2": 1.0}, 0.5)):
        loss, came = flat(with_penalties(**changes, penalty_every=4))
        assert len(came) == 4
        assert loss - without == pytest.approx(due, rel=1e-4)


@pytest.mark.parametrize("changes", [{"r1": 30.0}, {"r2": 30.0}, {"r1": 30.0, "augment": True}], ids=str)
def test_penalties_make_the_discriminator_flatter(changes):
    def steepness(settings):
        trainer = gan(settings, blobs(200, 0))
        trainer.train_to(16 * 40)
        seen = to_network(torch.from_numpy(blobs(32, 5)))
        shown = (trainer.generator(torch.randn(32, 16)).detach() if "r2" in changes else seen).requires_grad_()
        return gradient_penalty(shown, trainer.parts["discriminator"].eval()(shown)).item()

    torch.manual_seed(0)
    spectral = {"norm_discriminator": "spectral"}  # batch norm would make images share their slopes
    off, on = steepness(with_penalties(**spectral)), steepness(with_penalties(**spectral, **changes))
    assert np.isfinite(on)
    assert on < 0.5 * off
