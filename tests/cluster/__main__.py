"""What a cluster does to a league, on hosts made of namespaces: `python tests/cluster faults`, kills or scale."""

import argparse
import signal
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # what the tests share, as pytest finds it


def main() -> int:
    from faults import FAULTS, run_faults
    from kills import run_kills
    from lab import missing
    from scale import run_scale

    parser = argparse.ArgumentParser(prog="python tests/cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    faults = commands.add_parser("faults", help="each fault once, about two minutes each; a table")
    faults.add_argument("names", nargs="*", metavar="FAULT", help=f"{', '.join(FAULTS)} (default: all)")
    kills = commands.add_parser("kills", help="leagues of each of which something is killed at random")
    kills.add_argument("--count", type=int, default=50, help="leagues (default 50)")
    kills.add_argument("--seed", type=int, default=0, help="what is killed, and when, follows from it (default 0)")
    scale = commands.add_parser("scale", help="leagues of more and more entrants with tiny networks; a table")
    scale.add_argument("entrants", nargs="*", type=int, help="of each side (default 10 32 100)")
    given = parser.parse_args()
    if reason := missing():
        print(f"error: {reason}", file=sys.stderr)
        return 1
    # A shell has what it starts in the background ignore Ctrl-C, and leagues would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if given.command == "kills":
        return run_kills(given.count, given.seed)
    if given.command == "scale":
        return run_scale(given.entrants or [10, 32, 100])
    if unknown := set(given.names) - set(FAULTS):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; allowed: {', '.join(FAULTS)}")
    return run_faults(given.names or list(FAULTS))


if __name__ == "__main__":
    sys.exit(main())
