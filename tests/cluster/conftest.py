"""Real hosts with sshd on this machine, and somebody who starts a cluster on them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import Lab, copy_project, missing
from league_runs import ROOT
from rack import scratch


@pytest.fixture(scope="session")
def wheels(tmp_path_factory) -> Path:
    """What the set-up commands install beyond what the tests' own environment has."""
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("wheels")
    (pin,) = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("ray==")]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "-d", folder, "-c", ROOT / "constraints.txt",
         pin.replace("ray", "ray[default]"), "setuptools"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"no packages can be downloaded for the hosts: {done.stderr[-300:]}")
    return folder


@pytest.fixture
def lab(tmp_path, wheels) -> Iterator[Lab]:
    """Hosts can be added to it; all end with the test."""
    made = Lab(tmp_path / "lab")
    shutil.copytree(wheels, made.folder / "wheels", dirs_exist_ok=True)
    yield made
    made.close()


@pytest.fixture
def rack_folder() -> Iterator[Path]:
    """A folder for a rack; skips where there can be no hosts."""
    if reason := missing():
        pytest.skip(reason)
    with scratch("test") as folder:
        yield folder


class Launcher:
    """A machine with a clean folder of the project, a home with the secret, and `ray`."""

    def __init__(self, folder: Path):
        self.project, self.home = folder / "project", folder / "home"
        (self.home / ".ray").mkdir(parents=True)
        token = self.home / ".ray" / "auth_token"
        token.touch(mode=0o600)
        token.write_text(os.urandom(32).hex())
        copy_project(self.project, "cluster.yaml", "cluster-local.yaml")
        (folder / "ray").mkdir()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))},
            "HOME": str(self.home), "RAY_TMPDIR": str(folder / "ray"), "RAY_USAGE_STATS_ENABLED": "0",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }  # fmt: skip

    def fill_in(self, name: str, changes: dict[str, Any]) -> None:
        """Replace whole top-level keys of a cluster file."""
        path = self.project / name
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump({**config, **changes}, sort_keys=False), encoding="utf-8")

    def run(self, *command: object, timeout: float = 600, check: bool = True) -> str:
        """Run a command in the project; its output and errors."""
        done = subprocess.run(
            [str(part) for part in command], cwd=self.project, env=self.environment, timeout=timeout, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        assert not (check and done.returncode), f"{' '.join(map(str, command))}: {done.stdout[-5000:]}"
        return done.stdout


@pytest.fixture
def launcher(tmp_path) -> Launcher:
    return Launcher(tmp_path / "launcher")
