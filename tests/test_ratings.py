"""One match and the ratings, against planted cases and independent references."""

import time

import numpy as np
import pytest
from scipy.optimize import minimize

from duel.rules import match, ratings


def answers(seed, n=400, shift=1.0):
    rng = np.random.default_rng(seed)
    return 1 / (1 + np.exp(-rng.normal(-shift, 1, n))), 1 / (1 + np.exp(-rng.normal(shift, 1, n)))


# -- one match


@pytest.mark.parametrize(("accuracy", "winner"), [(0.5, "detector"), (1.0, "detector"), (0.0, "generator")])
def test_the_detector_wins_from_one_half_on(accuracy, winner):
    assert match.decide(accuracy) == winner
    assert match.decide(np.nextafter(0.5, 0)) == "generator"


@pytest.mark.parametrize("accuracy", [float("nan"), -0.1, 1.1])
def test_what_is_no_accuracy_is_refused(accuracy):
    with pytest.raises(ValueError, match="accuracy"):
        match.decide(accuracy)


@pytest.mark.parametrize("constant", [0.0, 0.3, np.nextafter(0.5, 0), 0.5, 0.9, 1.0])
@pytest.mark.parametrize("n", [1, 7, 49, 15_000])
def test_a_constant_detector_scores_exactly_one_half_and_wins_by_the_rule(constant, n):
    row = match.match_row(np.full(n, constant), np.full(n, constant))
    assert (row["accuracy"], row["auc"], row["winner"]) == (0.5, 0.5, "detector")


def test_exactly_half_right_is_exactly_one_half_however_it_is_split():
    for n in range(1, 120):
        for right in range(n + 1):
            reals = np.where(np.arange(n) < right, 0.1, 0.9)
            fakes = np.where(np.arange(n) < n - right, 0.9, 0.1)
            assert match.match_row(reals, fakes)["accuracy"] == 0.5


def test_an_oracle_is_right_on_everything():
    row = match.match_row(np.zeros(15), np.ones(15))
    assert (row["n_real"], row["n_fake"], row["winner"]) == (15, 15, "detector")
    assert [row[k] for k in ("accuracy", "real_accuracy", "fake_accuracy", "auc")] == [1, 1, 1, 1]


@pytest.mark.parametrize("seed", range(20))
def test_swapped_labels_turn_every_result_but_an_exact_half(seed):
    reals, fakes = answers(seed, n=41, shift=np.linspace(-1, 1, 20)[seed])
    row, turned = match.match_row(reals, fakes), match.match_row(fakes, reals)
    assert turned["accuracy"] == pytest.approx(1 - row["accuracy"], abs=1e-15)
    assert turned["auc"] == pytest.approx(1 - row["auc"], abs=1e-15)
    assert turned["real_accuracy"] == pytest.approx(1 - row["fake_accuracy"], abs=1e-15)
    if row["accuracy"] != 0.5:
        assert turned["winner"] != row["winner"]


def test_at_an_exact_half_the_detector_wins_under_both_labellings():
    probs = np.array([0.2, 0.8])
    assert match.match_row(probs, probs)["winner"] == "detector"


def test_unseen_reals_as_fakes_score_within_noise_of_one_half():
    rng = np.random.default_rng(3)
    scores = rng.beta(2, 5, 30_000)
    row = match.match_row(scores[:15_000], scores[15_000:])
    assert abs(row["accuracy"] - 0.5) < 4 * 0.5 / np.sqrt(30_000)
    assert abs(row["auc"] - 0.5) < 4 * np.sqrt(1 / 12 * 2 / 15_000)


@pytest.mark.parametrize("levels", [3, 10, 10_000])
def test_auc_equals_a_count_of_all_pairs(levels):
    reals, fakes = (np.round(p * levels) / levels for p in answers(1, n=173))
    pairs = (fakes[:, None] > reals).mean() + 0.5 * (fakes[:, None] == reals).mean()
    assert match.match_row(reals, fakes)["auc"] == pytest.approx(pairs, abs=1e-12)


