"""The plan before a run."""

from dataclasses import replace

import pytest
import torch
from league_runs import TINY

from duel.config import load_sweep
from duel.device import scoring_batch
from duel.families import GeneratorSettings
from duel.league import SWEEPS
from duel.plan import MANY_HOURS, describe_plan, make_plan
from duel.speeds import Effort, _training_rate, cautious_speeds, effort, measure_speeds
from duel.train.graphs import WARM_UP
from duel.train.loop import Diverged


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


def test_trials_that_share_a_gpu_are_not_counted_twice():
    settings = load_sweep(SWEEPS / "quick.yaml")  # a quarter of a GPU a trial
    parallel = {"generator": 4, "detector": 4}
    alone = replace(cautious_speeds(32), on_gpu=True)

    def plan(at_once, speeds=alone):
        return make_plan(settings, 16, 1, 0, speeds, at_once)

    def text(of):
        return describe_plan(of, settings, "drawn faces", "here", parallel)

    one = {"generator": 1, "detector": 1}
    assert plan(parallel).stage_seconds == plan(one).stage_seconds
    assert plan({"generator": 8, "detector": 8}).seconds < plan(parallel).seconds  # on two GPUs
    assert plan(parallel, cautious_speeds(32)).seconds < plan(parallel).seconds
    assert "as fast together as one alone" in text(plan(parallel))
    assert "as fast together as one alone" not in text(plan(one))
    assert "as fast together as one alone" not in text(plan(parallel, cautious_speeds(32)))


def test_a_gpu_is_measured_with_full_batches_after_a_warm_up():
    gpu = torch.device("cuda")
    assert effort(torch.device("cpu")) == Effort(images=32, warm_up=1, steps=1)
    assert effort(gpu).images >= 4 * scoring_batch(gpu)
    usual = GeneratorSettings.model_fields["penalty_every"].default
    assert effort(gpu).warm_up > WARM_UP * usual  # a step with a penalty is recorded too
    assert effort(gpu).steps % usual == 0  # as many of them as in a long training


class Counted:
    """A trainer that does nothing, as one whose loss is no number."""

    batch_size, device = 8, torch.device("cpu")

    def __init__(self):
        self.goals = []

    def train_to(self, images):
        self.goals.append(images)
        raise Diverged("loss is nan")


def test_training_is_measured_after_its_warm_up_whatever_it_learns():
    trainer = Counted()
    assert _training_rate(trainer, Effort(images=0, warm_up=3, steps=5)) > 0
    assert trainer.goals == [3 * 8, 8 * 8]


def test_speeds_are_measured_on_the_cpu():
    speeds = measure_speeds(load_sweep(TINY), {"generator": 1, "detector": 1})
    assert not speeds.on_gpu or torch.cuda.is_available()
    assert min(speeds.generator_training, speeds.detector_training, speeds.making_fakes, speeds.detecting) > 0
