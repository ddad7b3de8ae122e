import pickle

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from test_metrics import Colours

from duel.errors import UsageError
from duel.faces import draw_faces
from duel.guard import Reference, closeness, copies, guard_row, mark, prdc, reference, squared_radii, thumbnails
from duel.metrics import features, noise_images
from duel.weather import change, parse_weather

CPU = torch.device("cpu")


def plain_prdc(real, fake, few=3, more=5):
    """The formulas of Kynkaanniemi 2019 (1, 2) and Naeem 2020 (3, 4), a point at a time."""

    def ball(points, k):
        return [np.sort(np.linalg.norm(points - p, axis=1))[k] for p in points]

    distance = np.array([[np.linalg.norm(r - f) for f in fake] for r in real])
    real_few, real_more, fake_few = ball(real, few), ball(real, more), ball(fake, few)
    n, m = distance.shape
    return {
        "precision": np.mean([any(distance[i, j] <= real_few[i] for i in range(n)) for j in range(m)]),
        "recall": np.mean([any(distance[i, j] <= fake_few[j] for j in range(m)) for i in range(n)]),
        "density": sum(distance[i, j] <= real_more[i] for i in range(n) for j in range(m)) / (more * m),
        "coverage": np.mean([any(distance[i, j] <= real_more[i] for j in range(m)) for i in range(n)]),
    }


def cloud(count, seed, spread=1.0, at=0.0, width=6):
    return np.random.default_rng(seed).normal(at, spread, (count, width)).astype(np.float32)


@pytest.mark.parametrize(
    ("fake_count", "spread", "at"), [(60, 1.0, 0.0), (90, 0.5, 0.0), (40, 1.5, 0.6), (70, 1.0, 1.5)]
)
def test_prdc_follows_the_formulas(fake_count, spread, at):
    real, fake = cloud(60, 0), cloud(fake_count, 1, spread, at)
    assert prdc(real, fake, CPU) == pytest.approx(plain_prdc(real.astype(float), fake.astype(float)), abs=1e-12)


def test_blocks_change_nothing(monkeypatch):
    real, fake = cloud(83, 0), cloud(70, 1, 0.8)
    whole = prdc(real, fake, CPU)
    near = closeness(thumbnails(noise_images(9, 16, 0), CPU), thumbnails(noise_images(20, 16, 1), CPU), CPU)
    monkeypatch.setattr("duel.guard._BLOCK", 200)
    assert prdc(real, fake, CPU) == whole
    blocks = closeness(thumbnails(noise_images(9, 16, 0), CPU), thumbnails(noise_images(20, 16, 1), CPU), CPU)
    assert blocks == pytest.approx(near, abs=1e-5)


def test_prdc_stays_exact_far_from_the_origin():
    real, fake = cloud(60, 0, 0.01, 30.0), cloud(60, 1, 0.01, 30.0)
    assert prdc(real, fake, CPU) == pytest.approx(plain_prdc(real.astype(float), fake.astype(float)), abs=1e-12)


def test_radii_are_the_distances_to_the_third_and_fifth_other_point():
    points = np.array([[0.0], [1.0], [3.0], [6.0], [10.0], [15.0]], np.float32)
    assert squared_radii(points, CPU)[0].tolist() == [6.0**2, 15.0**2]
    assert squared_radii(points, CPU)[3].tolist() == [5.0**2, 9.0**2]
    assert squared_radii(points[:3], CPU)[0].tolist() == [3.0**2, 3.0**2]  # fewer others: the farthest
    with pytest.raises(UsageError, match="at least 2 images a side, got 1"):
        squared_radii(points[:1], CPU)


def test_radii_known_beforehand_give_the_same():
    real, fake = cloud(50, 0), cloud(50, 1)
    assert prdc(real, fake, CPU, squared_radii(real, CPU)) == prdc(real, fake, CPU)


def test_the_same_set_twice_is_perfect():
    real = cloud(200, 0)
    got = prdc(real, real, CPU)
    assert got["precision"] == got["recall"] == got["coverage"] == 1.0
    # Each point is in its own ball too; at a ball's edge rounding decides.
    assert got["density"] == pytest.approx(6 / 5, abs=0.02)


def test_fresh_draws_of_the_same_kind_have_a_density_near_1():
    got = prdc(cloud(1000, 0), cloud(1000, 1), CPU)
    assert got["density"] == pytest.approx(1.0, abs=0.1)
    assert got["coverage"] > 0.9  # Naeem 2020: 1 - 1/2^k = 0.97 expected
    assert min(got["precision"], got["recall"]) > 0.8


def test_a_collapsed_generator_is_precise_but_covers_little():
    real = cloud(500, 0)
    got = prdc(real, 0.02 * cloud(500, 1), CPU)
    assert got["precision"] == 1.0
    assert got["density"] > 1.0
    assert got["recall"] < 0.02
    assert got["coverage"] < 0.5


def test_a_mode_that_is_left_out_costs_recall_and_coverage():
    real = np.concatenate([cloud(200, 0), cloud(200, 1, at=20.0)])
    got = prdc(real, cloud(400, 2), CPU)
    assert got["precision"] > 0.8
    assert got["recall"] <= 0.5
    assert got["coverage"] <= 0.5


def test_noise_gets_nothing():
    got = prdc(cloud(200, 0), cloud(200, 1, at=50.0), CPU)
    assert got == {"precision": 0.0, "recall": 0.0, "density": 0.0, "coverage": 0.0}


@pytest.fixture(scope="module")
def people():
    """Training faces, held-out faces for the threshold, and others that nothing has seen."""
    faces = draw_faces(4000, 32, 3)
    return faces[:2000], faces[2000:3000], faces[3000:]


