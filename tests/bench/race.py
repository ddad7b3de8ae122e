"""What competing adds: three seeds of the quick league over two seasons, on photographs."""

import statistics
import tempfile
from pathlib import Path

import pandas as pd
from harness import Options, Row
from league_runs import ROOT, TINY, run_league

SEEDS, TRIALS = 3, 8
POINTS, KID_RATIO, SHARE = 0.10, 1.25, 0.5


def numbers(run: Path) -> dict[str, float]:
    """Of one run: what detectors of season 1 lose on generators of season 2 and on their twins without evasion, what
    detectors of season 2 win back of it (all, and where they had not trained on the generator), and the KIDs' ratio."""
    trials, twins, matches, controls = (
        pd.read_csv(run / name) for name in ("trials.csv", "twins.csv", "matches.csv", "twin_matches.csv")
    )
    season = {**trials.set_index("trial")["season"], **twins.set_index("trial")["season"]}
    table = pd.concat([matches, controls], ignore_index=True)
    table["of"], table["by"] = table["generator"].map(season), table["detector"].map(season)
    table["twin"] = table["generator"].str.contains("no-evasion", regex=False)
    entrants = table[~table["detector"].str.contains(".", regex=False)]
    first = entrants[(entrants["by"] == 1) & (entrants["of"] == 1)]["accuracy"].mean()
    then = entrants[entrants["of"] == 2]
    second, twins_then = then[~then["twin"]], then[then["twin"] & (then["by"] == 1)]
    lost = first - second[second["by"] == 1]["accuracy"].mean()
    regained = second[second["by"] == 2]
    kids = trials[trials["entrant"] & (trials["side"] == "generator")].groupby("season")["objective"].mean()
    return {
        "lost": lost,
        "lost to twins": first - twins_then["accuracy"].mean(),
        "won back": (regained["accuracy"].mean() - first + lost) / lost,
        "won back unseen": (regained[~regained["seen"]]["accuracy"].mean() - first + lost) / lost,
        "kid ratio": kids[2] / kids[1],
    }


def measure(options: Options) -> list[Row]:
    """A row a question, each the mean of the seeds and what each seed gave."""
    sweep, seeds = (TINY, range(1)) if options.quick else (ROOT / "sweeps" / "quick.yaml", range(SEEDS))
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in seeds:
            given = ["--faces", options.faces] if options.faces else []
            done = run_league(
                "--sweep", sweep, "--trials", TRIALS, "--seasons", 2, "--seed", seed, *given, "--out", folder,
                "--name", f"seed{seed}", cache=folder / "cache", timeout=7200,
            )  # fmt: skip
            done.check_returncode()
            found.append(numbers(folder / f"seed{seed}"))
    return rows(found)


def rows(found: list[dict[str, float]]) -> list[Row]:
    """From the seeds' numbers to the table."""
    mean = {name: statistics.mean(run[name] for run in found) for name in found[0]}
    told = {name: ", ".join(f"{run[name]:.3f}" for run in found) for name in mean}

    def row(title: str, name: str, target: str, met: bool) -> Row:
        return Row(title, f"{mean[name]:.3f} ({told[name]}, a figure a seed)", target, met)

    twins = mean["lost to twins"]
    return [
        row("accuracy that detectors of season 1 lose on generators of season 2", "lost",
            f"{POINTS} and more than the control", mean["lost"] >= max(POINTS, twins)),
        Row("... control: on those without the evasion term", f"{twins:.3f} ({told['lost to twins']})"),
        row("KID of season 2 over season 1", "kid ratio", f"at most {KID_RATIO}", mean["kid ratio"] <= KID_RATIO),
        row("share of it that detectors of season 2 win back", "won back", f"{SHARE}", mean["won back"] >= SHARE),
        row("... on generators that they had not trained on", "won back unseen", f"{SHARE}",
            mean["won back unseen"] >= SHARE),
    ]  # fmt: skip
