"""The race in sentences, from the matches: what the detectors of a season lost, what the next won back, and KID."""

from typing import NamedTuple

import pandas as pd

from duel.families import TWINS
from duel.report.run_files import RunFiles
from duel.report.tables import NOTHING, decimal, percent

CONTROLS = {"no-evasion": "evasion off", "no-replay": "replay off", "no-rivals": "no new rivals"}


class Pairing(NamedTuple):
    """Entrants beside their twins, on the same opponents: how many twins, mean of the entrants, mean of the twins."""

    twins: int
    entrants: float
    controls: float


def race_words(run: RunFiles) -> list[str]:
    """Up to three sentences a season from the second on; a control's are paired, each twin with its entrant."""
    lines = []
    for before, season in zip(run.seasons, run.seasons[1:], strict=False):
        lines += [_lost(run, before, season), _won_back(run, before, season), _kid(run, before, season)]
    return [line for line in lines if line]


def _lost(run: RunFiles, before: int, season: int) -> str:
    first, then = _mean(run, before, before), _mean(run, season, before)
    if pd.isna(first) or pd.isna(then):
        return ""
    change, unseen = then - first, _mean(run, before, before, unseen=True)
    text = (
        f"The detectors of season {before} {'gained' if change > 0 else 'lost'} {_points(abs(change))} of accuracy on "
        f"the fakes of season {season}: from {percent(first)} on season {before}'s ({percent(unseen)} on generators "
        f"that they never trained on) to {percent(then)}"
    )
    pairing = _paired(run, "no-evasion", "generator", season, before)
    if pairing is None:
        waiting = len(_twins(run, "no-evasion", "generator", season))
        why = "its controls have not played yet" if waiting else "no generator was trained again without it"
        return f"{text}; how much of that is evasion stays open, as {why}."
    due = pairing.controls - pairing.entrants
    verdict = f"evasion took {_points(due)} more" if due > 0 else "evasion took no more"
    which = "The generator" if pairing.twins == 1 else f"The {pairing.twins} generators"
    return (
        f"{text}. {which} trained again with evasion off met {percent(pairing.controls)} instead of "
        f"{percent(pairing.entrants)}: {verdict}."
    )


def _won_back(run: RunFiles, before: int, season: int) -> str:
    old, new = _mean(run, season, before), _mean(run, season, season)
    if pd.isna(old) or pd.isna(new):
        return ""
    verb, unseen = "won back" if new >= old else "lost another", _mean(run, season, season, unseen=True)
    text = (
        f"The detectors of season {season} {verb} {_points(abs(new - old))} on the same fakes: {percent(new)}, and "
        f"{percent(unseen)} on generators that they never trained on"
    )
    for kind in TWINS["detector"]:
        pairing = _paired(run, kind, "detector", season, season)
        if pairing is not None:
            off, on = percent(pairing.controls), percent(pairing.entrants)
            text += f"; trained again with {CONTROLS[kind]}, {off} instead of {on}"
    return text + "."


def _kid(run: RunFiles, before: int, season: int) -> str:
    generators = run.board[run.board["side"] == "generator"].set_index("name")
    means = generators.groupby("season")["objective"].mean()
    old, new = means.get(before, float("nan")), means.get(season, float("nan"))
    if pd.isna(old) or pd.isna(new) or not old > 0:
        return ""
    text = (
        f"The mean KID of season {season} is {decimal(float(new), 3)}, {decimal(float(new / old), 2)} times that of "
        f"season {before} ({decimal(float(old), 3)})"
    )
    twins = _twins(run, "no-evasion", "generator", season)
    same = generators["objective"].reindex(twins["twin_of"]).mean()
    if twins.empty or pd.isna(same):
        return text + "."
    off = decimal(float(twins["objective"].mean()), 3)
    return f"{text}; trained again with evasion off, {off} instead of {decimal(float(same), 3)}."


def _mean(run: RunFiles, generators: int, detectors: int, unseen: bool = False) -> float:
    """Mean accuracy of one season's detectors on one season's generators."""
    matches = run.matches[~run.matches["seen"]] if unseen else run.matches
    return _between(matches, _names(run, "generator", generators), _names(run, "detector", detectors))


def _paired(run: RunFiles, kind: str, side: str, season: int, opponents: int) -> Pairing | None:
    """A season's twins of a kind and the entrants that they are twins of, against the same season's opponents."""
    twins = _twins(run, kind, side, season)
    other = "detector" if side == "generator" else "generator"
    rivals = _names(run, other, opponents)
    means = [
        _between(table, *((names, rivals) if side == "generator" else (rivals, names)))
        for table, names in ((run.matches, set(twins["twin_of"])), (run.twin_matches, set(twins["trial"])))
    ]
    return None if any(map(pd.isna, means)) else Pairing(len(twins), *means)


def _twins(run: RunFiles, kind: str, side: str, season: int) -> pd.DataFrame:
    twins = run.twins
    return twins[(twins["kind"] == kind) & (twins["side"] == side) & (twins["season"] == season)]


def _names(run: RunFiles, side: str, season: int) -> set[str]:
    board = run.board
    return set(board.loc[(board["side"] == side) & (board["season"] == season), "name"])


def _between(matches: pd.DataFrame, generators: set[str], detectors: set[str]) -> float:
    met = matches["generator"].isin(generators) & matches["detector"].isin(detectors)
    return float(matches.loc[met, "accuracy"].mean())


def _points(share: float) -> str:
    """0.123 -> "12.3 points"."""
    return NOTHING if pd.isna(share) else f"{decimal(100 * share, 1)} points"