def test_the_row_adds_up_with_unequal_sizes():
    row = match.match_row(np.array([0.1, 0.2, 0.9]), np.array([0.4, 0.6, 0.7, 0.8]))
    assert row["accuracy"] == pytest.approx((row["real_accuracy"] + row["fake_accuracy"]) / 2)
    assert (row["real_accuracy"], row["fake_accuracy"]) == (2 / 3, 3 / 4)


@pytest.mark.parametrize("bad", [[], [0.5, float("nan")], [[0.5]], [1.5], [-0.1], [float("inf")]])
def test_bad_answers_are_refused_by_name(bad):
    good = np.array([0.5])
    with pytest.raises(ValueError, match="real_probs"):
        match.match_row(np.array(bad), good)
    with pytest.raises(ValueError, match="fake_probs"):
        match.match_row(good, np.array(bad))


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        # Newcombe (1998), Stat Med 17:873, method 10, gives the difference of two proportions; turned, as
        # (p + 1 - q) / 2, it is the mean. His table II: 56/70 - 48/80 and 10/10 - 0/20.
        ((56, 70, 80 - 48, 80), (1 + 0.0524) / 2, (1 + 0.3339) / 2),
        ((10, 10, 20 - 0, 20), (1 + 0.6791) / 2, 1.0),
    ],
)
def test_the_accuracys_interval_agrees_with_newcombes_published_ones(counts, low, high):
    np.testing.assert_allclose(match.accuracy_interval(*counts), (low, high), atol=5e-5)


@pytest.mark.parametrize(("real", "fake"), [(0.5, 0.5), (0.98, 0.9), (0.999, 0.02), (0.7, 0.2)])
@pytest.mark.parametrize(("n_real", "n_fake"), [(60, 60), (400, 50)])
def test_the_accuracys_interval_holds_the_truth_at_its_nominal_rate(real, fake, n_real, n_fake):
    rng = np.random.default_rng(9)
    draws = zip(rng.binomial(n_real, real, 3000), rng.binomial(n_fake, fake, 3000), strict=True)
    ends = np.array([match.accuracy_interval(r, n_real, f, n_fake) for r, f in draws])
    share = ((ends[:, 0] <= (real + fake) / 2) & ((real + fake) / 2 <= ends[:, 1])).mean()
    assert 0.93 < share < (0.975 if 0.5 <= real <= 0.7 else 1)  # few images near an end: on the safe side


def test_the_interval_has_a_width_at_its_ends_and_stays_in_range():
    assert match.match_row(np.zeros(15), np.ones(15))["accuracy_low"] == pytest.approx(0.856, abs=0.001)
    for right in (0, 15):
        low, high = match.accuracy_interval(right, 15, right, 15)
        assert 0 <= low <= right / 15 <= high <= 1
        assert high - low > 0.1


def test_a_match_is_within_noise_when_other_images_could_have_turned_it():
    half = np.tile([0.2, 0.8], 500)
    assert match.match_row(half, half)["within_noise"] is True
    assert match.match_row(np.zeros(20), np.full(20, 0.2))["within_noise"] is True  # a constant answer
    reals, fakes = answers(0, shift=0.2)
    row = match.match_row(reals, fakes)
    assert row["within_noise"] is False
    assert 0.5 < row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]


# -- ratings


