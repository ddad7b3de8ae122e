"""The shape of DESIGN.md: data flows one way, and Ray stays in its corner."""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "duel"
# Each layer imports only from itself and those above it.
LAYERS = [
    {"errors", "seeds", "families", "rules", "spaces", "spent", "watchdog", "interrupt", "output"},
    {"paths", "settings_file"},
    {"config", "store", "progress", "device", "weather"},
    {"faces", "losses", "models"},
    {"metrics", "guard", "checkpoint", "report"},
    {"train"},
    {"speeds"},
    {"plan"},
    {"tasks"},
    {"sweep"},
    {"readings", "entrants"},
    {"matches"},
    {"cluster", "rundir"},
    {"claim"},
    {"mirror"},
    {"fetch"},
    {"forecast", "stages"},
    {"season"},
    {"checks"},
    {"session"},
    {"league"},
    {"__main__"},
]
MAY_IMPORT_RAY = {"tasks", "sweep", "readings", "cluster", "forecast", "stages", "season", "checks"}
FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
    return found


def layer(module: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if module in names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    if path == PACKAGE / "__init__.py":
        return
    for name in imports(path):
        if name.startswith("duel."):
            assert layer(name.split(".")[1]) <= layer(module_of(path)), f"{path} imports {name}"


def test_no_module_needs_itself():
    """Not by way of others either, nor by an import within a function."""
    names = {".".join(("duel", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in FILES}
    needs = {name.removesuffix(".__init__"): imports(path) for name, path in names.items()}
    list(graphlib.TopologicalSorter(needs).static_order())


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_ray_stays_in_its_corner(path):
    if any(name.split(".")[0] == "ray" for name in imports(path)):
        assert module_of(path) in MAY_IMPORT_RAY


def test_the_report_needs_neither_torch_nor_ray():
    for path in (PACKAGE / "report").rglob("*.py"):
        assert not {name.split(".")[0] for name in imports(path)} & {"torch", "torchvision", "ray"}


def test_training_never_imports_ray_or_the_terminal():
    for part in ("train", "models"):
        for path in (PACKAGE / part).rglob("*.py"):
            assert not {name.split(".")[0] for name in imports(path)} & {"ray", "rich", "typer"}
