"""`duel league` and `python -m duel.league` are one command, and so are both of the cluster."""

import subprocess
import sys

import pytest
from league_runs import ROOT

SAME = [
    ("league", ["--help"], 0),
    ("league", ["--trials", "1"], 2),
    ("league", ["--sweep", "nowhere"], 2),
    ("league", ["--resume", "nothing"], 2),
    ("league", ["--", "--seed"], 2),
    ("cluster", ["check", "nowhere.yaml"], 2),
    ("cluster", [], 2),
]


def start(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(("name", "arguments", "code"), SAME, ids=[f"{n} {' '.join(a)}" for n, a, _ in SAME])
def test_both_doors_lead_to_the_same(name, arguments, code):
    one, other = start("-m", "duel", name, *arguments), start("-m", f"duel.{name}", *arguments)
    assert one.returncode == other.returncode == code, one.stderr
    for left, right in ((one.stdout, other.stdout), (one.stderr, other.stderr)):
        assert left.replace(f"-m duel {name}", f"-m duel.{name}") == right


def test_help_comes_at_once():
    code = "import sys; from duel.__main__ import main; sys.argv = ['duel', '--help']\ntry: main()\n"
    code += "finally: assert not {'torch', 'ray', 'pandas', 'pydantic'} & set(sys.modules), sys.modules"
    done = start("-c", code)
    assert done.returncode == 0, done.stderr
    assert "Usage: duel " in done.stdout and "league" in done.stdout and "cluster" in done.stdout


def test_a_command_that_there_is_not():
    done = start("-m", "duel", "tournament")
    assert done.returncode == 2
    assert "tournament" in done.stderr and "Traceback" not in done.stderr
