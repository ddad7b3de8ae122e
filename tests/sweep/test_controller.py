"""A trial whose process dies as it takes it over from the trial before."""

import os
import signal
from pathlib import Path

import pytest
import ray
from ray import tune

from duel.sweep import controller


def dies_once() -> type[tune.Trainable]:
    """Of a function, so that it reaches Ray's workers whole: they can't import the tests."""

    class Dies(tune.Trainable):
        def step(self):
            return {"value": 1, "done": True}

        def reset_config(self, new_config):
            once = Path(new_config["once"])
            if not once.exists():
                once.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return True

    return Dies


@pytest.mark.slow
def test_a_trial_is_tried_again_whose_process_dies_as_it_takes_it_over(tmp_path):
    controller.install()
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        results = tune.Tuner(
            tune.with_resources(dies_once(), {"cpu": 1}),
            param_space={"once": str(tmp_path / "once")},
            tune_config=tune.TuneConfig(num_samples=3, reuse_actors=True),
            run_config=tune.RunConfig(
                storage_path=str(tmp_path / "tune"), verbose=0,
                failure_config=tune.FailureConfig(max_failures=1),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        ).fit()  # fmt: skip
        errors, values = [r.error for r in results], [r.metrics["value"] for r in results]
    finally:
        ray.shutdown()
    assert (tmp_path / "once").exists(), "no process died"
    assert errors == [None, None, None]
    assert values == [1, 1, 1]
