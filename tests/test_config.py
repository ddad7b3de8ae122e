"""Sweep files: what is right is read as typed settings, what is wrong is named with key, value and choices."""

import copy
from pathlib import Path

import pytest
import yaml

from duel.config import load_sweep, parse_sweep
from duel.errors import UsageError

SWEEPS = Path(__file__).resolve().parent.parent / "sweeps"
QUICK = yaml.safe_load((SWEEPS / "quick.yaml").read_text())


def broken(path: str, value: object) -> dict:
    """The quick sweep with one key set to `value`, or removed where value is ...; `path` is dotted."""
    raw = copy.deepcopy(QUICK)
    *parents, last = path.split(".")
    at = raw
    for key in parents:
        at = at.setdefault(key, {})
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return raw


@pytest.mark.parametrize("file", sorted(SWEEPS.glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_sweeps_are_valid(file):
    assert load_sweep(file).generators.families


def test_a_bare_value_is_fixed():
    space = parse_sweep(broken("generators.families.dcgan.latent", 64), "x.yaml").generators.families["dcgan"]
    assert space["latent"].type == "fixed"
    assert space["latent"].value == 64


WIDTH = "generators.families.dcgan.width"
FAULTS = [
    ("image_size", 33, ["image_size", "33", "64"]),
    ("image_size", "big", ["image_size", "'big'"]),
    ("image_size", ..., ["image_size", "required"]),
    ("trials", 1, ["trials", "1", "2"]),
    ("colour", True, ["colour", "unknown key", "image_size"]),
    ("faces.league", -5, ["faces.league", "-5"]),
    ("faces.league", "many", ["faces.league", "'many'"]),
    ("faces.test", 5, ["faces.test", "unknown key", "validation"]),
    ("faces", [1, 2], ["faces", "[1, 2]"]),
    ("generators.objective", "auc", ["generators.objective", "'auc'", "kid"]),
    ("generators.mode", "max", ["generators.mode", "'max'", "min"]),
    ("generators.families", {}, ["generators.families", "{}"]),
    ("generators.families", None, ["generators.families", "None"]),
    ("generators.families.vae", {}, ["generators.families.vae", "dcgan"]),
    ("generators.resources.gpu", 1.5, ["generators.resources", "1.5", "fraction"]),
    ("generators.resources.cpu", 0, ["generators.resources.cpu", "0", "1"]),
    ("generators.resources.tpu", 1, ["generators.resources.tpu", "unknown key", "gpu"]),
    ("generators.budget.max_images", 7, ["generators.budget", "max_images 7"]),
    ("generators.budget.report_every", 7000, ["generators.budget", "multiples", "7000"]),
    ("generators.budget.reduction_factor", 1, ["generators.budget.reduction_factor", "1", "2"]),
    ("generators.max_concurrent", 0, ["generators.max_concurrent", "0"]),
    (WIDTH, "wide", [WIDTH, "'wide'", "integer"]),
    (WIDTH, 3.5, [WIDTH, "3.5"]),
    (WIDTH, 10**6, [WIDTH, "1000000", "512"]),
    (WIDTH, {"type": "gauss"}, [WIDTH, "gauss", "loguniform"]),
    (WIDTH, {"type": "int", "low": 9, "high": 5}, [WIDTH, "low 9", "high 5"]),
    (WIDTH, {"type": "int", "low": 5}, [WIDTH, "high", "required"]),
    (WIDTH, {"type": "int", "low": 5, "high": 9, "quantum": 2}, [WIDTH, "quantum", "step"]),
    (WIDTH, {"type": "uniform", "low": 16, "high": 32}, [WIDTH, "integer"]),
    (WIDTH, {"type": "choice", "values": []}, [WIDTH, "values", "[]"]),
    (WIDTH, {"type": "choice", "values": [32, "x"]}, [WIDTH, "'x'"]),
    (WIDTH, [32, 64], [WIDTH, "[32, 64]"]),
    ("generators.families.dcgan.lr_generator", {"type": "loguniform", "low": 0, "high": 1}, ["lr_generator", "0"]),
    ("generators.families.dcgan.lr_generator", float("nan"), ["lr_generator", "nan"]),
    ("generators.families.dcgan.lr", 1e-3, ["dcgan.lr", "no such setting", "lr_generator"]),
    ("generators.families.dcgan.objective", "wgan", ["objective", "'wgan'", "hinge"]),
    ("detectors.families.cnn.dropout", 1.0, ["cnn.dropout", "1.0"]),
    ("detectors.families.cnn.sparring", "none", ["cnn.sparring", "'none'", "some"]),
    ("detectors.families.resnet18.depth", {"type": "int", "low": 1, "high": 9}, ["resnet18.depth", "9", "4"]),
    ("generators.later_seasons.space.evasion", -1, ["later_seasons.space.evasion", "-1"]),
    ("generators.later_seasons.space.escape", 1, ["later_seasons.space.escape", "no such setting", "pfsp_power"]),
    ("generators.later_seasons.space.panel", {"type": "int", "low": 0, "high": 3}, ["space.panel", "0", "1"]),
    ("generators.later_seasons.twins", -1, ["later_seasons.twins", "-1"]),
    ("generators.later_seasons.games", 1, ["later_seasons.games", "unknown key", "twins"]),
    ("generators.later_seasons.budget.max_images", 7, ["later_seasons.budget", "max_images 7"]),
    ("detectors.later_seasons.space.fresh", "maybe", ["later_seasons.space.fresh", "'maybe'"]),
    ("detectors.leave_family_out", -1, ["leave_family_out", "-1"]),
    ("guard.copies", 2, ["guard.copies", "2"]),
    ("guard.bound", 2, ["guard.bound", "unknown key", "kid_share"]),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "words"), FAULTS, ids=[f"{p}={v}" for p, v, _ in FAULTS])
def test_a_fault_is_named(path, value, words):
    with pytest.raises(UsageError) as error:
        parse_sweep(broken(path, value), "my.yaml")
    for word in ["my.yaml", *words]:
        assert word in str(error.value)


def test_every_fault_is_listed_at_once():
    raw = broken("image_size", 33)
    raw["trials"] = 0
    with pytest.raises(UsageError) as error:
        parse_sweep(raw, "my.yaml")
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize("text", ["", "- 1\n- 2\n", "a: b: c", "\t{", "just words", "42", "\x00\x01"])
def test_no_sweep_file(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"bad\.yaml"):
        load_sweep(path)


def test_a_missing_or_binary_file(tmp_path):
    with pytest.raises(UsageError, match=r"none\.yaml"):
        load_sweep(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match=str(tmp_path)):
        load_sweep(tmp_path)
    (tmp_path / "photo.yaml").write_bytes(bytes(range(256)))
    with pytest.raises(UsageError, match=r"photo\.yaml"):
        load_sweep(tmp_path / "photo.yaml")


def test_a_batch_must_fit_between_two_reports():
    budget = {"grace_images": 100, "max_images": 200, "report_every": 100}
    with pytest.raises(UsageError, match=r"dcgan\.batch_size.*report_every.*128"):
        raw = broken("generators.budget", budget)
        raw["generators"]["families"]["dcgan"]["batch_size"] = 128
        parse_sweep(raw, "my.yaml")


def test_a_batch_must_fit_between_two_reports_of_later_seasons_too():
    raw = broken("generators.later_seasons.budget", {"grace_images": 32, "max_images": 64, "report_every": 32})
    with pytest.raises(UsageError, match=r"batch_size.*generators\.later_seasons\.budget\.report_every.*64"):
        parse_sweep(raw, "my.yaml")


def test_later_seasons_have_their_own_budget_or_the_firsts():
    raw = broken("detectors.later_seasons.budget", ...)
    side = parse_sweep(raw, "x").detectors
    assert side.budget_in(1) == side.budget_in(2) == side.budget
    side = parse_sweep(QUICK, "x").generators
    assert side.budget_in(1) == side.budget
    assert side.budget_in(2) == side.budget_in(3) == side.later_seasons.budget != side.budget


def test_rungs_lie_on_reports_below_the_maximum():
    raw = broken(
        "generators.budget",
        {"grace_images": 200, "max_images": 2000, "report_every": 100, "reduction_factor": 3},
    )
    raw["generators"]["families"]["dcgan"]["batch_size"] = 50
    assert parse_sweep(raw, "x").generators.budget.rungs() == [200, 600, 1800]
