"""Getting past a panel of detectors: the loss against its formula, its gradient, and what training with it does."""

import numpy as np
import planted
import pytest
import torch

from duel.device import to_bytes, to_network
from duel.faces import draw_faces
from duel.families import CnnSettings, DcganSettings
from duel.losses import evasion_loss
from duel.models import build
from duel.train.generator import GeneratorTrainer
from duel.train.rivals import Rivals, prepared

CPU = torch.device("cpu")


def detector(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build("detector", "cnn", 16, CnnSettings(width=8, depth=2))


def test_the_loss_is_minus_log_of_passing_for_real():
    by_hand = np.mean([-np.log(1 - 1 / (1 + np.exp(-x))) for x in (0, 2, -3)])
    assert evasion_loss(torch.tensor([0.0, 2.0, -3.0])).item() == pytest.approx(by_hand, rel=1e-6)


def test_every_step_meets_one_of_the_panel_and_in_the_mean_all_alike():
    panel = [planted.Constant(logit) for logit in (-2.0, 0.0, 3.0)]
    fakes, rivals = torch.zeros(2, 3, 16, 16), Rivals(list(panel), [], 1.0)
    met = [round(rivals.loss(fakes, rivals.drawn(0, step)).item(), 4) for step in range(3000)]
    each = [round(evasion_loss(torch.tensor([logit])).item(), 4) for logit in (-2.0, 0.0, 3.0)]
    assert set(met) == set(each)
    assert np.mean(met) == pytest.approx(np.mean(each), abs=0.1)  # four standard errors


def test_the_panel_sees_bytes_and_the_gradient_goes_through_to_the_fakes():
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, images):
            seen.append(images.detach())
            return images.float().mean((1, 2, 3))

    fakes = (torch.rand(4, 3, 16, 16) * 2 - 1).requires_grad_()
    Rivals([Spy()], [], 2.0).loss(fakes, 0).backward()
    assert torch.allclose(seen[0], to_network(to_bytes(fakes.detach())), atol=1e-6)
    means = seen[0].mean((1, 2, 3))
    expected = 2.0 * torch.sigmoid(means) / 4 / (3 * 16 * 16)  # d softplus(m) / dm = sigmoid(m), through two means
    assert torch.allclose(fakes.grad, expected[:, None, None, None].expand_as(fakes), atol=1e-6)


def test_the_panel_is_frozen_and_its_own_copy():
    original = detector()
    frozen = prepared(original, CPU)
    assert not any(p.requires_grad for p in frozen.parameters())
    assert all(p.requires_grad for p in original.parameters())


def test_caught_is_the_mean_share_over_the_jury():
    fakes = np.zeros((10, 3, 16, 16), np.uint8)
    jury = [planted.Constant(3.0), planted.Constant(-3.0), planted.Constant(0.0)]  # fake, real, and 0.5 says fake
    assert Rivals([], jury, 0.0).caught(fakes, CPU) == pytest.approx(2 / 3)


def new(start=None, rivals=None) -> GeneratorTrainer:
    settings = DcganSettings(width=8, width_discriminator=8, latent=8, batch_size=32, lr_generator=2e-3)
    return GeneratorTrainer(
        "dcgan", settings, draw_faces(256, 16, seed=0), lambda fakes: 0.5, image_size=16, device=CPU, seed=3,
        eval_fakes=128, start=start, rivals=rivals,
    )  # fmt: skip


def trained(rivals: Rivals | None, images: int = 2048) -> tuple[GeneratorTrainer, list[dict]]:
    trainer = new(rivals=rivals)
    return trainer, list(trainer.run(images, 1024))


def test_training_against_a_panel_gets_past_it_and_a_twin_without_it_does_not():
    bright = planted.Brightness(-0.5)  # calls fake what is brighter than dark grey
    _, with_term = trained(Rivals([bright], [bright], 20.0))
    twin, without = trained(Rivals([bright], [bright], 0.0))
    assert with_term[-1]["caught"] < 0.1 < without[-1]["caught"]
    assert "loss_evasion" in with_term[-1]
    assert "loss_evasion" not in without[-1]
    plain, _ = trained(None)
    for a, b in zip(twin.generator.parameters(), plain.generator.parameters(), strict=True):
        assert torch.equal(a, b)  # weight 0 is the same training to the bit


def test_a_training_that_starts_from_another_begins_where_that_ended():
    first, _ = trained(None)
    noise = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    made, again, untrained = (t.sample(noise).astype(int) for t in (first, new(start=first.legacy()), new()))
    assert np.abs(made - again).max() <= 1
    assert np.abs(made - untrained).max() > 10


def test_resumed_against_rivals_is_the_same_training():
    panel = [prepared(detector(), CPU)]
    whole, _ = trained(Rivals(panel, panel, 1.0))
    half, _ = trained(Rivals(panel, panel, 1.0), images=1024)
    rest = new(rivals=Rivals(panel, panel, 1.0))
    rest.load_state_dict(half.state_dict())
    list(rest.run(2048, 1024))
    for a, b in zip(rest.generator.parameters(), whole.generator.parameters(), strict=True):
        assert torch.equal(a, b)
