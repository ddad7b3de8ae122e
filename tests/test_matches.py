"""Planted entrants whose results are known, sent through the round robin as it runs in a league."""

import logging
from pathlib import Path

import fp32
import numpy as np
import planted
import pytest
import ray
import torch
from ray import cloudpickle
from torch import nn

from duel import matches, readings
from duel.faces import draw_faces
from duel.families import family_settings
from duel.models import build
from duel.models.inference import predict_each
from duel.seeds import derive
from duel.train.detector import DetectorTrainer
from duel.weather import change, parse_weather

SIZE, COUNT = 16, 1000
ROOM = {"cpu": 1, "gpu": 0.0}


@pytest.fixture(scope="module")
def local_ray():
    cloudpickle.register_pickle_by_value(planted)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def reals() -> np.ndarray:
    """Twice COUNT faces: the league's held-out reals, and as many that no one has seen."""
    return draw_faces(2 * COUNT, SIZE, seed=5)


def detectors(held_out: np.ndarray) -> dict[str, nn.Module]:
    torch.manual_seed(3)
    plain = {
        f: build("detector", f, SIZE, family_settings("detector", f, {"width": 8, "depth": 2}))
        for f in ("cnn", "resnet18")
    }
    return {
        "cnn": planted.centred(plain["cnn"], held_out),
        "resnet18": planted.centred(plain["resnet18"], held_out),
        "brightness": planted.Brightness(float(held_out.mean()) / 127.5 - 1),
        "says-real": planted.Constant(-3.0),
        "says-fake": planted.Constant(3.0),
        "says-half": planted.Constant(0.0),
        "oracle": planted.Oracle(held_out),
    }


def generators(unseen: np.ndarray) -> dict[str, nn.Module]:
    torch.manual_seed(4)
    settings = family_settings("generator", "dcgan", {"width": 8, "latent": 16})
    return {"unseen-reals": planted.Replay(unseen), "dcgan": build("generator", "dcgan", SIZE, settings)}


@pytest.fixture(scope="module")
def table(local_ray, reals, tmp_path_factory):
    return played(reals, detectors(reals[:COUNT]), tmp_path_factory.mktemp("work"))


def played(reals: np.ndarray, team_b: dict[str, nn.Module], work: Path):
    """The match table, by generator and detector."""
    team_a = generators(reals[COUNT:])
    models = {Path(name): model.eval() for name, model in {**team_a, **team_b}.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readings, "load_model", lambda folder: (models[folder], {}))
        rows = matches.play(
            {n: Path(n) for n in team_a}, {n: Path(n) for n in team_b}, {n: [] for n in team_b},
            dict.fromkeys(team_a, "any"), readings.Ground(ray.put(reals), (0, COUNT), 0, work, ROOM, planted.Silent()),
        )  # fmt: skip
    return rows.set_index(["generator", "detector"])


@pytest.mark.parametrize("detector", ["cnn", "resnet18", "brightness"])
def test_unseen_reals_are_within_noise_of_half(table, detector):
    row = table.loc["unseen-reals", detector]
    assert 0.05 < row["real_accuracy"] < 0.95  # a detector with an opinion, not a constant one
    assert abs(row["accuracy"] - 0.5) < 4 * np.sqrt(0.25 / (2 * COUNT))


def test_the_oracle_wins_every_match(table):
    rows = table.xs("oracle", level="detector")
    assert (rows["accuracy"] == 1.0).all()
    assert (rows["auc"] == 1.0).all()
    assert (rows["winner"] == "detector").all()


@pytest.mark.parametrize("detector", ["says-real", "says-fake", "says-half"])
def test_a_constant_answer_gets_exactly_half_and_wins_by_the_rule(table, detector):
    rows = table.xs(detector, level="detector")
    assert (rows["accuracy"] == 0.5).all()
    assert (rows["auc"] == 0.5).all()
    assert (rows["winner"] == "detector").all()


def test_swapped_labels_turn_every_result(table, reals, tmp_path):
    answering = {n: d for n, d in detectors(reals[:COUNT]).items() if not n.startswith("says")}
    swapped = played(reals, {n: planted.Swapped(d) for n, d in answering.items()}, tmp_path)
    for key, row in swapped.iterrows():
        before = table.loc[key]
        assert row["accuracy"] == pytest.approx(1 - before["accuracy"], abs=1e-12)
        assert row["auc"] == pytest.approx(1 - before["auc"], abs=1e-4)  # ties where float32 saturates
        if before["accuracy"] != 0.5:
            assert {row["winner"], before["winner"]} == {"detector", "generator"}


def test_fakes_for_different_purposes_share_none(local_ray, tmp_path, monkeypatch):
    model = generators(draw_faces(4, SIZE, 0))["dcgan"].eval()
    monkeypatch.setattr(readings, "load_model", lambda folder: (model, {}))
    sets = []
    for purpose in ("sparring", "validation", "league"):
        refs = readings.fakes_of({"a": Path("a"), "b": Path("b")}, purpose, 50, 0, tmp_path, ROOM, planted.Silent())
        sets += [{image.tobytes() for image in ray.get(ref)} for ref in refs.values()]
    assert len(set.union(*sets)) == sum(map(len, sets)) == 6 * 50


