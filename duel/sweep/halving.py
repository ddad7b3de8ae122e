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


class Halving:
    """The fates of trials, whose traces grow. A decision is made once, so its cost does not grow with their number.

    traces: by trial number; whoever has measured adds to them. rungs: in images. eta: the best 1/eta of the scores that
    trials of lower number have at a rung go on, and the first eta - 1 there always. mode: 'min' or 'max'.
    """

    def __init__(self, rungs: list[int], eta: int, mode: str):
        self.traces: list[Trace] = []
        self._rungs, self._eta, self._sign = rungs, eta, 1.0 if mode == "max" else -1.0
        self._stopped: dict[int, int] = {}  # trial -> the rung that stops it
        self._past = [0] * len(rungs)  # trials that have been seen to at each rung: those of lower number
        self._peers: list[list[float]] = [[] for _ in rungs]

    def fate(self, number: int) -> int | float | None:
        """The rung (in images) that stops a trial, math.inf where none does, None where it is still open."""
        self._decide()
        if number in self._stopped:
            return self._stopped[number]
        trace = self.traces[number]
        open_at = [r for r, past in zip(self._rungs, self._past, strict=True) if r in trace.scores and past <= number]
        return math.inf if trace.ended and not open_at else None

    def fates(self) -> list[int | float | None]:
        """Of all trials."""
        return [self.fate(number) for number in range(len(self.traces))]

    def _decide(self) -> None:
        """At each rung take the trials in the order of their numbers, as far as all that counts there is known."""
        before = len(self.traces)
        for index in range(len(self._rungs)):
            while self._past[index] < before and self._see_to(index, self._past[index]):
                self._past[index] += 1
            before = self._past[index]  # the next rung waits for this one: a trial that stops here is none of its peers

    def _see_to(self, index: int, number: int) -> bool:
        """Whether a trial passes a rung, stops there or never comes; False while that is open."""
        rung, trace, peers = self._rungs[index], self.traces[number], self._peers[index]
        if number in self._stopped:
            return True
        if rung not in trace.scores:
            return trace.ended
        score = self._sign * trace.scores[rung]
        if len(peers) >= self._eta - 1 and score < np.percentile(peers, 100 * (1 - 1 / self._eta)):
            self._stopped[number] = rung
        peers.append(score)
        return True
