"""What trials are drawn from, in season 1 and later."""

import optuna
import pytest
from league_runs import TINY

from duel.config import load_sweep, parse_sweep
from duel.families import family_settings
from duel.spaces import Choice, Fixed, Uniform
from duel.sweep.space import Parent, SearchSpace

PARENTS = [
    Parent("g01-dcgan", "dcgan", {"width": 8, "lr_generator": 4e-4, "lr_discriminator": 2e-4}),
    Parent("g02-dcgan", "dcgan", {"width": 16}),
]


def drawn(space: SearchSpace, count: int = 20) -> list[dict]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.draw(study.ask()) for _ in range(count)]


def side(name: str, **later):
    sweep = load_sweep(TINY).side(name)
    return sweep.model_copy(update={"later_seasons": sweep.later_seasons.model_copy(update={"space": later})})


def test_names_and_studies_tell_the_season():
    first, third = SearchSpace("generator", side("generator")), SearchSpace("detector", side("detector"), 3, PARENTS)
    assert (first.study, first.name(0, "dcgan")) == ("generators", "g01-dcgan")
    assert (third.study, third.name(11, "cnn")) == ("season-3-detectors", "s3d12-cnn")


def test_a_familys_settings_exist_only_when_it_is_drawn():
    for chosen in drawn(SearchSpace("detector", side("detector"))):
        assert ("lr" in chosen["settings"]) == (chosen["family"] == "cnn")
        assert (chosen["parent"], chosen["season"]) == ("", {})


def test_later_trials_start_from_an_entrant_with_its_settings_at_a_lower_rate():
    space = SearchSpace("generator", side("generator", lr_scale=Fixed(type="fixed", value=0.25)), 2, PARENTS)
    chosen = drawn(space)
    assert {c["parent"] for c in chosen} == {"g01-dcgan", "g02-dcgan"}
    for c in chosen:
        parent = next(p for p in PARENTS if p.name == c["parent"])
        before = family_settings("generator", "dcgan", parent.settings)
        after = family_settings("generator", "dcgan", c["settings"])
        assert after.lr_generator == pytest.approx(before.lr_generator / 4)
        assert after.lr_discriminator == pytest.approx(before.lr_discriminator / 4)
        assert after.model_copy(update={"lr_generator": 0, "lr_discriminator": 0}) == before.model_copy(
            update={"lr_generator": 0, "lr_discriminator": 0}
        )
        assert c["season"] == {"evasion": 1.0, "panel": 3, "pfsp_power": 1.0, "lr_scale": 0.25}


def test_how_a_trial_competes_is_searched():
    space = {"evasion": Uniform(type="uniform", low=0.5, high=2), "panel": Choice(type="choice", values=[1, 2])}
    chosen = drawn(SearchSpace("generator", side("generator", **space), 2, PARENTS))
    assert {c["season"]["panel"] for c in chosen} == {1, 2}
    assert len({c["season"]["evasion"] for c in chosen}) == len(chosen)
    assert all(0.5 <= c["season"]["evasion"] <= 2 for c in chosen)


def test_a_fresh_detector_draws_its_own_family():
    parents = [Parent("d01-cnn", "cnn", {"width": 8, "lr": 1e-3})]
    space = SearchSpace("detector", side("detector", fresh=Choice(type="choice", values=[True, False])), 2, parents)
    chosen = drawn(space)
    assert {c["parent"] for c in chosen} == {"", "d01-cnn"}
    assert all(c["season"]["fresh"] == (c["parent"] == "") for c in chosen)
    assert {c["family"] for c in chosen if not c["parent"]} == {"cnn", "resnet18"}


@pytest.mark.parametrize("range", [{"type": "int", "low": 1, "high": 4}, {"type": "choice", "values": [1, 2]}, 3])
def test_what_is_drawn_has_its_settings_type(range):
    raw = load_sweep(TINY).model_dump()
    raw["detectors"]["families"] = {"cnn": {"blur_sigma": range}}
    for typed in (True, False):
        for chosen in drawn(SearchSpace("detector", parse_sweep(raw, "s.yaml", typed).detectors)):
            assert list(chosen["settings"]) == ["blur_sigma"]
            assert isinstance(chosen["settings"]["blur_sigma"], float)