def test_work_on_disk_is_not_done_again(local_ray, tmp_path, monkeypatch):
    path = tmp_path / "fakes" / "league" / "a.npy"
    path.parent.mkdir(parents=True)
    np.save(path, np.full((5, 3, SIZE, SIZE), 9, np.uint8))
    monkeypatch.setattr(readings, "load_model", None)
    refs = readings.fakes_of({"a": Path("a")}, "league", 5, 0, tmp_path, ROOM, planted.Silent())
    assert (ray.get(refs["a"]) == 9).all()


def test_few_generators_fakes_are_alive_at_once(local_ray, reals, tmp_path, monkeypatch):
    """Seven generators and five detectors in three blocks; two places for tasks, so two generators at play."""
    team_a, model = {f"g{i}": Path(f"g{i}") for i in range(7)}, generators(reals)["dcgan"].eval()
    team_b = {f"d{i}": Path(f"d{i}") for i in range(5)}
    models = {path: planted.Constant(float(i)) for i, path in enumerate(team_b.values())}
    monkeypatch.setattr(readings, "load_model", lambda folder: (models.get(folder, model), {}))
    monkeypatch.setattr(readings, "BLOCK", 2)
    at_play = []
    begin = readings._Block._begin
    monkeypatch.setattr(readings._Block, "_begin", lambda s, *a: (begin(s, *a), at_play.append(len(s.left))))
    ground = readings.Ground(ray.put(reals), (0, 50), 0, tmp_path, ROOM, planted.Silent())
    rows = matches.play(team_a, team_b, {n: [] for n in team_b}, dict.fromkeys(team_a, "any"), ground)
    assert len(at_play) == 3 * (1 + 7)
    assert max(at_play) <= 3  # in the last block one task reads a generator for its one detector
    assert list(zip(rows["generator"], rows["detector"], strict=True)) == [(g, d) for g in team_a for d in team_b]


