import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from duel.errors import UsageError
from duel.faces import draw_faces
from duel.weather import KINDS, Weather, change, parse_weather


@pytest.fixture(scope="module", params=[16, 64])
def faces(request):
    return draw_faces(12, request.param, 0)


def under(name, images, seed=0):
    return change(images, *parse_weather(name), seed)


def apart(left, right):
    """Root mean square difference in grey levels."""
    return np.sqrt(np.mean((left.astype(float) - right) ** 2))


def as_image(chw):
    return Image.fromarray(np.ascontiguousarray(chw.transpose(1, 2, 0)))


def test_the_flag_is_a_list_of_kinds_with_strengths():
    assert parse_weather("jpeg50, blur1,resize0.5,noise8") == [
        Weather("jpeg50", "jpeg", 50),
        Weather("blur1", "blur", 1),
        Weather("resize0.5", "resize", 0.5),
        Weather("noise8", "noise", 8),
    ]
    assert [w.name for w in parse_weather("blur1.50,blur2,jpeg100")] == ["blur1.5", "blur2", "jpeg100"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fog3", r"--weather: got 'fog3'; allowed, separated by commas: jpeg and 1 to 100 \(quality"),
        ("jpeg", "got 'jpeg'; allowed"),
        ("", "got ''; allowed"),
        ("jpeg50,", "got ''; allowed"),
        ("JPEG50", "got 'JPEG50'; allowed"),
        ("blur-1", "got 'blur-1'; allowed"),
        ("blurnan", "got 'blurnan'; allowed"),
        ("jpeg0", r"--weather: got 'jpeg0'; allowed for jpeg: 1 to 100 \(quality, a whole number\)"),
        ("jpeg50.5", "got 'jpeg50.5'; allowed for jpeg: 1 to 100"),
        ("blur9", r"got 'blur9'; allowed for blur: 0.1 to 8 \(sigma in pixels\)"),
        ("resize1", "got 'resize1'; allowed for resize: 0.1 to 0.95"),
        ("noise0.1", "got 'noise0.1'; allowed for noise: 0.5 to 64"),
        ("blur1,jpeg50,blur1.0", "--weather: got blur1 twice in 'blur1,jpeg50,blur1.0'; each change is allowed once"),
    ],
)
def test_errors_name_the_flag_the_value_and_what_is_allowed(text, message):
    with pytest.raises(UsageError, match=message):
        parse_weather(text)


def test_flags_are_checked_before_torch_is_imported():
    code = "import sys, duel.weather; sys.exit(any(name in sys.modules for name in ('torch', 'scipy', 'PIL')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("quality", [10, 50, 95])
def test_jpeg_is_that_of_pillow(faces, quality):
    got = under(f"jpeg{quality}", faces)
    for before, after in zip(faces, got, strict=True):
        file = io.BytesIO()
        as_image(before).save(file, "JPEG", quality=quality)
        assert (np.asarray(Image.open(file)).transpose(2, 0, 1) == after).all()


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
def test_blur_is_a_gaussian_with_mirrored_edges(faces, sigma):
    reach = int(4 * sigma + 0.5)
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    padded = np.pad(faces.astype(float), ((0, 0), (0, 0), (reach, reach), (reach, reach)), "symmetric")
    rows = np.apply_along_axis(np.convolve, 2, padded, kernel, mode="valid")
    wanted = np.apply_along_axis(np.convolve, 3, rows, kernel, mode="valid")
    assert np.abs(under(f"blur{sigma}", faces) - wanted).max() < 0.51


def test_blur_and_resizing_take_away_fine_detail_and_keep_brightness(faces):
    def fine(images):
        power = np.abs(np.fft.fft2(images.astype(float))) ** 2
        high = np.abs(np.fft.fftfreq(images.shape[-1])) > 0.25
        return power[..., high[:, None] | high].sum()

    for weak, strong in (("blur0.5", "blur1"), ("resize0.8", "resize0.4")):
        left = [fine(images) / fine(faces) for images in (under(weak, faces), under(strong, faces))]
        assert left[1] < left[0] < 1
        assert left[1] < 0.3
        assert abs(under(strong, faces).mean() - faces.mean()) < 0.5


def test_resizing_goes_down_and_back_up(faces):
    side = faces.shape[-1]
    got = under("resize0.5", faces)
    small = as_image(faces[3]).resize((side // 2, side // 2), Image.Resampling.BICUBIC)
    assert (np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)).transpose(2, 0, 1) == got[3]).all()
    assert under("resize0.1", faces).shape == faces.shape


@pytest.mark.parametrize("sd", [0.5, 8, 24])
def test_noise_has_the_sd_that_was_asked_for(sd):
    grey = np.full((1100, 3, 16, 16), 128, np.uint8)
    added = under(f"noise{sd}", grey).astype(float) - 128
    assert added.std() == pytest.approx(np.sqrt(sd**2 + 1 / 12), rel=0.02)  # 1/12: rounding to bytes
    assert abs(added.mean()) < 0.1
    assert abs(np.corrcoef(added[:, 0].ravel(), added[:, 1].ravel())[0, 1]) < 0.02


def test_more_strength_changes_more(faces):
    for weak, strong in (("jpeg90", "jpeg20"), ("blur0.5", "blur2"), ("resize0.9", "resize0.3"), ("noise2", "noise20")):
        assert 0 < apart(under(weak, faces), faces) < apart(under(strong, faces), faces)


@pytest.mark.parametrize("name", ["jpeg50", "blur1", "resize0.5", "noise8"])
def test_the_same_seed_gives_the_same_images_of_the_same_kind(faces, name):
    before = faces.copy()
    got = under(name, faces, seed=1)
    assert got.dtype == np.uint8
    assert got.shape == faces.shape
    assert (faces == before).all()
    assert (under(name, faces, seed=1) == got).all()
    assert (under(name, faces[:5], seed=1) == got[:5]).all()  # an image does not depend on those after it
    assert (under(name, faces, seed=2) == got).all() == (name != "noise8")
    assert under(name, faces[:0]).shape == faces[:0].shape


def test_many_images_are_changed_as_a_few_are():
    images = np.tile(draw_faces(10, 16, 0), (210, 1, 1, 1))
    for name in ("jpeg50", "blur1", "resize0.5"):
        got = under(name, images)
        assert (got.reshape(210, 10, 3, 16, 16) == under(name, images[:10])).all()


def test_grey_pictures_stay_grey(faces):
    grey = np.repeat(faces[:, :1], 3, axis=1)
    for name in ("jpeg50", "blur1", "resize0.5"):
        got = under(name, grey)
        assert (got == got[:, :1]).all()


def test_every_kind_works_at_both_ends_of_its_range(faces):
    for kind, (low, high, _) in KINDS.items():
        for strength in (low, high):
            assert under(f"{kind}{strength}", faces).shape == faces.shape
