"""The performance table: `python tests/bench --faces FOLDER --peer FILE`, or some of its parts by name."""

import argparse
import importlib
import sys
from pathlib import Path

from harness import HEAD, Options, machine

sys.path.append(str(Path(__file__).resolve().parent.parent))  # what the tests share, as pytest finds it

PARTS = ("training", "detector", "round_robin", "ingest", "overhead")
LONG = ("quality", "mission_league", "equal_time", "race")  # up to hours on two cores: only by name


def main() -> None:
    parser = argparse.ArgumentParser(prog="python tests/bench", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"which parts: {', '.join(PARTS)} (default: these), {', '.join(LONG)}"
    )
    parser.add_argument("--faces", type=Path, help="folder of photographs, for the parts that want real ones")
    parser.add_argument("--peer", type=Path, help="dcgan/main.py of github.com/pytorch/examples, to measure against")
    parser.add_argument("--rounds", type=int, default=11, help="how often the sides take turns (default 11)")
    parser.add_argument("--quick", action="store_true", help="smallest sizes: only to see that everything runs")
    given = parser.parse_args()
    unknown = set(given.parts) - {*PARTS, *LONG}
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; allowed: {', '.join(PARTS + LONG)}")
    for name in ("faces", "peer"):
        path = getattr(given, name)
        if path is not None and not path.exists():
            parser.error(f"--{name} {path}: there is no such file or folder")
    options = Options(given.faces, given.peer, given.rounds, given.quick)
    rows = []
    for part in given.parts or PARTS:
        print(f"{part} ...", file=sys.stderr, flush=True)
        rows += importlib.import_module(part).measure(options)
    print(f"\n{machine()}\n\n{HEAD}", *(row.markdown() for row in rows), sep="\n")


if __name__ == "__main__":
    main()
