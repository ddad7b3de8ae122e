"""The mission's round robin at full size, 16 x 16 with 15,000 + 15,000 images: time and peak memory.

About 40 minutes on two cores with nothing beside it.
Drawn faces, untrained `dcgan` and `cnn` entrants with default settings; the league's own code, to the match table.
"""

import time

from arena import MB, SIZE, MemoryWatch
from harness import Options, Row, below
from round_robin import DEFAULTS, arena, store_bound

from duel.progress import span


def measure(options: Options) -> list[Row]:
    """All rows; with options.quick 5 x 5 and few images."""
    entrants, count = (5, 256) if options.quick else (16, 15_000)
    with arena(entrants, count, DEFAULTS) as (match, places):
        begin = time.perf_counter()
        with MemoryWatch() as memory:
            match.play(entrants, entrants)
        seconds = time.perf_counter() - begin
        files = sum(path.stat().st_size for path in match.work.rglob("*.npy"))
        bound = store_bound(match.generators, match.detectors, count, places) / MB
    peak = {key: value / MB for key, value in memory.peak.items()}
    before = {key: value / MB for key, value in memory.start.items()}
    what = f"mission league, {entrants} x {entrants}, {count:,} + {count:,} images"
    reals = (
        f"and {before['store']:.0f} MB of reals; all generators' fakes are {entrants * count * 3 * SIZE**2 / MB:.0f} MB"
    )
    return [
        Row(f"{what}: time", f"{span(seconds)}, {places} tasks at once"),
        below(f"{what}: object store beside the reals", peak["store"] - before["store"], bound, "MB", reals),
        Row(f"{what}: driver", f"{peak['driver']:.0f} MB at most, {before['driver']:.0f} MB before"),
        Row(f"{what}: workers", f"{peak['worker']:.0f} MB the largest, {peak['workers']:.0f} MB all at once at most"),
        Row(f"{what}: files", f"{files / MB:.0f} MB of fakes and scores in the work folder"),
    ]
