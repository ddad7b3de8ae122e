"""What an install takes is said to the version in constraints.txt, and to the file in locked/: nothing is missing.

`.ci/lock` writes both. That the files can be had, no test here can show: `.ci/run` installs from them.
"""

import re
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
BUILD = PROJECT["build-system"]["requires"]
LOCKED = ("test", "cluster")
DOCUMENTED = [*(ROOT / name for name in ("README.md", "cluster.yaml", "cluster-local.yaml", ".ci/run")),
              *(ROOT / "docs").glob("*.md"), *(ROOT / "duel").rglob("*.py")]  # fmt: skip


def lines(name: str) -> list[str]:
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


def pins(name: str) -> dict[str, str]:
    """Package -> version, of a list."""
    found = [re.match(r"([\w.-]+)==([^\s;]+)", line) for line in lines(name)]
    return {canonicalize_name(pin[1]): pin[2] for pin in found if pin}


def closure(wanted: list[str]) -> set[str]:
    """All that these requirements lead to on this machine, as far as what is installed says."""
    found: set[str] = set()
    todo, seen = [(Requirement(text), "") for text in wanted], set()
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({**default_environment(), "extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        found.add(name)
        for asked in ["", *requirement.extras]:
            if (name, asked) not in seen:
                seen.add((name, asked))
                with suppress(PackageNotFoundError):  # as of Ray's dashboard: what that needs, this can't say
                    todo += [(Requirement(text), asked) for text in requires(name) or []]
    return found


def needs(*extras: str) -> list[str]:
    return [*PROJECT["project"]["dependencies"], *(need for extra in extras for need in EXTRAS[extra])]


@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_constraints_cover_whatever_an_install_takes(extra):
    assert closure([*needs(*([extra] if extra else [])), *BUILD]) - set(pins("constraints.txt")) == set()


@pytest.mark.parametrize("extra", LOCKED)
def test_locked_files_cover_their_install_with_the_same_versions(extra):
    locked, constraints = pins(f"locked/{extra}.txt"), pins("constraints.txt")
    assert closure([*needs(extra), *BUILD]) - set(locked) == set()
    assert {name: constraints.get(name) for name in locked} == locked


@pytest.mark.parametrize("need", sorted({*needs(*EXTRAS), *BUILD}))
def test_the_versions_are_ones_that_the_project_can_do_with(need):
    requirement = Requirement(need)
    assert requirement.specifier.contains(pins("constraints.txt")[canonicalize_name(requirement.name)])


def test_what_builds_duel_is_one_version_everywhere():
    """No constraint reaches what pip builds with: pyproject.toml itself must say the version."""
    (build,) = map(Requirement, BUILD)
    assert str(build.specifier) == f"=={pins('constraints.txt')['setuptools']}"


@pytest.mark.parametrize("extra", LOCKED)
def test_each_locked_package_has_hashes_and_no_address(extra):
    text = (ROOT / "locked" / f"{extra}.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text.strip())
    assert len(entries) == len(pins(f"locked/{extra}.txt"))
    for entry in entries:
        head, *hashes = entry.split("--hash=")
        assert re.fullmatch(r"[\w.-]+==[\w.+!-]+( ; [^\\]+)? ?\\\s+", head), head
        assert hashes, head
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}[\s\\]*", one) for one in hashes), head


@pytest.mark.parametrize("name", ["constraints.txt", *(f"locked/{extra}.txt" for extra in LOCKED)])
def test_versions_install_on_gpu_nodes(name):
    """One such as 2.15.0+cpu is on no public index, and would leave a GPU idle."""
    assert [package for package, version in pins(name).items() if "+" in version] == []


def test_every_documented_install_keeps_to_them():
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTED)
    commands = [command for line in text.splitlines() for command in re.split(r"&&|;", line)
                if re.search(r"pip install [-'.\w]", command)]  # fmt: skip
    assert len(commands) > 8
    for command in commands:
        assert re.search(r"-c constraints\.txt|--require-hashes|--no-deps", command), command
