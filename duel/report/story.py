"""The answer in sentences: who won the league, which detector holds, which generator gets past."""

from typing import Any, NamedTuple

import pandas as pd

from duel.report.run_files import RunFiles, records
from duel.report.tables import NOTHING, decimal, percent

TEAMS = {"generator": "Team A, the generators", "detector": "Team B, the detectors"}


class Fact(NamedTuple):
    """A number to read at a glance."""

    value: str
    label: str
    note: str


def headline(run: RunFiles) -> str:
    """Who won, in one sentence."""
    played = len(run.matches)
    if not played:
        return "No match has been played yet." if not run.complete else "No match was played."
    wins = {side: int((run.matches["winner"] == side).sum()) for side in TEAMS}
    if wins["generator"] == wins["detector"]:
        verb = "ended" if run.complete else "stands"
        return f"The league {verb} level: each team won {wins['generator']} of {played} matches."
    best = max(wins, key=lambda side: wins[side])
    verb = "won the league" if run.complete else "is ahead so far"
    return f"{TEAMS[best]}, {verb}: {wins[best]} of {_count(played, 'match', 'matches')}."


def findings(run: RunFiles) -> list[str]:
    """Which detector holds best and against whom, and which generator is the hardest to catch."""
    return [line for line in (_best_detector(run), _best_generator(run)) if line]


def _best_detector(run: RunFiles) -> str:
    best, matches = _leader(run, "detector")
    if best is None:
        return ""
    mean = percent(best["mean_accuracy"])
    text = f"{best['name']} holds best: it won {_won(best)} with a mean accuracy of {mean}"
    if len(matches) > 1:
        hardest = _lowest(matches)
        text += f", lowest against {hardest['generator']} ({percent(hardest['accuracy'])})"
    unseen = matches[~matches["seen"]]
    if 0 < len(unseen) < len(matches):
        generators = _count(len(unseen), "generator", "generators")
        text += f"; on the {generators} it never trained on, {percent(unseen['accuracy'].mean())}"
    return text + "."


def _best_generator(run: RunFiles) -> str:
    best, matches = _leader(run, "generator")
    if best is None:
        return ""
    text, mean = f"{best['name']} is the hardest to catch: ", percent(best["mean_accuracy"])
    if best["wins"]:
        fooled = _lowest(matches)
        text += f"it got past {_won(best)}, furthest past {fooled['detector']}"
        return text + f" (accuracy {percent(fooled['accuracy'])}).{_warning(best)}"
    return text + f"no detector fell below one half, but their mean accuracy is {mean}.{_warning(best)}"


def _warning(best: dict[str, Any]) -> str:
    """What the guard found, so that a cheap win is not read as a good one."""
    return f" But the guard marks its fakes as {best['mark'].replace(', ', ' and ')}." if best["mark"] else ""


def _leader(run: RunFiles, side: str) -> tuple[dict[str, Any] | None, pd.DataFrame]:
    board = run.board[(run.board["side"] == side) & (run.board["played"] > 0)].sort_values("rank")
    if board.empty:
        return None, run.matches.head(0)
    best = records(board)[0]
    return best, run.matches[run.matches[side] == best["name"]]


def _lowest(matches: pd.DataFrame) -> pd.Series:
    return matches.iloc[int(matches["accuracy"].to_numpy().argmin())]


def _won(entrant: dict[str, Any]) -> str:
    other = "detector" if entrant["side"] == "generator" else "match"
    plural = "detectors" if entrant["side"] == "generator" else "matches"
    return f"{entrant['wins']:.0f} of its {_count(int(entrant['played']), other, plural)}"


def facts(run: RunFiles) -> list[Fact]:
    """A few numbers for the top of the page."""
    statuses = run.trials["status"].value_counts()
    scored = run.board.groupby("side")["objective"]
    noise = (run.info.get("yardsticks") or {}).get("kid_noise")
    faces = run.info.get("faces") or {}
    size = faces.get("image_size", NOTHING)
    trial_note = ", ".join(f"{statuses[s]} {s}" for s in ("finished", "stopped", "failed") if s in statuses)
    requested = run.info.get("trials_requested", len(run.trials)) * run.info.get("seasons", 1)
    used = faces.get("used")
    seasons = [Fact(str(len(run.seasons)), "seasons", "each trained against the ones before")]
    return [
        *(seasons if len(run.seasons) > 1 else []),
        Fact(f"{len(run.matches):,}", "matches", _match_note(run)),
        Fact(f"{len(run.trials)} of {requested}", "trials", trial_note),
        Fact(decimal(scored.min().get("generator"), 3), "best KID", f"pure noise has {decimal(noise, 3)}"),
        Fact(decimal(scored.max().get("detector"), 4), "best AUC", "on validation images"),
        Fact(
            f"{used:,}" if isinstance(used, int) else NOTHING,
            "real faces",
            f"at {size} \N{MULTIPLICATION SIGN} {size} pixels",
        ),
    ]


def _match_note(run: RunFiles) -> str:
    sizes = run.matches[["n_fake", "n_real"]].drop_duplicates()
    if len(sizes) != 1:
        return "of every detector with every generator"
    fakes, reals = sizes.iloc[0]
    return f"each of {fakes:,.0f} fakes and {reals:,.0f} reals"


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"
