"""An installed duel has all that a checkout has: every module, the sweeps, the report's page, the command."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from league_runs import ROOT

from duel.paths import own_sweeps


def able_to_build() -> bool:
    """Whether wheels can be built without a network: the pyproject's build-system has to be installed."""
    try:
        return bool(version("pip")) and int(version("setuptools").partition(".")[0]) >= 77
    except PackageNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not able_to_build(), reason="pip and setuptools >= 77 are not installed")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """duel's wheel, built from a copy: setuptools leaves a folder beside what it builds, and takes old ones from it."""
    folder = tmp_path_factory.mktemp("wheel")
    for part in ("duel", "sweeps"):
        shutil.copytree(ROOT / part, folder / "copy" / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, folder / "copy")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        folder,
    ]
    done = subprocess.run([*command, folder / "copy"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_has_all_files_and_no_others(wheel):
    package = [path for kind in ("*.py", "py.typed", "assets/*") for path in (ROOT / "duel").rglob(kind)]
    wanted = {path.relative_to(ROOT).as_posix() for path in package}
    wanted |= {f"duel/sweeps/{path.name}" for path in (ROOT / "sweeps").iterdir()}
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == wanted
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_wheel_brings_the_command(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    assert "duel = duel.__main__:main" in archive.read(name).decode()


def test_an_installed_duel_knows_its_sweeps(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    (tmp_path / "empty").mkdir()
    code = "from duel import config, paths; print(paths.SWEEPS, *(config.load_sweep(paths.sweep_file(n)).trials "
    code += "for n in paths.own_sweeps()), *paths.own_sweeps())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path / "empty",
                          env=os.environ | {"PYTHONPATH": str(tmp_path / "site")})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "site" / "duel" / "sweeps"))
    assert done.stdout.split()[-len(own_sweeps()) :] == own_sweeps()
