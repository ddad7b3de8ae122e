from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from face_files import encode

from duel.faces import draw_faces

UTKFACE = Path(__file__).resolve().parents[3] / "shared" / "faces" / "utkface"


@pytest.fixture(scope="session")
def drawn() -> np.ndarray:
    """260 different faces, uint8 [260, 3, 32, 32]."""
    return draw_faces(260, 32, seed=3)


@pytest.fixture(scope="session")
def encoded(drawn: np.ndarray) -> list[bytes]:
    """The same as PNG files: lossless, so that nothing but the source differs."""
    return [encode(face, "PNG", compress_level=1) for face in drawn]


@pytest.fixture
def folder(tmp_path: Path, encoded: list[bytes]) -> Path:
    """A folder of 230 good images, some of them deeper down, and a few other files."""
    path = tmp_path / "faces"
    (path / "deep" / "er").mkdir(parents=True)
    for number, data in enumerate(encoded[:230]):
        (path / ("deep/er" if number % 3 == 0 else ".") / f"{number:03}.png").write_bytes(data)
    (path / "notes.txt").write_text("not an image, and not called one")
    (path / "._000.png").write_bytes(b"a companion file of macOS")
    return path


@pytest.fixture
def utkface() -> Path:
    if not UTKFACE.is_dir():
        pytest.skip(f"{UTKFACE} is not here")
    return UTKFACE


@pytest.fixture
def entries(tmp_path: Path) -> Callable[[], list[Path]]:
    """What lies in the cache folder now."""
    return lambda: sorted((tmp_path / "cache").glob("*")) if (tmp_path / "cache").exists() else []
