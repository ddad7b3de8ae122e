"""Sheets and animations: what is drawn is what was given."""

import os

import numpy as np
import pytest
from PIL import Image

from duel.report.images import animation, sheet


def faces(n, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 3, size, size), dtype=np.uint8)


@pytest.mark.parametrize(("size", "scale"), [(16, 4), (32, 2), (64, 1), (128, 1)])
def test_a_sheet_holds_every_pixel_in_place_at_a_visible_size(tmp_path, size, scale):
    images = faces(5, size)
    with Image.open(sheet(images, 3, tmp_path / "new" / "a.png")) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (2 * size * scale, 3 * size * scale, 3)
    for i, image in enumerate(images):
        row, column = divmod(i, 3)
        cell = pixels[row * size * scale :, column * size * scale :][: size * scale, : size * scale]
        for y in range(scale):
            np.testing.assert_array_equal(cell[y::scale, y::scale], image.transpose(1, 2, 0))
    assert not pixels[size * scale :, 2 * size * scale :].any(), "an empty place is black"


def test_an_animation_loops_holds_its_end_and_keeps_its_colours(tmp_path):
    ramp = np.broadcast_to(np.arange(32, dtype=np.uint8) * 8, (4, 3, 32, 32))
    frames = [np.ascontiguousarray(ramp // k) for k in (1, 2, 4)]
    with Image.open(animation(frames, 2, tmp_path / "a.gif", seconds_a_frame=0.1, hold_last=1.5)) as gif:
        assert (gif.n_frames, gif.info["loop"], gif.size) == (3, 0, (128, 128))
        durations = []
        for i in range(3):
            gif.seek(i)
            durations.append(gif.info["duration"])
            shown = np.asarray(gif.convert("RGB"))[::2, ::2].astype(int)
            expected = np.tile(frames[i][0].transpose(1, 2, 0), (2, 2, 1))
            assert np.abs(shown - expected).max() <= 8
    assert durations == [100, 100, 1500]


def test_one_frame_is_an_animation_too(tmp_path):
    with Image.open(animation([faces(1, 32)], 1, tmp_path / "a.gif")) as gif:
        assert gif.size == (64, 64)


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = sheet(faces(1, 32), 1, tmp_path / "a.png")
    before = path.read_bytes()

    def broken(self, target, **options):
        target.write(b"half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Image.Image, "save", broken)
    with pytest.raises(OSError, match="space"):
        sheet(faces(1, 32, seed=1), 1, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("images", "columns"),
    [
        (np.zeros((0, 3, 8, 8), np.uint8), 2),
        (np.zeros((2, 8, 8, 3), np.uint8), 2),
        (np.zeros((2, 3, 8, 8)), 2),
        (np.zeros((3, 8, 8), np.uint8), 2),
        (np.zeros((2, 3, 8, 8), np.uint8), 0),
    ],
)
def test_what_is_no_grid_is_refused(tmp_path, images, columns):
    with pytest.raises(ValueError, match="a grid needs"):
        sheet(images, columns, tmp_path / "a.png")
    with pytest.raises(ValueError, match="a grid needs"):
        animation([images], columns, tmp_path / "a.gif")
    with pytest.raises(ValueError, match="at least one frame"):
        animation([], 1, tmp_path / "a.gif")