@pytest.mark.parametrize(("detectors", "places"), [(16, 2), (1, 2), (3, 8), (16, 1), (16, 100)])
def test_every_place_has_a_task_while_the_next_fakes_are_made(detectors, places):
    readers, at_play = readings.schedule(detectors, places)
    assert (at_play - 1) * -(-detectors // readers) >= places
    assert (at_play - 2) * -(-detectors // readers) < places
    assert 1 <= readers <= readings.READERS
    assert readings.schedule(detectors, places, ends=True)[0] == min(detectors, readings.READERS)  # few processes


def test_killed_between_readings_a_league_goes_on_with_the_same_fakes(local_ray, reals, tmp_path):
    """Scores that are there are kept, missing ones are read from the fakes on disk."""
    before = played(reals, detectors(reals[:COUNT]), tmp_path)
    stays, goes = (tmp_path / "scores" / name / "dcgan.npy" for name in ("cnn", "oracle"))
    kept = {path: path.stat().st_mtime_ns for path in [stays, *tmp_path.glob("fakes/league/*.npy")]}
    goes.unlink()
    assert played(reals, detectors(reals[:COUNT]), tmp_path).equals(before)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_who_trained_on_whom_is_told_by_generator_and_by_family(local_ray, reals, tmp_path, monkeypatch):
    team_a, team_b = {n: Path(n) for n in ("a1", "a2", "b1")}, {"d": Path("d"), "e": Path("e")}
    model = generators(reals)["dcgan"].eval()
    monkeypatch.setattr(
        readings, "load_model", lambda f: (planted.Constant(1.0) if f in team_b.values() else model, {})
    )
    ground = readings.Ground(ray.put(reals), (0, 20), 0, tmp_path, ROOM, planted.Silent())
    families = {"a1": "a", "a2": "a", "b1": "b"}
    rows = matches.play(team_a, team_b, {"d": ["a1"], "e": []}, families, ground).set_index(["generator", "detector"])
    assert rows["seen"].to_dict() == {(g, d): (g, d) == ("a1", "d") for g in team_a for d in team_b}
    assert rows["family_seen"].to_dict() == {(g, d): g != "b1" and d == "d" for g in team_a for d in team_b}


def test_scouting_measures_what_is_caught_on_fakes_of_its_own(local_ray, reals, tmp_path, monkeypatch):
    team_a, team_b = {"g": Path("g")}, {"fake": Path("fake"), "real": Path("real")}
    models = {Path("fake"): planted.Constant(1.0), Path("real"): planted.Constant(-1.0)}
    model = generators(reals)["dcgan"].eval()
    monkeypatch.setattr(readings, "load_model", lambda folder: (models.get(folder, model), {}))
    place = (ray.put(reals), (5, 45), 0, tmp_path, ROOM, planted.Silent())
    table = matches.scout(team_a, team_b, readings.Ground(*place, purpose="scouting"))
    table = table.set_index(["generator", "detector"])
    assert table["caught"].to_dict() == {("g", "fake"): 1.0, ("g", "real"): 0.0}
    assert (table["accuracy"] == 0.5).all()
    matches.play(team_a, team_b, {"fake": [], "real": []}, {"g": "any"}, readings.Ground(*place))
    scouted, league = (np.load(tmp_path / "fakes" / purpose / "g.npy") for purpose in ("scouting", "league"))
    assert not {i.tobytes() for i in scouted} & {i.tobytes() for i in league}


def test_weather_changes_both_classes_and_leaves_the_league_as_it_was(local_ray, reals, tmp_path, monkeypatch):
    """The oracle knows its reals to the pixel: in any weather it takes all for fakes."""
    held_out = reals[:COUNT]
    before = played(reals, detectors(held_out), tmp_path)
    kept = {path: path.read_bytes() for path in tmp_path.glob("scores/*/*.npy")}
    models = {Path("oracle"): planted.Oracle(held_out)}
    monkeypatch.setattr(readings, "load_model", lambda folder: (models[folder], {}))
    weather = parse_weather("noise8")[0]
    ground = readings.Ground(ray.put(reals), (0, COUNT), 0, tmp_path, ROOM, planted.Silent(), weather=weather)
    readings.read_all({"dcgan": Path("dcgan")}, {"oracle": Path("oracle")}, ground)
    rows = before.reset_index()
    rows = rows[(rows["generator"] == "dcgan") & (rows["detector"] == "oracle")]
    assert rows["accuracy"].item() == 1.0
    assert matches.in_weather(rows, ground).item() == 0.5
    assert {path: path.read_bytes() for path in kept} == kept


@pytest.mark.parametrize(("name", "gpu"), [("noise8", 0.0), ("jpeg50", 0.5)])
def test_weather_changes_a_set_once_on_a_core_for_all_who_read_it(
    local_ray, one_thread, reals, tmp_path, monkeypatch, name, gpu
):
    team_a = {n: Path(n) for n in ("a", "b", "c")}
    team_b = {Path("bright"): planted.Brightness(0.1), Path("cnn"): detectors(reals[:COUNT])["cnn"].eval()}
    generator = generators(reals)["dcgan"].eval()
    monkeypatch.setattr(readings, "load_model", lambda folder: (team_b.get(folder, generator), {}))
    monkeypatch.setattr(readings, "READERS", 1)
    rooms, log, sized = [], tmp_path / "changed", readings.sized

    def change_and_tell(images, span, weather, seed):
        with log.open("a") as file:
            file.write(f"{seed}\n")
        return change(images[slice(*span)], weather, seed)

    monkeypatch.setattr(readings, "_change", change_and_tell)
    monkeypatch.setattr(
        readings, "sized", lambda function, room: (rooms.append((function, room)), sized(function, ROOM))[1]
    )
    weather, span, seed = parse_weather(name)[0], (100, 300), 3
    ground = readings.Ground(ray.put(reals), span, seed, tmp_path, {"cpu": 1, "gpu": gpu}, planted.Silent(),
                             weather=weather)  # fmt: skip
    readings.read_all(team_a, {path.name: path for path in team_b}, ground)
    seeds = {images: derive(seed, "weather", images) for images in (readings.REALS, *team_a)}
    assert sorted(map(int, log.read_text().split())) == sorted(seeds.values())
    assert [room for function, room in rooms if function is change_and_tell] == 4 * [{"cpu": 1, "gpu": 0}]
    for images in seeds:
        before = reals[slice(*span)] if images == readings.REALS else np.load(ground.fakes.path(images))
        shown = change(before, weather, seeds[images])
        for path, detector in team_b.items():
            wanted = predict_each([detector], shown, fp32.CPU)[0]
            assert np.array_equal(np.load(ground.answers(path.name, images)), wanted)


@pytest.mark.parametrize(("family", "values"), [("cnn", {"width": 16}), ("resnet18", {"width": 8, "depth": 2})])
def test_the_fast_path_decides_as_float32_does_but_for_rounding(family, values, reals):
    """On detectors in the middle of learning, shifted so that half of their answers lie on either side of 0.5."""
    noise = np.random.default_rng(0).normal(0, 8, reals.shape)
    fakes = np.clip(reals + noise, 0, 255).round().astype(np.uint8)
    trainer = DetectorTrainer(family, family_settings("detector", family, values), reals[:500], fakes[:500],
                              reals[:16], fakes[:16], image_size=SIZE, device=fp32.CPU, seed=0)  # fmt: skip
    trainer.train_to(1000)
    detector = trainer.detector
    both = np.concatenate([reals[COUNT:], fakes[COUNT:]])
    with torch.no_grad():
        [m for m in detector.modules() if isinstance(m, nn.Linear)][-1].bias -= float(
            np.median(fp32.answers(detector, both).logits)
        )
    on_reals, on_fakes = (fp32.answers(detector, images[COUNT:]) for images in (reals, fakes))
    for found in (on_reals, on_fakes):
        assert 0 < (found.plain >= 0.5).mean() < 1
        assert found.error < 1  # all logits keep to their band, not only those near 0.5
        assert not found.outside.any()
    assert fp32.same_winner(on_reals, on_fakes)
