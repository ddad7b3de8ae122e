"""What every registered family keeps to, whatever it is."""

import contextlib
import copy
import pickle

import numpy as np
import pytest
import torch

from duel.checkpoint import load_model, save_model
from duel.device import autocast, fold_batch_norm
from duel.errors import UsageError
from duel.families import DETECTOR_FAMILIES, FAMILIES, GENERATOR_FAMILIES
from duel.losses import detector_loss, gradient_penalty
from duel.models import DETECTORS, DISCRIMINATORS, GENERATORS, build, build_discriminator
from duel.models.detector import calibrated
from duel.models.inference import make_fakes, predict
from duel.train.detector import DetectorTrainer
from duel.train.generator import GeneratorTrainer

CPU = torch.device("cpu")
SIZES = (16, 32, 64, 128)
SMALL = {"width": 8, "width_discriminator": 8, "latent": 10}  # whatever of it a family has
VARIANTS = [
    ("generator", "dcgan", {}),
    ("generator", "dcgan", {"upsample": "nearest", "norm_discriminator": "spectral"}),
    ("generator", "sngan", {}),
    ("generator", "sagan", {}),
    ("generator", "sagan", {"attention": 8}),
    ("generator", "r3gan", {}),
    ("generator", "r3gan", {"depth": 1, "width": 12}),
    ("detector", "cnn", {}),
    ("detector", "cnn", {"depth": 6}),
    ("detector", "resnet18", {"depth": 2}),
    ("detector", "resnet18", {}),
    ("detector", "residual", {"front": "srm"}),
    ("detector", "residual", {"front": "npr"}),
    ("detector", "spectrum", {"transform": "dct"}),
    ("detector", "spectrum", {"transform": "fft", "block": 8}),
    ("detector", "spectrum", {"classifier": "linear"}),
    ("detector", "patch", {}),
    ("detector", "patch", {"depth": 1, "stride": 1}),
    ("detector", "probe", {"input_size": 32}),
]
GENERATOR_VARIANTS = [variant for variant in VARIANTS if variant[0] == "generator"]
DETECTOR_VARIANTS = [variant for variant in VARIANTS if variant[0] == "detector"]


def settings_of(side, family, changes):
    known = FAMILIES[side][family]
    small = {name: value for name, value in SMALL.items() if name in known.model_fields}
    return known(**{**small, **changes})


def make(side, family, changes, size=32):
    torch.manual_seed(0)
    return build(side, family, size, settings_of(side, family, changes))


