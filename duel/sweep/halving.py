"""Asynchronous successive halving (ASHA, Li 2020), with decisions that do not depend on timing.

Ray's ASHA compares a trial with those that happened to reach the rung before it, so two runs with the same
seed can stop different trials. Here a trial is compared with the trials of lower number, whenever their scores
arrive; until then it goes on training. The fate of each trial so follows from the scores alone.
"""

import math
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Trace:
    """What is known of one trial: its score at each number of images, and whether more is to come."""

    scores: dict[int, float] = field(default_factory=dict)
    ended: bool = False


def fates(traces: list[Trace], rungs: list[int], eta: int, mode: str) -> list[int | float | None]:
    """The rung (in images) that stops each trial, math.inf where none does, None where it is still open.

    traces: by trial number. A trial stops at a rung where its score is worse than the best 1/eta of the scores
    that trials of lower number have there; the first eta - 1 at a rung always go on. mode: 'min' or 'max'.
    """
    result: list[int | float | None] = [None] * len(traces)
    sign = 1.0 if mode == "max" else -1.0
    undecided: set[int] = set()
    for rung in rungs:
        peers: list[float] = []
        score_missing = False
        for number, trace in enumerate(traces):
            if result[number] is not None:
                continue
            if rung not in trace.scores:
                score_missing |= not trace.ended
                continue
            if number in undecided or score_missing:
                undecided.add(number)
                score_missing = True
                continue
            score = sign * trace.scores[rung]
            if len(peers) >= eta - 1 and score < np.percentile(peers, 100 * (1 - 1 / eta)):
                result[number] = rung
            peers.append(score)
    for number, trace in enumerate(traces):
        if result[number] is None and trace.ended and number not in undecided:
            result[number] = math.inf
    return result