@pytest.fixture(scope="module")
def known(people):
    train, held_out, _ = people
    return reference(cloud(10, 0), held_out, train, CPU)


def under(name, images):
    return change(images, *parse_weather(name), 5)


def mixed(images, count):
    rng = np.random.default_rng(0)
    return np.mean([images[rng.permutation(len(images))] for _ in range(count)], axis=0).round().astype(np.uint8)


def smoothed(images):
    return gaussian_filter(images.astype(np.float32), (0, 0, 3, 3)).astype(np.uint8)


COPIED = {
    "as they are": lambda faces: faces,
    "re-encoded": lambda faces: under("jpeg60", faces),
    "noisy": lambda faces: under("noise12", faces),
    "mirrored": lambda faces: faces[..., ::-1],
    "blurred": lambda faces: under("blur1", faces),
    "moved by a pixel": lambda faces: np.roll(faces, 1, axis=3),
    "with less contrast, darker": lambda faces: (0.7 * faces.astype(float)).astype(np.uint8),
}
STRANGERS = {
    "as they are": lambda faces: faces,
    "blurred": lambda faces: under("blur1", faces),
    "strongly blurred": smoothed,
    "means of two": lambda faces: mixed(faces, 2),
    "means of three": lambda faces: mixed(faces, 3),
    "nearly the mean face": lambda faces: mixed(faces, 60),
    "noise": lambda faces: noise_images(len(faces), faces.shape[-1], 0),
    "plain": lambda faces: np.full_like(faces, 120),
}


@pytest.mark.parametrize("change", COPIED.values(), ids=COPIED)
def test_copies_of_training_faces_are_found(change, people, known):
    train, _, _ = people
    assert copies(change(train[:500]), known, CPU) > 0.9


@pytest.mark.parametrize("change", STRANGERS.values(), ids=STRANGERS)
def test_strangers_are_no_copies(change, people, known):
    _, _, strangers = people
    assert copies(change(strangers), known, CPU) < 0.03


def test_one_in_a_hundred_held_out_reals_counts_as_a_copy(people, known):
    train, held_out, _ = people
    assert copies(held_out, known, CPU) == pytest.approx(0.01, abs=0.001)
    assert copies(np.concatenate([held_out, train[:1000]]), known, CPU) == pytest.approx(0.505, abs=0.01)


def test_closeness_is_the_nearest_distance_over_the_mean_of_fifty(people):
    train, _, strangers = people
    ours, theirs = thumbnails(strangers[:5], CPU), thumbnails(train[:100], CPU)

    def unit(images):
        flat = images.reshape(len(images), -1).astype(float)
        flat = flat - flat.mean(1, keepdims=True)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    everyone = np.concatenate([unit(theirs), unit(theirs[..., ::-1])])
    distance = np.sort(np.linalg.norm(unit(ours)[:, None] - everyone, axis=2), axis=1)
    assert closeness(ours, theirs, CPU) == pytest.approx(distance[:, 0] / distance[:, :50].mean(1), rel=1e-4)


def test_few_training_faces():
    thumbs = thumbnails(noise_images(4, 16, 0), CPU)
    assert closeness(thumbs[:3], thumbs[:2], CPU) == pytest.approx([0, 0, 1], abs=0.1)
    with pytest.raises(UsageError, match="at least 2 training faces, got 1"):
        closeness(thumbs, thumbs[:1], CPU)


@pytest.mark.parametrize("size", [16, 32, 256])
def test_thumbnails_are_averages_of_boxes(size):
    images = noise_images(3, size, 0)
    box = size // 16
    wanted = images.reshape(3, 3, 16, box, 16, box).astype(float).mean((3, 5))
    assert np.abs(thumbnails(images, CPU) - wanted).max() <= 0.5


def test_a_row_holds_all_that_the_guard_says(people):
    train, held_out, strangers = people
    network = Colours()
    ours = reference(features(network, held_out, CPU), held_out, train, CPU)
    row = guard_row(strangers, ours, network, CPU)
    assert list(row) == ["precision", "recall", "density", "coverage", "copies"]
    assert row["copies"] < 0.03
    assert min(row["precision"], row["recall"], row["coverage"]) > 0.8
    assert all(type(value) is float for value in row.values())
    assert guard_row(train[:300], ours, network, CPU)["copies"] == 1.0
    noise = guard_row(noise_images(300, 32, 0), ours, network, CPU)
    assert (noise["recall"], noise["copies"]) == (0.0, 0.0)
    assert noise["coverage"] < 0.02  # one odd real's wide ball may hold it: why precision alone is not enough


def test_a_reference_travels_and_may_be_read_only(people, known):
    _, _, strangers = people
    arrays = (known.real_features, known.real_radii, known.train_thumbnails)
    for array in arrays:
        array.flags.writeable = False
    there = pickle.loads(pickle.dumps(known))
    assert isinstance(there, Reference)
    assert copies(strangers, there, CPU) == copies(strangers, known, CPU)


@pytest.mark.parametrize(
    ("kid", "copied", "wanted"),
    [
        (0.1, 0.01, ""),
        (0.8, 0.05, ""),  # at the bounds
        (0.81, 0.01, "not faces"),
        (float("nan"), 0.01, "not faces"),
        (0.1, 0.06, "copies"),
        (1.5, 1.0, "not faces, copies"),
    ],
)
def test_marks(kid, copied, wanted):
    assert mark(kid, 1.6, copied, kid_share=0.5, copies_bound=0.05) == wanted
