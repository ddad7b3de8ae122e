"""Sweep files: what is right is read as typed settings, what is wrong is named with key, value and choices."""

import copy
import json
import time
from pathlib import Path

import pytest
import yaml

from duel.config import load_sweep, parse_sweep
from duel.errors import UsageError
from duel.settings_file import MOST_BYTES, MOST_VALUES, CoreLoader, read_settings

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
    (WIDTH, "0x20", [WIDTH, "'0x20'"]),
    (WIDTH, True, [WIDTH, "True"]),
    ("generators.families.r3gan.depth", True, ["r3gan.depth", "number", "True"]),
    ("detectors.families.patch.stride", {"type": "choice", "values": [True, 2]}, ["patch.stride", "number", "True"]),
    ("generators.families.dcgan.lr_generator", {"type": "uniform", "low": 0, "high": float("inf")}, ["high", "inf"]),
    ("generators.resources.gpu", float("inf"), ["generators.resources.gpu", "finite", "inf"]),
    ("guard.kid_share", float("nan"), ["guard.kid_share", "nan"]),
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


TINY = (Path(__file__).resolve().parent / "tiny.yaml").read_text()


@pytest.fixture
def loaded(tmp_path):
    """The sweep that a text, or the tiny sweep with `more` below a family's settings, is read as."""

    def load(text: str = "", more: str = "", below: str = "      latent: 16"):
        path = tmp_path / "s.yaml"
        path.write_text(text or TINY.replace(below, f"{below}\n      {more}"))
        assert text or path.read_text() != TINY
        return load_sweep(path)

    return load


def refused(loaded, *arguments: str, **more: str) -> str:
    with pytest.raises(UsageError, match=r"s\.yaml") as error:
        loaded(*arguments, **more)
    return str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "key", "lines"),
    [
        ("      latent: 16\n", "      latent: 16\n      latent: 32\n", "generators.families.dcgan.latent", (16, 17)),
        ("trials: 4", "trials: 4\ntrials: 4", "trials", (3, 4)),
        ("trials: 4", "trials: 4\n'trials': 4", "trials", (3, 4)),
        ("validation: 128,", "validation: 128, validation: 128,", "faces.validation", (4, 4)),
        ("    resnet18:", "    cnn: {width: 16}\n    resnet18:", "detectors.families.cnn", (27, 33)),
        ("low: 1.0e-4,", "low: 1.0e-4, low: 1.0e-5,", "generators.families.dcgan.lr_generator.low", (19, 19)),
        ("{evasion: ", "{evasion: 1.0, evasion: ", "generators.later_seasons.space.evasion", (11, 11)),
        ("      latent: 16\n", "      <<: {latent: 8, latent: 9}\n", "generators.families.dcgan.<<.latent", (16, 16)),
        ("      latent: 16\n", "      <<: {latent: 8}\n      <<: {width: 9}\n", "dcgan.<<", (16, 17)),
    ],
)
def test_a_key_that_stands_twice(loaded, old, new, key, lines):
    assert old in TINY
    said = refused(loaded, TINY.replace(old, new))
    assert f"{key}: must stand once, but stands in line {lines[0]} and in line {lines[1]}" in said
    assert len(said.splitlines()) == 1


def test_every_key_that_stands_twice_or_thrice_is_named(loaded):
    said = refused(loaded, TINY + "trials: 5\ntrials: 6\nfaces: {league: 1, league: 2}\n")
    keys = ["trials", "trials", "faces", "faces.league"]
    assert [line.split(": ")[1] for line in said.splitlines()] == keys


def test_a_twice_named_key_of_an_anchor_is_told_once(loaded):
    text = TINY.replace("sparring: one", "<<: &a {sparring: one, sparring: one}").replace("lr: ", "<<: *a\n      lr: ")
    assert len(refused(loaded, text).splitlines()) == 1


def test_a_merged_key_may_be_overridden(loaded):
    for more in (
        "<<: {latent: 8, beta1: 0.1}",
        "<<: [{latent: 8, beta1: 0.1}, {beta1: 0.2}]",
        "<<: {<<: {latent: 8, beta1: 0.3}, beta1: 0.1}",
    ):
        space = loaded(more=more).generators.families["dcgan"]
        assert (space["latent"].value, space["beta1"].value) == (16, 0.1), more


