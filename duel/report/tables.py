"""What the page's tables show, as text that is ready to be placed: rounding and wording happen here."""

import math
from typing import Any, NamedTuple

from duel.report.run_files import RunFiles, records
from duel.rules.match import THRESHOLD

NOTHING = "\N{EN DASH}"
SPACE = "\N{NO-BREAK SPACE}"
NEARLY = "\N{ALMOST EQUAL TO}"  # before what lies within noise of one half


class Heat(NamedTuple):
    """A square with an accuracy: what is read, the side that it is good for, how far towards that side's colour (0 to
    100), the whole of it in words, and its marks: classes of the page's style."""

    text: str
    winner: str
    share: int
    words: str
    marks: tuple[str, ...] = ()


class Matrix(NamedTuple):
    """Rows are detectors, columns generators, both best first; a pair that has not met is None."""

    generators: list[str]
    rows: list[tuple[str, list[Heat | None], str]]
    means: list[str]


def percent(share: float) -> str:
    """0.9724 -> "97.2 %" (with a space that does not break); a dash for NaN. Never rounds up to 50 or 100
    what lies below."""
    if math.isnan(share):
        return NOTHING
    for threshold in (THRESHOLD, 1.0):
        if threshold - 0.0005 <= share < threshold:
            return f"{math.floor(share * 10_000) / 100:.2f}{SPACE}%"
    return f"{100 * share:.1f}{SPACE}%"


def decimal(value: Any, digits: int) -> str:
    """A number with a fixed number of digits; a dash for what is none."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return NOTHING
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def seconds_in_words(seconds: Any) -> str:
    """75.2 -> "1 min 15 s"."""
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def matrix(run: RunFiles) -> Matrix | None:
    """Every detector against every generator; None before the first match."""
    if run.matches.empty:
        return None
    generators, detectors = run.names("generator"), run.names("detector")
    met = {(m["detector"], m["generator"]): _meeting(m) for m in records(run.matches)}
    means = {side: run.matches.groupby(side)["accuracy"].mean() for side in ("generator", "detector")}
    rows = [(d, [met.get((d, g)) for g in generators], bare(means["detector"].get(d, math.nan))) for d in detectors]
    return Matrix(generators, rows, [bare(means["generator"].get(g, math.nan)) for g in generators])


def _meeting(match: dict[str, Any]) -> Heat:
    seen, noise = match["seen"], match["within_noise"]
    knew = "seen" if seen else "unseen" if match["family_seen"] else "unseen, of a new family"
    words = (
        f"{match['detector']} against {match['generator']} ({knew}): "
        f"accuracy {percent(match['accuracy'])} (95 % interval {percent(match['accuracy_low'])} to "
        f"{percent(match['accuracy_high'])}), on reals {percent(match['real_accuracy'])}, "
        f"on fakes {percent(match['fake_accuracy'])}, AUC {decimal(match['auc'], 4)}; "
        f"the {match['winner']} wins{', but within noise' if noise else ''}"
    )
    square = heat(match["accuracy"], words)
    marks = tuple(mark for mark, holds in (("seen", seen), ("noise", noise)) if holds)
    return square._replace(text=f"{NEARLY if noise else ''}{square.text}", winner=match["winner"], marks=marks)


def heat(accuracy: float, words: str) -> Heat:
    """A square that shows a mean accuracy."""
    share = 0 if math.isnan(accuracy) else round(200 * abs(accuracy - THRESHOLD))
    return Heat(bare(accuracy), "generator" if accuracy < THRESHOLD else "detector", share, words)


def bare(share: float) -> str:
    """A share in percent, without the sign."""
    return percent(share).removesuffix(f"{SPACE}%")


def badges(mark: str) -> tuple[str, ...]:
    """The guard's mark, "not faces, copies", in its parts."""
    return tuple(filter(None, mark.split(", ")))


def failures(run: RunFiles) -> list[dict[str, str]]:
    """Trials and twins that failed, with their reason."""
    return [
        {
            "name": trial["trial"],
            "family": trial["family"],
            "images": f"{trial['images']:,.0f}" if math.isfinite(trial["images"]) else NOTHING,
            "seconds": seconds_in_words(trial["seconds"]),
            "reason": trial["reason"] or "no reason was recorded",
        }
        for trial in records(run.failed)
    ]
