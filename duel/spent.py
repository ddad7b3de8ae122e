"""Where a stage of trials spent its time: pure functions on the trials' reports."""

from typing import Any


def busy_spans(history: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """When a trial trained or scored: (begin, end) of each report, in seconds since 1970.

    A report's "ended" is its time; "seconds" of training add up over the reports, "validation_seconds" do not.
    """
    spans, before = [], 0.0
    for report in history:
        work = report["seconds"] - before + report.get("validation_seconds", 0.0)
        if "ended" in report:  # reports of earlier versions do not say when they were made
            spans.append((report["ended"] - work, report["ended"]))
        before = report["seconds"]
    return spans


def spent(histories: list[list[dict[str, Any]]]) -> dict[str, float]:
    """Wall seconds in which at least one trial was "training" or "scoring"; the rest of a stage is overhead.

    The time is shared between the two in proportion to the trials' own seconds of each.
    """
    busy, last = 0.0, 0.0
    for begin, end in sorted(span for history in histories for span in busy_spans(history)):
        busy += max(0.0, end - max(begin, last))
        last = max(last, end)
    training = sum(history[-1]["seconds"] for history in histories if history)
    scoring = sum(report.get("validation_seconds", 0.0) for history in histories for report in history)
    share = training / (training + scoring) if training + scoring else 0.0
    return {"training": round(busy * share, 2), "scoring": round(busy * (1 - share), 2)}
