"""A detector's calibration: what it mends, and that training does not know of it."""

import numpy as np
import pytest
import torch
from test_training import blobs, detection, timeless

from duel.errors import DuelError
from duel.families import CnnSettings
from duel.models.detector import Detector
from duel.models.inference import predict, predict_logits
from duel.rules.match import match_row
from duel.rules.scores import auc, calibration_error
from duel.train.detector import DetectorTrainer
from duel.train.loop import Diverged

CPU = torch.device("cpu")


class Shifted(Detector):
    """Ranks bright images above dark ones, and calls nearly all of them fake."""

    def __init__(self, by):
        super().__init__()
        self.by = torch.nn.Parameter(torch.tensor(by))

    def logits(self, images):
        return 4 * images.float().mean((1, 2, 3)) + self.by


def noisy(count, level, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(level, 40, (count, 1, 1, 1)).clip(0, 255).repeat(3, 1).repeat(16, 2).repeat(16, 3).astype("uint8")


def with_network(network):
    reals, fakes = noisy(400, 100, 0), noisy(300, 160, 1)
    trainer = DetectorTrainer(
        "cnn", CnnSettings(width=4, depth=1), reals, fakes, reals, fakes, image_size=16, device=CPU, seed=0
    )
    trainer._network = network
    return trainer


@pytest.mark.parametrize("by", [-9.0, 9.0])
def test_a_shifted_detector_that_loses_wins_once_it_is_calibrated(by):
    league_reals, league_fakes = noisy(500, 100, 2), noisy(500, 160, 3)
    network = Shifted(by).eval()
    before = [predict(network, images, CPU) for images in (league_reals, league_fakes)]
    after = [predict(with_network(network).detector, images, CPU) for images in (league_reals, league_fakes)]
    assert match_row(*before)["accuracy"] <= 0.5
    assert match_row(*after)["accuracy"] > 0.75
    assert match_row(*after)["winner"] == "detector"
    assert calibration_error(*after) < 0.1 < 0.4 < calibration_error(*before)


def test_auc_is_untouched_by_calibration():
    trainer = detection()
    report = list(trainer.run(160, 160))[-1]
    plain, calibrated = trainer._network.eval(), trainer.detector
    assert calibrated.scale != 1
    images = blobs(60, 2), 255 - blobs(150, 1)[90:]
    raw, moved = ([predict_logits(network, some, CPU) for some in images] for network in (plain, calibrated))
    assert auc(*raw) == auc(*moved) == report["auc"]


def test_reports_are_of_the_calibrated_network():
    trainer = detection()
    report = list(trainer.run(80, 80))[-1]
    on_reals, on_fakes = (predict(trainer.detector, some, CPU) for some in (blobs(60, 2), 255 - blobs(150, 1)[90:]))
    assert report["accuracy"] == (np.mean(on_reals < 0.5) + np.mean(on_fakes >= 0.5)) / 2
    assert report["calibration_error"] == pytest.approx(calibration_error(on_reals, on_fakes), abs=1e-4)


def test_training_and_its_state_know_of_no_calibration():
    quiet, watched = detection(), detection()
    expected = timeless(quiet.run(240, 80))
    seen = []
    for report in watched.run(240, 80):
        seen.append(report)
        assert watched.detector.scale != 1
        state = watched.state_dict()["detector"]
        assert (state["scale"], state["shift"]) == (1, 0)
    assert timeless(seen) == expected
    for name, weights in quiet.state_dict()["detector"].items():
        assert (weights == state[name]).all()


def test_a_detector_asked_for_after_a_resume_is_that_of_the_state():
    trainer, other = detection(), detection(seed=4)
    list(trainer.run(80, 80))
    wanted = trainer.detector.state_dict()
    list(other.run(80, 80))
    other.load_state_dict(trainer.state_dict())
    assert all((value == wanted[name]).all() for name, value in other.detector.state_dict().items())


def test_a_training_starts_from_weights_and_drops_their_calibration():
    trained = detection()
    list(trained.run(80, 80))
    weights = trained.detector.state_dict()
    started = detection(start=weights)
    own = started.state_dict()["detector"]
    assert (own["scale"], own["shift"]) == (1, 0)
    assert all((own[name] == value).all() for name, value in weights.items() if name not in ("scale", "shift"))
    assert all((value == weights[name]).all() for name, value in started.detector.state_dict().items())
    list(started.run(80, 80))
    assert all((value == weights[name]).all() for name, value in trained.detector.state_dict().items())
    assert timeless(detection(start=weights).run(80, 80)) == timeless(detection(start=weights).run(80, 80))


def test_weights_of_another_network_are_no_start():
    weights = detection(CnnSettings(width=4, depth=2, batch_size=16)).detector.state_dict()
    with pytest.raises(DuelError, match="weights to start from do not fit"):
        detection(start=weights)


def test_logits_that_are_not_finite_are_a_divergence():
    trainer = with_network(Shifted(float("inf")))
    with pytest.raises(Diverged, match=r"logit is not finite after 0 images"):
        _ = trainer.detector
