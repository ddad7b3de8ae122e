"""How time and memory grow with the number of entrants: leagues of tiny networks on three hosts."""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from league_runs import TINY
from rack import League, Rack, peak_memory, rack, scratch

HEADER = (
    "| entrants | matches | s in all | s a trial | of it training and scoring | ms a match | driver's memory, MB "
    "| Ray's head, MB |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def run_scale(sizes: list[int]) -> int:
    """A row of a Markdown table for each number of entrants a side."""
    folder = scratch("scale")
    try:
        sweep = _all_finish(folder / "sweep.yaml")
        print(HEADER, flush=True)
        for size in sizes:
            with rack(folder / str(size)) as hosts:
                print(_measured(hosts, sweep, size), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _measured(hosts: Rack, sweep: Path, size: int) -> str:
    begin = time.monotonic()
    league: League = hosts.league("--sweep", sweep, "--trials", 2 * size, "--max-concurrent", 4, name=f"n{size}")
    driver = head = 0
    while league.process.poll() is None:
        driver, head = max(driver, peak_memory(hosts)), max(head, _ray_memory(hosts))
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


def _ray_memory(hosts: Rack) -> int:
    """Bytes that Ray's own processes on the head have at this moment."""
    pids = hosts.lab.run(hosts.leader, "pgrep -d, -f 'gcs_server|raylet'", check=False).strip()
    sizes = hosts.lab.run(hosts.leader, f"ps -o rss= -p {pids}", check=False).split() if pids else []
    return 1024 * sum(map(int, sizes))


def _all_finish(path: Path) -> Path:
    """The tiny sweep with one short report a trial: none is stopped early, so all become entrants."""
    sweep: dict[str, Any] = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    for side in ("generators", "detectors"):
        sweep[side]["budget"] = {"grace_images": 256, "max_images": 256, "report_every": 256}
    path.write_text(yaml.safe_dump(sweep), encoding="utf-8")
    return path
