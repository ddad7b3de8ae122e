"""ASHA's decisions follow from the scores, never from the order in which they came."""

import math

import numpy as np
import pytest

from duel.sweep.halving import Halving, Trace

RUNGS, ETA = [1, 3], 3


def fates(traces: list[Trace], rungs: list[int], eta: int, mode: str) -> list[int | float | None]:
    """Of traces as they are, decided all at once."""
    halving = Halving(rungs, eta, mode)
    halving.traces = traces
    return halving.fates()


def full(*scores: float) -> Trace:
    """A trial with these scores at rungs 1, 3 and the end, 9."""
    return Trace(dict(zip([1, 3, 9], scores, strict=False)), ended=len(scores) == 3)


def test_the_first_at_a_rung_always_go_on():
    assert fates([full(9, 9, 9), full(1, 1, 1)], RUNGS, ETA, "max") == [math.inf, math.inf]


@pytest.mark.parametrize(
    ("mode", "scores", "stops"),
    [("max", [5, 6, 1], True), ("max", [5, 6, 7], False), ("min", [5, 6, 7], True), ("min", [5, 6, 1], False)],
)
def test_a_score_outside_the_best_third_stops(mode, scores, stops):
    result = fates([full(s, s, s) for s in scores], RUNGS, ETA, mode)
    assert result[2] == (1 if stops else math.inf)


def test_a_missing_score_of_an_earlier_trial_keeps_later_ones_open():
    traces = [full(5), full(6, 6, 6), Trace({1: 0.0})]
    assert fates(traces, RUNGS, ETA, "max") == [None, None, 1]
    traces = [Trace(), full(6, 6, 6), Trace({1: 0.0})]
    assert fates(traces, RUNGS, ETA, "max") == [None, None, None]


def test_a_trial_that_ended_early_holds_nobody_up():
    traces = [Trace({}, ended=True), full(6, 6, 6), full(7, 7, 7), full(1, 1, 1)]
    assert fates(traces, RUNGS, ETA, "max") == [math.inf, math.inf, math.inf, 1]


def test_a_stopped_trial_counts_at_its_rung_and_not_later():
    traces = [full(5, 5, 5), full(6, 6, 6), Trace({1: 1.0}), full(7, 1, 1)]
    result = fates(traces, RUNGS, ETA, "max")
    assert result[2] == 1
    assert result[3] == 3  # worse than both that reached rung 3


def test_arrival_order_does_not_matter_and_decisions_are_never_taken_back():
    rng = np.random.default_rng(0)
    for _ in range(30):
        scores = rng.random((4, 3))
        whole = fates([full(*row) for row in scores], RUNGS, 2, "max")
        reports = [(trial, rung) for trial in range(4) for rung in range(3)]
        rng.shuffle(reports)
        reports.sort(key=lambda item: item[1] + rng.random() * 3)
        seen = dict.fromkeys(range(4), 0)
        for trial, _ in reports:
            seen[trial] += 1
            partial = fates([full(*scores[k][: seen[k]]) for k in range(4)], RUNGS, 2, "max")
            assert all(now is None or now == end for now, end in zip(partial, whole, strict=True))
        assert partial == whole


def test_against_rays_own_asha_when_trials_arrive_in_order():
    """Ray's AsyncHyperBand decides alike from the eta-th trial on, if trials reach the rung one after another."""
    from ray.tune.schedulers.async_hyperband import _Bracket

    rng = np.random.default_rng(1)
    scores = rng.random(40)
    bracket = _Bracket(min_t=1, max_t=9, reduction_factor=ETA, s=0)

    class Named:
        def __init__(self, number):
            self.trial_id = str(number)

    rays = [bracket.on_result(Named(i), 1, score) == "STOP" for i, score in enumerate(scores)]
    ours = fates([Trace({1: score}, ended=True) for score in scores], [1], ETA, "max")
    assert [fate == 1 for fate in ours][ETA - 1 :] != []
    assert [fate == 1 for fate in ours][ETA - 1 :] == rays[ETA - 1 :]


def test_every_prefix_gives_the_same_fates():
    rng = np.random.default_rng(2)
    scores = rng.random((12, 3))
    whole = fates([full(*row) for row in scores], RUNGS, ETA, "min")
    for count in range(12):
        assert fates([full(*row) for row in scores[:count]], RUNGS, ETA, "min") == whole[:count]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_traces_that_grow_are_judged_as_if_all_came_at_once(mode):
    """In any order of reports, with ties, and with trials that die on the way."""
    rng = np.random.default_rng(3)
    for _ in range(200):
        halving = Halving(RUNGS, ETA, mode)
        halving.traces = [Trace() for _ in range(rng.integers(1, 9))]
        for trial in rng.integers(0, len(halving.traces), 40):
            trace = halving.traces[trial]
            if not trace.ended:
                trace.scores[[1, 3, 9][len(trace.scores)]] = float(rng.integers(0, 5))
                trace.ended = len(trace.scores) == 3 or rng.random() < 0.2
            assert halving.fates() == fates(halving.traces, RUNGS, ETA, mode)
