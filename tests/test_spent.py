"""Where a stage of trials spent its time."""

import pytest

from duel.spent import busy_spans, spent


def report(ended: float, seconds: float, validation: float) -> dict:
    return {"ended": ended, "seconds": seconds, "validation_seconds": validation}


def test_seconds_of_training_add_up_over_the_reports_and_those_of_scoring_do_not():
    assert busy_spans([report(112, 10, 2), report(130, 25, 2)]) == [(100, 112), (113, 130)]


def test_trials_side_by_side_count_once():
    one, other = [report(112, 10, 2)], [report(115, 10, 2)]
    assert sum(spent([one, other]).values()) == pytest.approx(15)
    assert spent([one, one]) == {"training": 10, "scoring": 2}


def test_a_pause_of_all_trials_is_neither():
    assert spent([[report(110, 10, 0)], [report(230, 10, 0)]]) == {"training": 20, "scoring": 0}


def test_trials_that_never_reported_took_no_time():
    assert spent([]) == spent([[]]) == {"training": 0, "scoring": 0}
