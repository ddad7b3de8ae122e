"""Leagues of each of which one process is killed at a random moment: all must end as if nothing had happened."""

import itertools
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from league_runs import TINY
from rack import WORKERS, League, Rack, lost, rack, scratch

IDLE, AGENTS = "ray::IDLE", ("ray::RuntimeEnvAgent", "ray::DashboardAgent")  # an agent is a part of its raylet


def kill_worker(hosts: Rack, league: League, draw: random.Random) -> str | None:
    """One of the processes on the nodes that work for the league; one that waits for work only where none has any.

    Before the first is there it is waited for. None if the league ends meanwhile.
    """
    with suppress(RuntimeError):
        return league.wait_until(lambda: _kill_one(hosts, draw))
    return None


def _kill_one(hosts: Rack, draw: random.Random) -> str | None:
    found = {}
    for host in WORKERS:
        lines = hosts.lab.run(host, "pgrep -a -f '^ray::'", check=False).splitlines()
        titles = dict(line.split(maxsplit=1) for line in lines)
        found.update({(host, pid): title for pid, title in titles.items() if not title.startswith(AGENTS)})
    busy = {key: title for key, title in found.items() if not title.startswith(IDLE)}
    if not found:
        return None
    (host, pid), title = draw.choice(sorted((busy or found).items()))
    killed = hosts.lab.run(host, f"kill -9 {pid} && echo killed", check=False)
    return f"{title} on {host}" if killed else None


def kill_raylet(hosts: Rack, league: League, draw: random.Random) -> str:
    """A node's raylet, and all its workers with it; the node joins again later."""
    host = draw.choice(WORKERS)
    hosts.lab.run(host, "pkill -9 -x raylet", check=False)
    time.sleep(draw.uniform(0, 10))
    hosts.start_worker(host)
    return f"the raylet of {host}"


def kill_driver(hosts: Rack, league: League, draw: random.Random) -> str:
    """The command itself; then --resume, or the command again where there was no run yet."""
    league.signal("KILL")
    league.wait()
    if (league.folder / "run.json").exists():
        league.resume()
    else:
        league.start()
    return "the driver"


Kill = Callable[[Rack, League, random.Random], str | None]  # whom it killed
KINDS: dict[str, Kill] = {
    "worker": kill_worker, "raylet": kill_raylet, "driver": kill_driver,
}  # fmt: skip


def run_kills(count: int, seed: int) -> int:
    """A line a league on stdout, and the sum of them; 1 if any lost something."""
    draw, tally, bad = random.Random(seed), Counter[str](), 0
    with scratch("kills") as folder, rack(folder / "rack") as hosts:
        begin, whole = time.monotonic(), _league(hosts, "undisturbed")
        if whole.wait() != 0:
            raise RuntimeError(whole.printed)
        usual = time.monotonic() - begin
        print(f"undisturbed: {usual:.0f} s", flush=True)
        numbers = itertools.count(1)
        while tally.total() < count:
            kind, after = draw.choice(list(KINDS)), draw.uniform(0, usual)
            lost_some = _one(hosts, whole, f"k{next(numbers)}", KINDS[kind], after, draw)
            if lost_some is not None:
                bad += lost_some
                tally[kind] += 1
    kinds = ", ".join(f"{tally[kind]} {kind}s" for kind in KINDS)
    print(f"{count} kills ({kinds}), seed {seed}: {count - bad} complete reports with the undisturbed run's tables")
    return int(bad > 0)


def _one(hosts: Rack, whole: League, name: str, kill: Kill, after: float,
         draw: random.Random) -> bool | None:  # fmt: skip
    """Whether the league lost anything; None if it was over before anything could be killed."""
    begin, league = time.monotonic(), _league(hosts, name)
    victim, before = None, {}
    try:
        league.wait(after)
    except subprocess.TimeoutExpired:
        before = league.histories()
        victim = kill(hosts, league, draw)
    code = league.wait()
    if victim is None:
        if code != 0:
            raise RuntimeError(league.printed)
        return None
    wrong = lost(league, whole.folder, before) if code == 0 else [f"exit {code}"]
    seconds = time.monotonic() - begin
    print(f"{name}: after {after:.1f} s {victim}; report after {seconds:.0f} s; lost: {', '.join(wrong) or 'nothing'}",
          flush=True)  # fmt: skip
    if wrong:
        print(league.printed[-4000:], file=sys.stderr, flush=True)
    shutil.rmtree(league.folder, ignore_errors=True)
    return bool(wrong)


def _league(hosts: Rack, name: str) -> League:
    return hosts.league("--sweep", TINY, "--trials", 6, "--seed", 7, name=name)
