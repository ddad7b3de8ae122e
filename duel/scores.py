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
