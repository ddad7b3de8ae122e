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
        settings, settings.trials, 1, 0, cautious_speeds(settings.image_size), {"generator": 2, "detector": 2}
    )
    assert (plan.seconds > MANY_HOURS) == long


def test_a_plan_counts_seasons_twins_families_left_out_and_weather():
    settings = load_sweep(SWEEPS / "quick.yaml")
    speeds, parallel = cautious_speeds(32), {"generator": 2, "detector": 2}
    one, three, rainy = (
        make_plan(settings, 8, seasons, weathers, speeds, parallel) for seasons, weathers in ((1, 0), (3, 0), (3, 1))
    )
    # 4 generators of 160,000 images and 4 + 2 detectors of 96,000; then twice 4 + 2 of 40,000 and 4 + 2 of 48,000
    assert one.images_trained == 4 * 160_000 + (4 + 2) * 96_000
    assert three.images_trained == one.images_trained + 2 * (6 * 40_000 + 6 * 48_000)
    assert (three.generators, three.detectors, three.matches) == (12, 12, 144)
    assert rainy.images_judged - three.images_judged == 12 * 2000 * 13
    assert rainy.seconds > three.seconds > one.seconds
