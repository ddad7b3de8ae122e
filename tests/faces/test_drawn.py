from subprocess import Popen

import numpy as np
import pytest

from duel.errors import DuelError
from duel.faces import draw_faces, drawn
from duel.faces.drawn import draw_indexed
from duel.faces.duplicates import find_groups


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_shape_and_range(size: int) -> None:
    faces = draw_faces(24, size, seed=0)
    assert faces.shape == (24, 3, size, size) and faces.dtype == np.uint8
    assert faces.std(axis=(2, 3)).mean() > 25  # something is drawn
    assert (faces.mean(axis=(2, 3)).std(axis=0) > 10).all()  # and not always the same


def test_a_face_depends_on_seed_and_number_alone() -> None:
    whole = draw_faces(70, 32, seed=5)
    assert (draw_faces(9, 32, seed=5) == whole[:9]).all()
    assert (draw_faces(70, 32, seed=5, workers=1) == whole).all()
    assert (draw_indexed(np.array([63, 2, 41]), 32, seed=5) == whole[[63, 2, 41]]).all()
    assert (draw_faces(70, 32, seed=6) != whole).reshape(70, -1).any(axis=1).all()


def test_many_faces_are_drawn_by_processes_and_are_the_same(monkeypatch) -> None:
    few = draw_faces(200, 16, seed=3, workers=2)
    monkeypatch.setattr(drawn, "MANY", 100)
    started = []
    monkeypatch.setattr(drawn.subprocess, "Popen", lambda *a, **k: started.append(Popen(*a, **k)) or started[-1])
    assert (draw_faces(200, 16, seed=3, workers=2) == few).all()
    assert 1 <= len(started) <= 2
    assert all(process.returncode == 0 for process in started)
    started.clear()
    assert (draw_faces(200, 16, seed=3, workers=1) == few).all()
    assert not started


def test_a_drawing_process_that_dies_is_an_error(monkeypatch) -> None:
    monkeypatch.setattr(drawn, "MANY", 100)
    monkeypatch.setattr(drawn.sys, "executable", "/bin/false")
    with pytest.raises(DuelError, match="ended with exit status 1"):
        draw_faces(200, 16, seed=3, workers=2)


def test_the_same_person_at_every_size() -> None:
    small, large = draw_faces(100, 32, seed=1), draw_faces(100, 64, seed=1)
    shrunk = large.reshape(100, 3, 32, 2, 32, 2).mean(axis=(3, 5))
    assert np.abs(small - shrunk).mean() < 8


def test_faces_are_in_colour() -> None:
    faces = draw_faces(200, 32, seed=2).astype(int)
    coloured = np.abs(faces[:, 0] - faces[:, 2]).mean(axis=(1, 2)) > 5
    assert 0.85 < coloured.mean() < 1.0  # a few are black and white, as real ones are


@pytest.mark.parametrize("size", [0, 8, 48, 100])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=str(size)):
        draw_faces(1, size, seed=0)


def test_no_faces_is_an_empty_array() -> None:
    assert draw_faces(0, 32, seed=0).shape == (0, 3, 32, 32)


@pytest.mark.slow
def test_no_two_of_20000_are_alike() -> None:
    groups = find_groups(draw_faces(20_000, 32, seed=5))
    assert len(np.unique(groups)) == 20_000
