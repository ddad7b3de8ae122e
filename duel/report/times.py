"""What the page says about time: each stage, and what trials spent theirs on."""

from typing import Any, NamedTuple

from duel.report.run_files import RunFiles
from duel.report.tables import seconds_in_words


class StageTime(NamedTuple):
    """A stage's wall time in words; of trials also how much was training, scoring and the rest, else "".

    bar: what it was spent on and how long that is, in percent of the longest stage.
    """

    name: str
    seconds: str
    training: str
    scoring: str
    rest: str
    bar: list[tuple[str, float]]


def times(run: RunFiles) -> list[StageTime]:
    """Every stage of run.json, then their sum where trials ran."""
    stages = [stage for stage in run.info.get("stages") or [] if isinstance(stage.get("seconds"), int | float)]
    longest = max((stage["seconds"] for stage in stages), default=0.0) or 1.0
    rows = [_stage_time(str(stage.get("name", "")), stage["seconds"], _parts(stage), longest) for stage in stages]
    split = [_parts(stage) for stage in stages if "training" in stage]
    if split:
        sums = {kind: sum(parts[kind] for parts in split) for kind in split[0]}
        total = _stage_time("all stages", sum(stage["seconds"] for stage in stages), sums, longest)
        rows.append(total._replace(bar=[]))
    return rows


def _parts(stage: dict[str, Any]) -> dict[str, float]:
    """What a stage's seconds were spent on."""
    if "training" not in stage:
        return {"work": stage["seconds"]}
    rest = max(0.0, stage["seconds"] - stage["training"] - stage["scoring"])
    return {"training": stage["training"], "scoring": stage["scoring"], "rest": rest}


def _stage_time(name: str, seconds: float, parts: dict[str, float], longest: float) -> StageTime:
    training, scoring, rest = (
        seconds_in_words(parts[kind]) if kind in parts else "" for kind in ("training", "scoring", "rest")
    )
    bar = [(kind, round(100 * spent / longest, 2)) for kind, spent in parts.items() if spent]
    return StageTime(name, seconds_in_words(seconds), training, scoring, rest, bar)
