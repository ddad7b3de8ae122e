"""The plan before a run."""

import pytest
from league_runs import TINY

from duel.config import load_sweep
from duel.league import SWEEPS
from duel.plan import MANY_HOURS, cautious_speeds, make_plan


@pytest.mark.parametrize(
    ("sweep", "long"), [(TINY, False), (SWEEPS / "quick.yaml", False), (SWEEPS / "mission.yaml", True)]
)
def test_only_a_run_that_may_take_hours_is_measured_before_it_starts(sweep, long):
    settings = load_sweep(sweep)
    plan = make_plan(
        settings, settings.trials, 1, cautious_speeds(settings.image_size), {"generator": 2, "detector": 2}
    )
    assert (plan.seconds > MANY_HOURS) == long
