"""The benchmarks still run; what they measure is not asserted."""

import subprocess
import sys

import pytest
from league_runs import ROOT

pytestmark = pytest.mark.slow
BENCH = [sys.executable, str(ROOT / "tests" / "bench")]


def test_the_table_of_a_quick_part():
    done = subprocess.run([*BENCH, "ingest", "--quick", "--rounds", "1"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| path | target | measured | met |" in done.stdout
    assert "| warm ingest at 64 | under 1 s |" in done.stdout


def test_unknown_parts_and_missing_files_are_named():
    for arguments, named in ((["bogus"], "bogus"), (["--peer", "no/such.py"], "--peer no/such.py")):
        done = subprocess.run([*BENCH, *arguments], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2
        assert named in done.stderr
