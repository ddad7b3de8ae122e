"""How time and memory grow with the number of entrants: leagues of tiny networks on three hosts."""

import json
import sys
import time
from pathlib import Path

from rack import League, Rack, rack, scratch, tiny_sweep

HEADER = (
    "| entrants | matches | s in all | s a trial | of it training and scoring | ms a match | driver's memory, MB "
    "| Ray's head, MB |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def run_scale(sizes: list[int]) -> int:
    """A row of a Markdown table for each number of entrants a side."""
    with scratch("scale") as folder:
        # One short report a trial: none is stopped early, so all become entrants.
        sweep = tiny_sweep(folder / "sweep.yaml", 256, 256, 256)
        print(HEADER, flush=True)
        for size in sizes:
            with rack(folder / str(size)) as hosts:
                print(_measured(hosts, sweep, size), flush=True)
    return 0


def _measured(hosts: Rack, sweep: Path, size: int) -> str:
    begin = time.monotonic()
    league: League = hosts.league("--sweep", sweep, "--trials", 2 * size, "--max-concurrent", 4, name=f"n{size}")
    driver = head = 0
    while league.process.poll() is None:
        driver, head = max(driver, _driver_memory(hosts)), max(head, _ray_memory(hosts))
        time.sleep(1)
    seconds = time.monotonic() - begin
    if league.process.returncode:
        print(league.printed[-4000:], file=sys.stderr)
        raise RuntimeError(f"the league of {size} failed")
    stages = {stage["name"]: stage for stage in json.loads((league.folder / "run.json").read_text())["stages"]}
    sides = [stages[name] for name in ("generators", "detectors")]
    trial = sum(stage["seconds"] for stage in sides) / (2 * size)
    work = sum(stage["training"] + stage["scoring"] for stage in sides) / (2 * size)
    match = stages["matches"]["seconds"] / size**2
    return (f"| {size} + {size} | {size**2:,} | {seconds:.0f} | {trial:.2f} | {work:.2f} | {1000 * match:.1f} "
            f"| {driver / 1e6:.0f} | {head / 1e6:.0f} |")  # fmt: skip


def _driver_memory(hosts: Rack) -> int:
    """Bytes that the driver has had at most, so far."""
    status = "cat /proc/$(pgrep -f '^python -m duel.league' | head -1)/status"
    lines = hosts.lab.run(hosts.leader, status, check=False).splitlines()
    return 1024 * max((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), default=0)


def _ray_memory(hosts: Rack) -> int:
    """Bytes that Ray's own processes on the head have at this moment."""
    pids = hosts.lab.run(hosts.leader, "pgrep -d, -f 'gcs_server|raylet'", check=False).strip()
    sizes = hosts.lab.run(hosts.leader, f"ps -o rss= -p {pids}", check=False).split() if pids else []
    return 1024 * sum(map(int, sizes))
