"""The run's files -> index.html: one file that needs nothing beside it and no network."""

import base64
import hashlib
import json
import shlex
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from duel.report import boards, generalisation, story, tables
from duel.report.charts import Chart, charts
from duel.report.race import Race, race_of
from duel.report.run_files import RunFiles, read_run
from duel.report.times import times
from duel.store import write_atomically

LINKED = {
    "leaderboard.csv": "both leaderboards",
    "matches.csv": "every match",
    "trials.csv": "every trial with its settings",
    "twins.csv": "every control's training",
    "twin_matches.csv": "every match of a control",
    "guard.csv": "what the generators' guard measured",
    "leave_one_out.csv": "detectors on families that they never saw",
    "scouting.csv": "what the generators were told of detectors",
    "run.json": "settings, versions, hardware, times",
}
PICTURE_TYPES = {".png": "image/png", ".gif": "image/gif"}


class Album(NamedTuple):
    """A generator's pictures as data: URIs ("" where there is none)."""

    name: str
    line: str
    badges: tuple[str, ...]
    sheet: str
    animation: str


def write_report(run_dir: Path) -> Path:
    """Write run_dir/index.html from the files in run_dir, finished run or not; returns its path.

    Only run.json must exist; whatever else is missing is left out, and the page says that the run goes on.
    Raises DuelError when run.json is missing or a file is broken; OSError when the page can't be written.
    """
    target = run_dir / "index.html"
    # A path on the command line may have bytes that are no text.
    write_atomically(target, render(read_run(run_dir)).encode("utf-8", "backslashreplace"))
    return target


def render(run: RunFiles) -> str:
    """The page's HTML."""
    environment = Environment(
        loader=PackageLoader("duel.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _asset("page.js")
    return environment.get_template("page.html").render(
        style=Markup(_asset("page.css")),
        script=Markup(script),
        # Only this very script may run, so that one that slipped in through a name could not.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **_content(run),
    )


def _content(run: RunFiles) -> dict[str, Any]:
    return {
        "info": run.info,
        "complete": run.complete,
        "headline": story.headline(run),
        "findings": story.findings(run),
        "facts": story.facts(run),
        "boards": {side: boards.board(run, side) for side in story.TEAMS},
        "matrix": tables.matrix(run),
        "race": _with_safe_chart(race_of(run)),
        "split": generalisation.split_rows(run),
        "left_out": generalisation.left_out(run),
        "weather": generalisation.weather(run),
        "guard": _guard_bounds(run.info),
        "reals": _data_uri(run.picture("reals.png")),
        "albums": [_album(run, name) for name in run.names("generator")],
        "charts": {side: [_safe(chart) for chart in charts(run, side)] for side in story.TEAMS},
        "failures": tables.failures(run),
        "times": times(run),
        "sections": _sections(run.info),
        "command": shlex.join(str(word) for word in run.info.get("command") or []),
        "settings": json.dumps(run.info.get("settings") or {}, indent=2, ensure_ascii=False),
        "links": [(name, what) for name, what in LINKED.items() if (run.root / name).is_file()],
    }


def _safe(chart: Chart) -> Chart:
    return chart._replace(svg=Markup(chart.svg))


def _with_safe_chart(race: Race | None) -> Race | None:
    return race and race._replace(chart=_safe(race.chart))


def _guard_bounds(info: dict[str, Any]) -> dict[str, str]:
    """The bounds beyond which a generator is marked, in words; without those that run.json does not state."""
    settings = (info.get("settings") or {}).get("guard") or {}
    numbers = {key: settings[key] for key in ("kid_share", "copies") if isinstance(settings.get(key), int | float)}
    bounds = {key: tables.percent(float(value)) for key, value in numbers.items()}
    noise = (info.get("yardsticks") or {}).get("kid_noise")
    if "kid_share" in numbers and isinstance(noise, int | float):
        bounds["kid"] = tables.decimal(numbers["kid_share"] * noise, 3)
    return bounds


def _album(run: RunFiles, name: str) -> Album:
    entrant = run.board[run.board["name"] == name].iloc[0]
    line = f"rank {entrant['rank']:.0f} · KID {tables.decimal(float(entrant['objective']), 3)}"
    if entrant["played"]:
        line += f" · got past {entrant['wins']:.0f} of {entrant['played']:.0f} detectors"
    if len(run.seasons) > 1:
        line = f"season {entrant['season']:.0f} · {line}"
    sheet, animation = (_data_uri(run.picture(f"{name}.{suffix}")) for suffix in ("png", "gif"))
    return Album(name, line, tables.badges(entrant["mark"]), sheet, animation)


def _sections(info: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """run.json's small tables as (heading, (key, value) pairs)."""
    faces = dict(info.get("faces") or {})
    partitions = faces.pop("partitions", None) or {}
    groups = (
        ("Faces", faces),
        ("Partitions", partitions),
        ("Hardware", info.get("hardware") or {}),
        ("Versions", info.get("versions") or {}),
        *((f"Versions until {old.get('until')}", _without(old, "until")) for old in info.get("earlier_versions") or []),
    )
    return [(title, [(k.replace("_", " "), _plain(v)) for k, v in group.items()]) for title, group in groups if group]


def _without(group: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != key}


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if value is None:
        return "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _data_uri(path: Path | None) -> str:
    if path is None:
        return ""
    return f"data:{PICTURE_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _asset(name: str) -> str:
    return resources.files("duel.report").joinpath("assets", name).read_text(encoding="utf-8")