def test_a_cluster_file_says_each_key_once_too(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text("provider:\n  type: aws\n  type: local\n")
    with pytest.raises(UsageError, match=r"cluster\.yaml: provider\.type: .* line 2 and in line 3"):
        read_settings(path, "settings")
    path.write_text("cache_stopped_nodes: no\n")
    assert read_settings(path, "settings") == {"cache_stopped_nodes": False}, "Ray reads it by YAML 1.1"


BARE = {
    "1e-4": 1e-4, "1E5": 1e5, "-1e+3": -1e3, "1.5e3": 1.5e3, "1.": 1.0, ".5": 0.5, "+.5e1": 5.0, "0.10": 0.1,
    "010": 10, "08": 8, "-1_000": -1000, "0": 0, "true": True, "False": False, "~": None, "null": None, "": None,
    ".inf": float("inf"), "-.INF": float("-inf"), "yes": "yes", "No": "No", "on": "on", "OFF": "OFF", "y": "y",
    "1:30": "1:30", "12:30:45": "12:30:45", "2024-01-02": "2024-01-02", "0x10": "0x10", "0b1": "0b1", "1e": "1e",
    "e5": "e5", "1.2.3": "1.2.3", "=": "=", ".": ".", "-": "-", "'1e-4'": "1e-4", "nan": "nan", "<": "<",
}  # fmt: skip


@pytest.mark.parametrize("text", [text for text in BARE if text != "-"])
def test_a_bare_word_is_what_it_seems(text):
    value = yaml.load(f"a: {text}", CoreLoader)["a"]
    assert (value, type(value)) == (BARE[text], type(BARE[text]))


@pytest.mark.parametrize(
    ("more", "value"),
    [
        ("lr_discriminator: 1e-4", 1e-4),
        ("lr_discriminator: '1e-4'", 1e-4),
        ("lr_discriminator: 1", 1.0),
        ("beta1: {type: choice, values: [0, 0.5, 1e-1, '0.2']}", [0.0, 0.5, 0.1, 0.2]),
        ("lr_discriminator: {type: choice, values: [1e-4, 1e-3]}", [1e-4, 1e-3]),
        ("penalty_every: {type: choice, values: [1, 4.0, '8', 1e1, 010]}", [1, 4, 8, 10, 10]),
        ("penalty_every: {type: fixed, value: 2.0}", 2),
        ("augment: {type: choice, values: [yes, no]}", [True, False]),
        ("augment: {type: choice, values: [on, off, true, 0]}", [True, False, True, False]),
        ("augment: yes", True),
        ("upsample: nearest", "nearest"),
    ],
)
def test_values_have_their_settings_type(loaded, more, value):
    parameter = loaded(more=more).generators.families["dcgan"][more.split(":")[0]]
    got = parameter.values if parameter.type == "choice" else parameter.value
    assert repr(got) == repr(value)


def test_ranges_and_later_seasons_have_it_too(loaded):
    text = TINY.replace("low: 1.0e-4, high: 1.0e-3", "low: 1e-4, high: 1e-3").replace("[0, 1]", "[0, 1, 2]")
    side = loaded(text.replace("[false, true]", "[no, yes]")).generators
    lr = side.families["dcgan"]["lr_generator"]
    assert (lr.low, lr.high) == (1e-4, 1e-3)
    assert repr(side.later_seasons.space["pfsp_power"].values) == "[0.0, 1.0, 2.0]"
    assert loaded(text.replace("[false, true]", "[no, yes]")).detectors.later_seasons.space["fresh"].values == [
        False,
        True,
    ]
    assert loaded(text.replace("max_images: 768", "max_images: 7.68e2")).generators.budget.max_images == 768


def test_a_text_choice_is_told_as_it_stands(loaded):
    said = refused(loaded, more="upsample: {type: choice, values: [yes, nearest]}")
    assert "upsample" in said
    assert "'yes'" in said


def test_settings_that_a_run_holds_are_what_was_read(loaded):
    sweep = loaded(more="beta1: {type: choice, values: [0, 5e-1]}")
    assert parse_sweep(json.loads(json.dumps(sweep.model_dump())), "run.json", typed=False) == sweep


def test_an_earlier_runs_choices_stay_as_its_study_has_them():
    raw = broken("generators.families.dcgan.beta1", {"type": "choice", "values": ["1e-4", 0]})
    assert parse_sweep(raw, "run.json", typed=False).generators.families["dcgan"]["beta1"].values == ["1e-4", 0]
    assert parse_sweep(raw, "s.yaml").generators.families["dcgan"]["beta1"].values == [1e-4, 0.0]


LAUGHS = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9 if i else ['lol'] * 9)}]\n" for i in range(10))
MERGED = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, f"{MOST_VALUES:,}"),
        (MERGED, f"{MOST_VALUES:,}"),
        ("faces: &f {league: *f}\n", f"{MOST_VALUES:,}"),
        ("a: &a [*a]\n", f"{MOST_VALUES:,}"),
        ("a: [" + "1, " * MOST_VALUES + "]", f"{MOST_VALUES:,}"),
        ("# " + "x" * MOST_BYTES, f"{MOST_BYTES:,}"),
        ("[" * 5000, "nested"),
        ("a: " + "{b: " * 3000 + "}" * 3000, "nested"),
        ("a: " + "9" * 5000, "s.yaml"),
        ("a: !!bool maybe", "tag"),
        ("a: !!int x", "tag"),
        ("a: !!timestamp x", "tag"),
        ("a: !!python/object/apply:os.getcwd []", "tag"),
        ("a: *b", "undefined alias"),
        ("a: 1\n---\na: 2\n", "single document"),
        ("[1]: 2", "s.yaml"),
        ("{[1]: 2}", "s.yaml"),
        ("1: 2\n1: 2", "1: must stand once"),
        ("\n", "got nothing"),
        ("# only this", "got nothing"),
        ("- image_size: 16", "must hold the keys image_size"),
        ("a: 'x", "s.yaml"),
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_a_file_that_is_no_sweep_is_refused_at_once(loaded, text, words):
    start = time.perf_counter()
    assert words in refused(loaded, text)
    assert time.perf_counter() - start < 5


def test_a_file_that_is_not_utf8(tmp_path):
    path = tmp_path / "s.yaml"
    for data in (b"trials: 4 # caf\xe9", TINY.encode("utf-16")):
        path.write_bytes(data)
        with pytest.raises(UsageError, match=r"s\.yaml: .*UTF-8, got byte 0x"):
            load_sweep(path)
    path.write_bytes(b"\xef\xbb\xbf" + TINY.replace("\n", "\r\n").encode())
    assert load_sweep(path).trials == 4, "a byte order mark and CRLF, as Windows writes them"


def test_a_file_without_end():
    with pytest.raises(UsageError, match=r"/dev/zero: "):
        load_sweep(Path("/dev/zero"))