def planted(seed, generators=4, detectors=4, images=400, spread=350.0):
    """Strengths in points around 1500 and the counts that they lead to."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, spread, generators + detectors)
    truth += 1500 - truth.mean()
    chances = 1 / (1 + 10 ** ((truth[:generators, None] - truth[generators:]) / 400))
    shown = np.full(chances.shape, images)
    return truth, rng.binomial(shown, chances), shown


def fitted(caught, shown, anchors=None):
    everyone = np.ones(sum(shown.shape), dtype=bool)
    return ratings.fit_ratings(caught, shown, everyone if anchors is None else anchors)


@pytest.mark.parametrize(("images", "met"), [(20, 1.0), (3000, 1.0), (300, 0.4)])
def test_ratings_are_the_peak_that_a_general_optimiser_finds(images, met):
    _, caught, shown = planted(1, 5, 6, images)
    shown = shown * (np.random.default_rng(2).random(shown.shape) < met)
    caught = np.minimum(caught, shown)

    def loss(points):
        gaps = (points[5:] - points[:5, None]) / 400 * np.log(10)
        likelihood = caught * np.logaddexp(0, -gaps) + (shown - caught) * np.logaddexp(0, gaps)
        return likelihood.sum() + ((points - 1500) ** 2).sum() / (2 * 350**2)

    peak = minimize(loss, np.full(11, 1500.0), method="BFGS", options={"gtol": 1e-7}).x
    np.testing.assert_allclose(fitted(caught, shown).rating, peak - peak.mean() + 1500, atol=0.02)


@pytest.mark.parametrize(("images", "spread"), [(6, 350), (60, 350), (2000, 350), (2000, 100)])
def test_intervals_hold_planted_strengths_at_their_nominal_rate(images, spread):
    inside = []
    for seed in range(200):
        truth, caught, shown = planted(seed, images=images, spread=spread)
        found = fitted(caught, shown)
        inside.append((found.low <= truth) & (truth <= found.high))
    assert 0.92 < np.mean(inside) < 0.98


def test_more_images_make_narrower_intervals():
    widths = [np.mean(np.subtract(*fitted(*planted(3, images=n)[1:])[:0:-1])) for n in (100, 400, 1600)]
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.15)
    assert widths[1] / widths[2] == pytest.approx(2, rel=0.15)


def test_who_never_loses_a_fake_stays_finite_and_has_a_wide_interval():
    _, caught, shown = planted(4, images=15_000, spread=100)
    caught[:, 0] = shown[:, 0]
    caught[3, 1:] = 0
    found = fitted(caught, shown)
    assert np.isfinite(np.stack(found)).all()
    assert (np.abs(np.stack(found) - 1500) < 4000).all()
    width = found.high - found.low
    unbeaten = [3, 4]  # the fourth generator, the first detector
    assert (width[unbeaten] > 200).all()
    assert width[unbeaten].min() > 2 * np.delete(width, unbeaten).max()
    assert found.rating.argmax() in unbeaten


def test_who_has_met_nobody_has_the_priors_rating_and_width():
    _, caught, shown = planted(5, 3, 40)
    shown[:, 7:] = caught[:, 7:] = 0
    found = fitted(caught, shown)
    np.testing.assert_allclose(found.rating[10:], 1500, atol=1e-3)
    np.testing.assert_allclose((found.high - found.low)[10:], 2 * 1.96 * 350, rtol=0.2)


def test_the_scale_is_held_by_the_anchors():
    truth, caught, shown = planted(6, 8, 8, 5000)
    first = np.arange(16) % 8 < 4
    shown[:4, 4:] = caught[:4, 4:] = 0  # not all have met
    found = fitted(caught, shown, first)
    assert found.rating[first].mean() == pytest.approx(1500)
    alone = fitted(caught[:4, :4], shown[:4, :4])
    np.testing.assert_allclose(found.rating[first], alone.rating, atol=25)  # of intervals as wide
    np.testing.assert_allclose(found.rating, truth - truth[first].mean() + 1500, atol=40)


def test_the_order_of_entrants_does_not_matter():
    _, caught, shown = planted(7, 5, 3)
    order_g, order_d = np.array([3, 1, 4, 0, 2]), np.array([2, 0, 1])
    turned = fitted(caught[order_g][:, order_d], shown)
    np.testing.assert_allclose(turned.rating, fitted(caught, shown).rating[np.r_[order_g, 5 + order_d]], atol=1e-3)


def test_the_same_counts_give_the_same_ratings_and_numpys_generator_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again = (np.stack(fitted(*planted(8)[1:])) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.slow
def test_a_hundred_against_a_hundred_takes_seconds():
    truth, caught, shown = planted(10, 100, 100, 15_000)
    begin = time.process_time()
    found = fitted(caught, shown)
    assert time.process_time() - begin < 20  # 1.6 s on one quiet core
    assert np.abs(found.rating - truth).max() < 5


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (2, 0)])
def test_a_side_without_entrants_is_no_fault(shape):
    found = fitted(*np.zeros((2, *shape), dtype=int))
    np.testing.assert_allclose(found.rating, 1500)
