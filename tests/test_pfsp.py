"""Whom to meet: weights against the paper's formula, draws against their chances, shares that add up."""

import numpy as np
import pytest

from duel.rules.pfsp import apportion, draw, pfsp


def test_the_rivals_that_win_most_weigh_most():
    assert pfsp(np.array([0.0, 0.5, 1.0]), 1) == pytest.approx([2 / 3, 1 / 3, 0])
    assert pfsp(np.array([0.0, 0.5, 1.0]), 2) == pytest.approx([0.8, 0.2, 0])  # (1 - rate)^2 = 1, 1/4, 0


def test_power_zero_and_a_rival_that_never_wins_weigh_all_alike():
    assert pfsp(np.array([0.1, 0.9]), 0) == pytest.approx([0.5, 0.5])
    assert pfsp(np.ones(4), 2) == pytest.approx([0.25] * 4)


@pytest.mark.parametrize(("rates", "power"), [([1.1], 1), ([-0.1], 1), ([np.nan], 1), ([], 1), ([0.5], -1)])
def test_what_is_no_rate_is_refused(rates, power):
    with pytest.raises(ValueError, match="win rates must lie in"):
        pfsp(np.array(rates), power)


def test_draws_follow_the_weights_and_name_nobody_twice():
    names, weights = ["a", "b", "c"], np.array([0.7, 0.2, 0.1])
    first = [draw(names, weights, 1, seed)[0] for seed in range(4000)]
    shares = [first.count(name) / 4000 for name in names]
    assert shares == pytest.approx(weights, abs=0.03)  # four standard deviations of a share of 0.7
    pairs = [draw(names, weights, 2, seed) for seed in range(4000)]
    assert all(len(set(pair)) == 2 for pair in pairs)
    # without replacement: P(a and b) = 0.7 * 0.2 / 0.3 + 0.2 * 0.7 / 0.8
    assert pairs.count(["a", "b"]) / 4000 == pytest.approx(0.7 * 0.2 / 0.3 + 0.2 * 0.7 / 0.8, abs=0.03)


def test_more_than_there_are_means_all_and_a_weight_of_zero_comes_last():
    assert draw(["b", "a"], np.array([0.5, 0.5]), 5, 0) == ["a", "b"]
    assert all(draw(["a", "b"], np.array([1.0, 0.0]), 1, seed) == ["a"] for seed in range(100))


@pytest.mark.parametrize("count", [0, 1, 7, 4000])
def test_shares_add_up_and_differ_from_the_proportion_by_less_than_one(count):
    weights = np.random.default_rng(0).random(9)
    counts = apportion(weights, count)
    assert sum(counts) == count
    assert np.abs(np.array(counts) - weights / weights.sum() * count).max() < 1
