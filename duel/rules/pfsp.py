"""Whom to meet: prioritised fictitious self-play (Vinyals 2019, AlphaStar), as pure functions on arrays."""

import numpy as np
from numpy.typing import NDArray


def pfsp(win_rates: NDArray[np.floating], power: float) -> NDArray[np.float64]:
    """Weights [N], summing to 1, of rivals that one beats at `win_rates` [N]: (1 - win rate)^power.

    The rivals that win most weigh most; power 0 weighs all alike. Where one always beats everyone, all weigh alike.
    Raises ValueError for a rate outside [0, 1] or a negative power.
    """
    rates = np.asarray(win_rates, np.float64)
    if rates.size == 0 or not ((rates >= 0) & (rates <= 1)).all() or not power >= 0:
        raise ValueError(f"win rates must lie in [0, 1] and power must not be negative, got {rates} and {power}")
    weights = (1 - rates) ** power
    return weights / weights.sum() if weights.sum() > 0 else np.full(len(rates), 1 / len(rates))


def draw(names: list[str], weights: NDArray[np.floating], count: int, seed: int) -> list[str]:
    """`count` different names (or all, where there are fewer), drawn one after the other by their weights."""
    keys = np.log(np.random.default_rng(seed).random(len(names))) / np.maximum(weights, 1e-300)
    # the largest keys log(u) / w are such a draw (Efraimidis & Spirakis 2006)
    return sorted(names[i] for i in np.argsort(-keys, kind="stable")[:count])


def apportion(weights: NDArray[np.floating], count: int) -> list[int]:
    """`count` things shared out in proportion to weights [N], to the largest remainders; sums to count."""
    shares = np.asarray(weights, np.float64) / np.sum(weights) * count
    counts = np.floor(shares).astype(int)
    counts[np.argsort(counts - shares, kind="stable")[: count - counts.sum()]] += 1
    return counts.tolist()
