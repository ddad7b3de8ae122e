import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from duel.rules.scores import auc, calibration, calibration_error, fit_platt, sigmoid


def test_auc_counts_pairs():
    rng = np.random.default_rng(0)
    real, fake = rng.integers(0, 20, 70) / 20, rng.integers(5, 25, 50) / 25  # with ties
    pairs = [(f > r) + 0.5 * (f == r) for f in fake for r in real]
    assert auc(real, fake) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_auc_at_its_ends():
    assert auc(np.array([0.1, 0.2]), np.array([0.8, 0.9])) == 1.0
    assert auc(np.array([0.8, 0.9]), np.array([0.1, 0.2])) == 0.0
    assert auc(np.full(9, 0.5), np.full(7, 0.5)) == 0.5


def test_calibration_error_of_planted_answers():
    assert calibration_error(np.zeros(5), np.ones(9)) == 0
    assert calibration_error(np.ones(5), np.zeros(9)) == pytest.approx(1)
    # Nine in ten stated, six in ten right.
    says = np.where(np.arange(10) < 6, 0.9, 0.1)
    assert calibration_error(1 - says, says) == pytest.approx(0.3)
    assert calibration_error(1 - np.repeat(says, 7), says) == pytest.approx(0.3)  # classes weigh the same


def platt_loss(parameters, real, fake):
    """Platt 1999 with both classes weighing one half, written out."""
    scale, shift = parameters
    low, high = 1 / (len(real) + 2), (len(fake) + 1) / (len(fake) + 2)

    def cross_entropy(x, target):
        return np.mean(np.logaddexp(0, -x) * target + np.logaddexp(0, x) * (1 - target))

    return cross_entropy(scale * real + shift, low) / 2 + cross_entropy(scale * fake + shift, high) / 2


RNG = np.random.default_rng(0)
LOGITS = {
    "overlapping": (RNG.normal(-1, 1, 300), RNG.normal(1, 2, 500)),
    "shifted": (RNG.normal(5, 1, 300), RNG.normal(7, 1, 100)),
    "few": (np.array([0.0]), np.array([1.0])),
    "apart": (RNG.normal(-9, 1, 400), RNG.normal(9, 1, 400)),
    "far apart": (RNG.normal(-9e3, 1, 400), RNG.normal(9e3, 1, 400)),
    "one astray": (np.append(RNG.normal(-9, 1, 400), 30), RNG.normal(9, 1, 400)),
}


@pytest.mark.parametrize("name", LOGITS)
def test_platt_is_the_maximum_likelihood(name):
    real, fake = LOGITS[name]
    got = fit_platt(real, fake)
    size = 1 / np.concatenate([real, fake]).std()  # scipy likes parameters of about 1
    found = minimize(lambda p: platt_loss((p[0] * size, p[1]), real, fake), (1.0, 0.0), method="Nelder-Mead",
                     options={"xatol": 1e-9, "fatol": 1e-15, "maxiter": 5000})  # fmt: skip
    assert got == pytest.approx((found.x[0] * size, found.x[1]), rel=1e-4, abs=1e-4)
    assert platt_loss(got, real, fake) <= found.fun + 1e-12


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        (np.full(5, 3.1), np.full(7, 3.1)),
        (np.zeros(4, np.float32), np.zeros(4, np.float32)),
        (RNG.normal(2, 1, 50), RNG.normal(-2, 1, 50)),
        (np.append(np.zeros(50), 1e6), RNG.normal(0, 1, 50)),
    ],
    ids=["all the same", "zeros", "upside down", "one beyond all"],
)
def test_platt_keeps_the_ranking_of_whatever_comes(real, fake):
    scale, shift = fit_platt(real, fake)
    assert 0 < scale < 10
    assert np.isfinite(shift)
    assert auc(scale * real + shift, scale * fake + shift) == auc(real, fake)


def test_platt_of_the_same_everywhere_says_it_does_not_know():
    scale, shift = fit_platt(np.full(9, 3.1), np.full(9, 3.1))
    assert sigmoid(np.array([scale * 3.1 + shift])) == pytest.approx(0.5)


def test_fakes_between_the_reals_and_those_it_knows_are_caught_for_one_real_in_twenty():
    real, known = LOGITS["apart"]
    strangers, others = RNG.normal(-4, 1, 1000), RNG.normal(-9, 1, 1000)
    (scale, shift), (same_scale, platt) = calibration(real, known, 0.05), fit_platt(real, known)
    assert calibration(real, known, 0.0) == (scale, platt)
    assert scale == same_scale
    assert np.mean(scale * strangers + platt >= 0) < 0.01
    assert np.mean(scale * strangers + shift >= 0) > 0.98
    assert np.mean(scale * others + shift >= 0) == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize("name", ["overlapping", "shifted"])
def test_a_detector_that_calls_more_reals_fake_already_keeps_platts_threshold(name):
    assert calibration(*LOGITS[name], 0.05) == fit_platt(*LOGITS[name])


def test_sigmoid_does_not_overflow():
    with np.errstate(all="raise", under="ignore"):
        assert sigmoid(np.array([-1e4, 0.0, 1e4])) == pytest.approx([0, 0.5, 1])


def test_calibration_error_is_that_of_torchmetrics():
    binned = pytest.importorskip("torchmetrics.functional.classification").multiclass_calibration_error
    rng = np.random.default_rng(0)
    real, fake = rng.beta(2, 4, 400), rng.beta(4, 2, 400)  # as many, so that they weigh the same there too
    probs, is_fake = torch.from_numpy(np.concatenate([real, fake])), torch.arange(800) >= 400
    wanted = binned(torch.stack([1 - probs, probs], 1), is_fake.long(), num_classes=2, n_bins=15, norm="l1").item()
    assert calibration_error(real, fake) == pytest.approx(wanted, abs=1e-6)
