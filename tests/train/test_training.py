"""Both trainings: their reports, their exact resumes, their failures, and that they learn."""

import contextlib
import functools
import io

import numpy as np
import pytest
import torch

from duel.errors import DuelError
from duel.families import (
    GENERATOR_FAMILIES,
    CnnSettings,
    DcganSettings,
    R3ganSettings,
    Resnet18Settings,
    SaganSettings,
    SnganSettings,
)
from duel.metrics import kid
from duel.train.detector import DetectorTrainer
from duel.train.generator import GeneratorTrainer
from duel.train.loop import Diverged, ImageFeed, mix, seeded

CPU = torch.device("cpu")
SMALL_GAN = DcganSettings(width=8, width_discriminator=8, latent=16, batch_size=16, ema_images=200)


def blobs(count, seed, size=16):
    """Toy faces: a bright disc, somewhere about the middle, on a dark ground of some colour."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    centre = rng.normal(size / 2, 1, (count, 2, 1, 1))
    disc = (y - centre[:, :1]) ** 2 + (x - centre[:, 1:]) ** 2 < (size / 4) ** 2
    ground = rng.integers(0, 60, (count, 3, 1, 1))
    return (ground + disc * 180).astype(np.uint8)


def brightness_distance(fakes):
    return float(np.abs(fakes.mean((0, 1)) - blobs(200, 9).mean((0, 1))).mean())


def pixel_kid(fakes):
    def pixels(images):
        return images.reshape(len(images), -1).astype(np.float32) / 64

    return kid(pixels(blobs(200, 9)), pixels(fakes))


def gan(settings=SMALL_GAN, images=None, scorer=brightness_distance, seed=3, eval_fakes=40):
    images = blobs(100, 0) if images is None else images
    (family,) = (name for name, known in GENERATOR_FAMILIES.items() if known is type(settings))
    return GeneratorTrainer(
        family, settings, images, scorer, image_size=16, device=CPU, seed=seed, eval_fakes=eval_fakes
    )


def detection(settings=None, seed=3, start=None):
    settings = settings or CnnSettings(width=8, depth=2, batch_size=16, blur=0.2, jpeg=0.2, noise=0.2)
    inverted = 255 - blobs(150, 1)
    return DetectorTrainer(
        "resnet18" if isinstance(settings, Resnet18Settings) else "cnn",
        settings,
        blobs(100, 0),
        inverted[:90],
        blobs(60, 2),
        inverted[90:],
        image_size=16,
        device=CPU,
        seed=seed,
        start=start,
    )


def timeless(reports):
    return [
        {k: v for k, v in r.items() if k not in ("seconds", "validation_seconds", "images_per_second")} for r in reports
    ]


def through_a_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


BOTH = pytest.mark.parametrize("make", [gan, detection])
SPECTRAL = SMALL_GAN.model_copy(
    update={"norm_discriminator": "spectral", "upsample": "nearest", "objective": "hinge", "augment": True}
)
TINY = {"width": 4, "width_discriminator": 4, "latent": 8, "batch_size": 16, "ema_images": 200}
FAMILIES = {  # the penalties fall on every third step, so that a resume in between has to know which
    "dcgan-penalties": SMALL_GAN.model_copy(update={"r1": 1.0, "r2": 0.5, "penalty_every": 3}),
    "sngan": SnganSettings(**TINY),
    "sagan": SaganSettings(**TINY, r1=1.0, penalty_every=3),
    "r3gan": R3ganSettings(**TINY, depth=1, penalty_every=3, augment=True),
}


@BOTH
def test_reports_come_at_the_marks(make):
    reports = list(make().run(max_images=200, report_every=80))
    assert [report["images"] for report in reports] == [80, 160, 208]  # whole batches of 16
    for report in reports:
        assert report["images_per_second"] > 0
        assert all(np.isfinite(value) for value in report.values())
    assert reports[0]["seconds"] < reports[1]["seconds"]


def test_names_in_reports():
    shared = {"images", "seconds", "validation_seconds", "images_per_second"}
    assert set(next(gan().run(16, 16))) == shared | {"kid", "loss_discriminator", "loss_generator"}
    assert set(next(detection().run(16, 16))) == shared | {"auc", "accuracy", "calibration_error", "loss"}


@pytest.mark.parametrize(
    "make",
    [
        gan,
        lambda seed=3: gan(SPECTRAL, seed=seed),
        lambda seed=3: gan(SMALL_GAN.model_copy(update={"ema_images": 0}), seed=seed),
        detection,
        lambda seed=3: detection(Resnet18Settings(width=8, depth=2, batch_size=16, dropout=0.3), seed=seed),
        *(functools.partial(gan, settings) for settings in FAMILIES.values()),
    ],
    ids=["gan", "gan-spectral-augment", "gan-no-ema", "cnn", "resnet18", *FAMILIES],
)
def test_same_seed_and_resume_give_the_same_numbers(make):
    whole = timeless(make().run(160, 64))
    assert timeless(make().run(160, 64)) == whole
    assert timeless(make(seed=4).run(160, 64)) != whole

    broken = make()
    first = next(broken.run(160, 64))
    torch.manual_seed(99)  # what happens elsewhere has no say
    resumed = make()
    list(resumed.run(32, 32))  # nor has what the resuming object did before
    resumed.load_state_dict(through_a_file(broken.state_dict()))
    assert timeless([first, *resumed.run(160, 64)]) == whole
    assert resumed.seconds > first["seconds"]


@pytest.mark.parametrize("settings", [SMALL_GAN, *FAMILIES.values()], ids=["dcgan", *FAMILIES])
def test_resumed_weights_and_frames_are_the_same(settings):
    whole, broken, resumed = gan(settings), gan(settings), gan(settings)
    list(whole.run(160, 80))
    next(broken.run(160, 80))
    resumed.load_state_dict(through_a_file(broken.state_dict()))
    list(resumed.run(160, 80))
    assert (whole.frame() == resumed.frame()).all()
    for name, weights in whole.generator.state_dict().items():
        assert (weights == resumed.generator.state_dict()[name]).all()


@pytest.mark.parametrize("settings", [SMALL_GAN, FAMILIES["sagan"]], ids=["dcgan", "sagan"])
def test_looking_does_not_change_the_training(settings):
    quiet, watched = gan(settings), gan(settings)
    expected = timeless(quiet.run(160, 80))
    watched.frame()
    seen = []
    for report in watched.run(160, 80):
        seen.append(report)
        watched.frame()
        watched.sample(torch.randn(5, settings.latent))
    assert timeless(seen) == expected
    assert (quiet.frame() == watched.frame()).all()


def test_training_leaves_the_global_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(gan().run(32, 32))
    list(detection().run(32, 32))
    assert (torch.rand(3) == expected).all()


def test_frames_and_samples():
    trainer = gan()
    list(trainer.run(32, 32))
    assert trainer.frame().shape == (64, 3, 16, 16)
    assert trainer.frame().dtype == np.uint8
    noise = torch.randn(5, 16)
    assert (trainer.sample(noise) == trainer.sample(noise)).all()


def test_state_of_another_training_is_refused():
    with pytest.raises(DuelError, match="lacks adam, detector"):
        detection().load_state_dict(gan().state_dict())


def test_averaged_weights_lag_behind_and_have_their_own_batch_norm():
    slow = gan(SMALL_GAN.model_copy(update={"ema_images": 100_000}))
    list(slow.run(320, 320))
    live, averaged = slow.parts["generator"], slow.generator
    distance = [(a - b).abs().max() for a, b in zip(live.parameters(), averaged.parameters(), strict=True)]
    assert max(distance) > 1e-4
    off = gan(SMALL_GAN.model_copy(update={"ema_images": 0}))
    list(off.run(320, 320))
    for a, b in zip(off.parts["generator"].parameters(), off.generator.parameters(), strict=True):
        assert (a == b).all()


@BOTH
def test_diverged_training_says_so(make):
    trainer = make()
    network = trainer.parts["discriminator" if make is gan else "detector"]
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    with pytest.raises(Diverged, match=r"loss.* is nan after 80 images"):
        list(trainer.run(160, 80))


def test_infinite_score_is_a_divergence():
    with pytest.raises(Diverged, match="kid is inf after 16 images"):
        list(gan(scorer=lambda fakes: float("inf")).run(16, 16))


def test_huge_learning_rate_ends_in_diverged_or_finite():
    wild = SMALL_GAN.model_copy(update={"lr_generator": 1.0, "lr_discriminator": 1.0})
    with contextlib.suppress(Diverged):
        assert all(np.isfinite(report["kid"]) for report in gan(wild).run(160, 80))


def test_read_only_memory_maps_are_read(tmp_path):
    np.save(tmp_path / "images.npy", blobs(50, 0))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    in_memory = timeless(gan(images=blobs(50, 0)).run(48, 48))
    assert timeless(gan(images=mapped).run(48, 48)) == in_memory


def test_feed_shows_each_image_once_a_pass():
    feed = ImageFeed(np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1).repeat(3, 1), 7, CPU)
    shown = [int(v) for start in range(0, 30, 6) for v in feed.batch(start, 6)[:, 0, 0, 0]]
    for start in (0, 10, 20):
        assert sorted(shown[start : start + 10]) == list(range(10))
    assert shown[:10] != shown[10:20]
    assert [int(v) for v in feed.batch(3, 25)[:, 0, 0, 0]] == shown[3:28]  # any cut, any order of asking


def test_feed_needs_images():
    with pytest.raises(DuelError, match="at least 1 image"):
        ImageFeed(np.zeros((0, 3, 16, 16), np.uint8), 0, CPU)


def test_seeded_is_closed_on_both_sides():
    torch.manual_seed(0)
    with seeded(CPU, 1, 2):
        inside = torch.rand(2)
    after = torch.rand(2)
    torch.manual_seed(0)
    assert (torch.rand(2) == after).all()
    with seeded(CPU, 1, 2):
        assert (torch.rand(2) == inside).all()
    assert mix(1, 2) != mix(2, 1)


@pytest.mark.parametrize(
    "changes",
    [{}, {"objective": "hinge", "norm_discriminator": "spectral", "upsample": "nearest", "augment": True}],
    ids=["paper", "later"],
)
@pytest.mark.slow
def test_generator_learns_toy_faces(changes):
    settings = DcganSettings(
        width=16, width_discriminator=16, latent=16, batch_size=32, ema_images=1000, lr_generator=1e-3,
        lr_discriminator=1e-3, **changes,
    )  # fmt: skip
    trainer = gan(settings, blobs(500, 0), pixel_kid, eval_fakes=200)
    untrained = pixel_kid(trainer.sample(torch.randn(200, 16)))
    last = list(trainer.run(16_000, 16_000))[-1]
    assert last["kid"] < 0.25 * untrained
    assert last["kid"] > pixel_kid(blobs(200, 8))
    assert trainer.frame().std(0).mean() > 5  # not one face for every noise


@pytest.mark.parametrize("settings", [
    CnnSettings(width=8, depth=2, batch_size=16),
    Resnet18Settings(width=8, depth=2, batch_size=16),
], ids=["cnn", "resnet18"])  # fmt: skip
def test_detector_learns_toy_fakes(settings):
    trainer = detection(settings)
    last = list(trainer.run(3200, 3200))[-1]
    assert last["accuracy"] > 0.9
    assert last["auc"] > 0.95
    assert not trainer.detector.training
