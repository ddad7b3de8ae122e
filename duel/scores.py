"""How well P(fake) tells fakes from reals: pure functions on arrays, for training and for matches alike."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FEATURE_NETWORK = "efficientnet-lite0@128"  # what KIDs are measured with; goes into every table that holds one


def auc(real_probs: NDArray[np.floating], fake_probs: NDArray[np.floating]) -> float:
    """P(a fake is scored above a real), ties counted as one half: the area under the ROC curve.

    real_probs [n_real], fake_probs [n_fake]: scores without NaN, at least one each. The Mann-Whitney statistic
    over the number of pairs (Hanley and McNeil 1982).
    """
    ranks = pd.Series(np.concatenate([fake_probs, real_probs])).rank().to_numpy()
    n_fake, n_real = len(fake_probs), len(real_probs)
    above = ranks[:n_fake].sum() - n_fake * (n_fake + 1) / 2
    return float(above / (n_fake * n_real))


def calibration_error(real_probs: NDArray[np.floating], fake_probs: NDArray[np.floating], bins: int = 15) -> float:
    """Expected calibration error: by how much the stated confidence differs from the share of right answers.

    real_probs [n_real], fake_probs [n_fake]: P(fake), at least one each. The confidence of an answer is P(fake) or
    one minus that, whichever is larger; answers are put into `bins` of equal width, and the gaps between mean
    confidence and accuracy are averaged by the weight of each bin (Guo 2017). Both classes weigh the same,
    whatever their sizes.
    """
    probs = np.concatenate([real_probs, fake_probs]).astype(np.float64)
    says_fake = probs >= 0.5
    right = says_fake == (np.arange(len(probs)) >= len(real_probs))
    weights = np.repeat([0.5 / len(real_probs), 0.5 / len(fake_probs)], [len(real_probs), len(fake_probs)])
    surplus = weights * (np.where(says_fake, probs, 1 - probs) - right)
    bin_of = np.minimum((np.where(says_fake, probs, 1 - probs) * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(bin_of, surplus)).sum())