def images(count, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def test_every_family_is_known_everywhere_and_tested_here():
    assert set(GENERATORS) == set(DISCRIMINATORS) == set(GENERATOR_FAMILIES)
    assert set(DETECTORS) == set(DETECTOR_FAMILIES)
    assert {(side, family) for side, family, _ in VARIANTS} == {
        (side, family) for side, families in FAMILIES.items() for family in families
    }


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("variant", GENERATOR_VARIANTS, ids=str)
def test_generator_shapes(variant, size):
    generator = make(*variant, size)
    made = generator(torch.randn(3, generator.latent))
    assert made.shape == (3, 3, size, size)
    assert made.dtype == torch.float32
    assert made.abs().max() <= 1
    with autocast(CPU):
        assert generator(torch.randn(3, generator.latent)).shape == made.shape
    torch.manual_seed(0)
    discriminator = build_discriminator(variant[1], size, settings_of(*variant))
    assert discriminator(made).shape == (3,)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("variant", DETECTOR_VARIANTS, ids=str)
def test_detector_shapes(variant, size):
    detector, some = make(*variant, size), torch.rand(3, 3, size, size) * 2 - 1
    logits = detector(some)
    assert logits.shape == (3,)
    assert logits.dtype == torch.float32
    with autocast(CPU):
        logits = detector(some)
    assert logits.shape == (3,)
    assert logits.dtype == torch.float32


def awake(network):
    """The network after what begins at 0 by design has moved, as any training step does: it shuts off other weights."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "bias" not in name and not parameter.any():
                parameter.normal_(0.0, 0.1)
    return network


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_gradients_reach_every_weight(variant):
    side, family, _ = variant
    network = awake(make(*variant))
    if side == "generator":
        discriminator = awake(build_discriminator(family, 32, settings_of(*variant)))
        discriminator(network(torch.randn(8, network.latent))).mean().backward()
        networks = [network, discriminator]
    else:
        detector_loss(network(torch.rand(8, 3, 32, 32)), torch.ones(8)).backward()
        networks = [network]
    for module in networks:
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0 or "bias" in name, name  # dead units may leave a bias alone


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_saved_and_loaded_gives_the_same_output(variant, tmp_path):
    side, family, _ = variant
    network = make(*variant).eval()
    save_model(tmp_path / "m", side, family, 32, settings_of(*variant), network.state_dict(), {"objective": 1.0})
    loaded, config = load_model(tmp_path / "m")
    assert (config["side"], config["family"], config["image_size"]) == (side, family, 32)
    assert not loaded.training
    assert (answer(loaded) == answer(network)).all()
    assert (answer(pickle.loads(pickle.dumps(loaded))) == answer(network)).all()  # as Ray sends it


@pytest.mark.parametrize("variant", DETECTOR_VARIANTS, ids=str)
def test_gradients_reach_every_image(variant):
    """A generator is trained through detectors."""
    detector = make(*variant).eval()
    for amp in (contextlib.nullcontext(), autocast(CPU)):
        some = (torch.rand(4, 3, 32, 32) * 2 - 1).requires_grad_()
        with amp:
            detector(some).sum().backward()
        assert some.grad.isfinite().all()
        assert (some.grad.flatten(1).abs().sum(1) > 0).all()


def answer(network):
    if hasattr(network, "latent"):
        return make_fakes(network, 9, seed=1, device=CPU)
    return predict(network, images(9, 32), CPU)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_same_seed_same_network(variant):
    assert (answer(make(*variant).eval()) == answer(make(*variant).eval())).all()


@pytest.mark.parametrize("variant", GENERATOR_VARIANTS, ids=str)
def test_fakes_follow_the_seed_and_not_the_batch(variant):
    generator = make(*variant).eval()
    fakes = make_fakes(generator, 50, seed=1, device=CPU)
    assert fakes.shape == (50, 3, 32, 32)
    assert fakes.dtype == np.uint8
    assert (fakes != make_fakes(generator, 50, seed=2, device=CPU)).any()
    other = make_fakes(generator, 50, seed=1, device=CPU, batch=7)
    assert np.abs(fakes.astype(int) - other).max() <= 2  # rounding in other orders, no other noise


TWO_COLOURS = np.full((3, 16, 16), 40, np.uint8)
TWO_COLOURS[0, :8] = TWO_COLOURS[2, 8:] = 210  # red above, blue below


@pytest.mark.parametrize("variant", GENERATOR_VARIANTS, ids=str)
def test_generator_learns_two_colours(variant):
    noise = np.random.default_rng(0).normal(0, 8, (128, 3, 16, 16))
    settings = settings_of(*variant).model_copy(
        update={"lr_generator": 4e-3, "lr_discriminator": 4e-3, "batch_size": 16, "ema_images": 0}
    )
    trainer = GeneratorTrainer(
        variant[1], settings, (TWO_COLOURS + noise).astype(np.uint8), lambda fakes: 0.0,
        image_size=16, device=CPU, seed=0,
    )  # fmt: skip

    def off():
        fakes = make_fakes(trainer.generator, 50, 1, CPU)
        return np.abs(fakes.astype(float) - TWO_COLOURS).mean()

    untrained = off()
    trainer.train_to(16 * 40)
    assert off() < 0.6 * untrained


@pytest.mark.parametrize("variant", GENERATOR_VARIANTS, ids=str)
def test_penalties_of_the_fast_path_are_those_of_float32(variant):
    """The gradient of a penalty goes back twice through every kernel."""
    torch.manual_seed(0)
    discriminator = awake(build_discriminator(variant[1], 16, settings_of(*variant)))
    reals = torch.rand(16, 3, 16, 16) * 2 - 1

    def slopes(context):
        network, shown = copy.deepcopy(discriminator), reals.clone().requires_grad_()
        with context:
            logits = network(shown)
        gradient_penalty(shown, logits).backward()
        return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])

    plain, fast = slopes(contextlib.nullcontext()), slopes(autocast(CPU))
    assert plain.abs().sum() > 0
    assert torch.cosine_similarity(plain, fast, dim=0) > 0.98
    assert fast.norm().item() == pytest.approx(plain.norm().item(), rel=0.1)


@pytest.mark.parametrize("variant", DETECTOR_VARIANTS, ids=str)
def test_predictions_are_probabilities_of_each_image(variant):
    detector = make(*variant).eval()
    many = images(50, 32)
    got = predict(detector, many, CPU)
    assert got.shape == (50,)
    assert got.dtype == np.float32
    assert ((got >= 0) & (got <= 1)).all()
    assert predict(detector, many, CPU, batch=7) == pytest.approx(got, abs=0.02)
    assert predict(detector, many[:0], CPU).shape == (0,)


@pytest.mark.parametrize("variant", DETECTOR_VARIANTS, ids=str)
def test_calibration_stretches_and_moves_the_logits_and_is_saved(variant):
    detector = make(*variant).eval()
    some = torch.rand(16, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        plain, moved = detector(some), calibrated(detector, 2.5, -0.5)
        assert torch.allclose(moved(some), 2.5 * plain - 0.5)
        assert (detector(some) == plain).all()
        moved.load_state_dict(detector.state_dict())
        assert (moved(some) == plain).all()


@pytest.mark.parametrize("variant", DETECTOR_VARIANTS, ids=str)
def test_detector_learns_to_see_a_checkerboard(variant):
    """Smooth images, and the same with the faint pattern that transposed convolutions leave."""
    side, family, changes = variant
    settings = settings_of(side, family, {**changes, "batch_size": 32, "lr": 3e-3, "dropout": 0.0})
    clean = smooth_faces(600, 16)
    board = np.where(np.indices((16, 16)).sum(0) % 2, 4, -4)
    marked = (clean + board).astype(np.uint8)
    trainer = DetectorTrainer(
        family, settings, clean[:200], marked[200:400], clean[400:500], marked[500:],
        image_size=16, device=CPU, seed=0,
    )  # fmt: skip
    report = next(trainer.run(80 * 32, 80 * 32))
    assert report["auc"] > 0.9
    assert report["accuracy"] > 0.8


def smooth_faces(count, size):
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 150 + 50
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear").byte().numpy()


@pytest.mark.parametrize("variant", DETECTOR_VARIANTS, ids=str)
def test_folding_batch_norm_changes_nothing(variant):
    detector = make(*variant)
    some = torch.rand(16, 3, 32, 32)
    with torch.no_grad():
        detector(some)  # batch norm that has seen images
    detector.eval()
    folded = fold_batch_norm(detector)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert torch.allclose(folded(some), detector(some), rtol=1e-4, atol=1e-5)


def test_predict_reads_memory_that_cannot_be_written():
    many = images(4, 32)
    many.flags.writeable = False
    assert predict(make("detector", "cnn", {}).eval(), many, CPU).shape == (4,)


def test_unknown_family_and_size_are_named():
    settings = settings_of("detector", "cnn", {})
    with pytest.raises(UsageError, match="family: 'vit' is unknown here; allowed: cnn, resnet18, residual"):
        build("detector", "vit", 32, settings)
    with pytest.raises(UsageError, match="image_size: 48 is not one of 16, 32, 64, 128, 256"):
        build("detector", "cnn", 48, settings)
