"""README.md and docs/ against what is there: links, paths, options, settings, modules. No network."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel
from test_architecture import LAYERS

from duel.config import Sweep
from duel.families import FAMILIES
from duel.weather import KINDS

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md")), *DOCS]
LARGEST_README = 8 * 1024  # bytes
SPAN = r"`((?:[^`\n]|\n(?!\n))+)`"  # code in a line, which may go on in the next one
OURS = re.compile(r"(?:duel|tests|sweeps|docs|locked|\.ci)/[\w./*-]*")
INTERNAL = {"DUEL_PROBE"}  # set by duel for itself
# Options of other tools that the pages name, and by which tool.
OTHERS = {
    "--require-hashes": "pip", "--no-deps": "pip", "--no-build-isolation": "pip", "--check": "ruff format",
    "--generate": "ray get-auth-token", "--tmux": "ray exec", "--no-wait": "ray job submit",
    "--submission-id": "ray job submit", "--logdir": "tensorboard",
    "--peer": "tests/bench", "--count": "tests/cluster kills",
}  # fmt: skip

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@cache
def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the page's headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *$", prose(page), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        same = (plain if not n else f"{plain}-{n}" for n in range(len(found) + 1))
        found.add(next(name for name in same if name not in found))
    return found


def links(page: Path) -> list[tuple[Path, str]]:
    """Relative links outside of code: the file each leads to, and its anchor or ""."""
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(SPAN, "code", prose(page)))
    parts = [target.partition("#") for target in targets if not re.match(r"[a-z]+:", target)]
    return [((page.parent / path).resolve() if path else page, anchor) for path, _, anchor in parts]


def code(page: Path) -> Iterator[str]:
    """Every word in backticks, in a line or in a block."""
    blocks = re.findall(r"^```.*?^```$", text_of(page), re.MULTILINE | re.DOTALL)
    for piece in [*blocks, *re.findall(SPAN, prose(page))]:
        yield from re.findall(r"[^\s'\"`()]+", piece)


def options(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text))


def help_of(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "duel", *words, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def our_options() -> set[str]:
    """Those that the help of `duel league` and of each command of `duel cluster` lists."""
    commands = re.findall(r"^  ([a-z]+) ", help_of("cluster").partition("Commands:")[2], re.MULTILINE)
    assert commands
    texts = [help_of("league"), *(help_of("cluster", command) for command in commands)]
    return {option for text in texts for option in re.findall(r"^  (--[a-z-]+)", text, re.MULTILINE)}


def everywhere() -> str:
    return "\n".join(map(text_of, [README, *DOCS]))


def test_the_readme_is_short():
    assert README.stat().st_size <= LARGEST_README


def test_the_readme_marks_one_block_as_the_tests():
    """`.ci/run` takes it from there and runs it."""
    (marked,) = re.findall(r"^<!-- tests -->$(.*?)^<!-- end tests -->$", text_of(README), re.MULTILINE | re.DOTALL)
    (block,) = re.findall(r"^```bash\n(.*?)^```$", marked, re.MULTILINE | re.DOTALL)
    assert "pytest" in block


@each_page
def test_every_link_leads_somewhere(page):
    for target, anchor in links(page):
        assert target.exists() and target.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(target), f"{target.name}#{anchor}"


@each_page
def test_every_path_of_the_project_exists(page):
    for word in code(page):
        if OURS.fullmatch(word.rstrip(".,;:")):
            pattern = word.rstrip(".,;:/").replace("NAME", "*")
            assert any(ROOT.glob(pattern)), word


@each_page
def test_every_option_is_one_of_a_command(page):
    assert options(text_of(page)) - our_options() - set(OTHERS) == set()


def test_every_option_of_the_commands_is_in_the_docs():
    assert our_options() - {"--help"} - options(everywhere()) == set()


def test_no_option_of_other_tools_is_listed_in_vain():
    assert set(OTHERS) - options("\n".join(map(text_of, PAGES))) == set()
    assert set(OTHERS) & our_options() == set()


def test_the_readme_leads_to_every_page():
    reached, todo = {README}, [README]
    while todo:
        new = {target for target, _ in links(todo.pop()) if target.suffix == ".md"} - reached
        reached |= new
        todo += new
    assert set(PAGES) - reached == set()


def test_the_map_names_every_module_in_the_order_of_the_layers():
    (block,) = re.findall(r"^```\n(.*?)^```$", text_of(ROOT / "docs/architecture.md"), re.MULTILINE | re.DOTALL)
    named = re.findall(r"^  (\w+)(?:\.py|/) ", block, re.MULTILINE)
    there = {path.stem for path in (ROOT / "duel").glob("*.py")} - {"__init__"}
    there |= {path.parent.name for path in (ROOT / "duel").glob("*/__init__.py")}
    assert len(named) == len(set(named)) and set(named) == there
    places = [next(number for number, layer in enumerate(LAYERS) if name in layer) for name in named]
    assert places == sorted(places)


def keys(model: type[BaseModel]) -> Iterator[str]:
    """The names of a model's fields and of those of the models in it."""
    for name, field in model.model_fields.items():
        yield name
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from keys(kind)


def test_the_settings_page_names_every_key_and_family():
    words = set(re.findall(r"\w+", " ".join(code(ROOT / "docs/settings.md"))))
    assert {*keys(Sweep), *FAMILIES["generator"], *FAMILIES["detector"]} - words == set()


def test_the_seasons_page_names_every_weather():
    assert set(KINDS) - set(code(ROOT / "docs/seasons.md")) == set()


def test_the_docs_name_every_variable_that_duel_reads():
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "duel").rglob("*.py"))
    read = set(re.findall(r'"(DUEL_[A-Z_]+)"', sources))
    assert {"DUEL_CACHE", "DUEL_GRAPHS"} <= read
    assert read - INTERNAL == set(re.findall(r"DUEL_[A-Z_]+", everywhere()))


@each_page
def test_what_python_blocks_import_from_duel_exists(page):
    for block in re.findall(r"^```python\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "duel":
                module = ast.parse((ROOT / f"{node.module.replace('.', '/')}.py").read_text(encoding="utf-8"))
                assert {alias.name for alias in node.names} <= {getattr(part, "name", "") for part in module.body}
