"""The command line, `python -m duel.league`: what is typed, checked before any work; then a session of a run."""

import platform
import re
import shlex
import sys
import uuid
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from duel import __version__, paths
from duel.claim import Sign, check_free, is_newest
from duel.cluster.surroundings import look
from duel.config import Sweep, load_sweep, parse_sweep
from duel.errors import DuelError, UsageError
from duel.fetch import fetch
from duel.mirror import mirrored
from duel.output import Output, complain, printable, say
from duel.rundir import RunFolder, known, now
from duel.session import play
from duel.store import NAME, join
from duel.weather import parse_weather

SWEEPS = paths.SWEEPS

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def league(
    context: typer.Context,
    trials: Annotated[int | None, typer.Option(help="Trials in all: half generators, half detectors. Default: the sweep's own number.", min=2)] = None,
    sweep: Annotated[Path, typer.Option(metavar="PATH", parser=paths.sweep_file, show_default="mission", help=f"Sweep file: search spaces, budgets, image size, faces a partition. Or the name of one that comes with duel: {', '.join(paths.own_sweeps())}; a file of just that name in the current folder goes first.")] = SWEEPS / "mission.yaml",
    faces: Annotated[str, typer.Option(metavar="PATH", parser=paths.faces_source, help="Real faces: a folder of images, a .zip or .tar of images, a .parquet file with an image column, a folder of such archives, or 'drawn' for faces that duel draws itself.")] = "drawn",
    out: Annotated[Path, typer.Option(metavar="PATH", parser=paths.out_folder, help="Folder of the runs; this one goes to OUT/NAME.")] = Path("reports"),
    name: Annotated[str | None, typer.Option(help="Name of the run. Default: the sweep's name and the time.")] = None,
    seasons: Annotated[int, typer.Option(help="Seasons of --trials each. From the second on, trials start from earlier entrants and learn to beat earlier rivals.", min=1)] = 1,
    weather: Annotated[str | None, typer.Option(metavar="CHANGES", help="Play the league again with all images changed, reals and fakes alike: a list such as jpeg50,blur1,resize0.5,noise8 (JPEG quality, blur in pixels, scale and back, noise in levels of 255).")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, settings and faces: same match table on the same machine.", min=0)] = 0,
    resume: Annotated[str | None, typer.Option(metavar="NAME", help="Go on with the run OUT/NAME that was interrupted; nothing finished is done again. With --storage from any machine: a complete run's report comes to OUT/NAME.")] = None,
    storage: Annotated[str | None, typer.Option(metavar="URI", parser=paths.storage_root, help="Where trials keep their state, and a copy of the run: a folder that all nodes share, or a URI such as s3://bucket/duel. With --resume: take the run from there. Default: the run's folder.")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to join, e.g. auto or HOST:6379. Default: RAY_ADDRESS, else Ray is started here with all that the machine has.")] = None,
    max_concurrent: Annotated[int | None, typer.Option(help="Trials of a side at once, at most. Default: the sweep's.", min=1)] = None,
    cpus_per_trial: Annotated[int | None, typer.Option(help="CPU cores a trial reserves and uses. Default: the sweep's, on this machine alone also cores that would lie idle.", min=1)] = None,
    gpus_per_trial: Annotated[float | None, typer.Option(help="GPUs a trial reserves; a fraction lets trials share one, 0 means CPU only. Default: the sweep's.", min=0)] = None,
    max_failures: Annotated[int, typer.Option(help="How often a trial whose worker died starts again from its last report, without a new report in between.", min=0)] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan with estimated time and memory, and end.")] = False,
) -> None:  # fmt: skip
    """Run a league: generators of faces against detectors of fakes.

    Trains both sides' trials, plays every generator against every detector and writes the leaderboard to
    OUT/NAME: index.html, leaderboard.csv, matches.csv, trials.csv, models/, fakes/. The last line printed is
    the report's path. Exit codes: 0 done, 1 failed, 2 wrong usage, settings or input.

    \b
    A first try, about ten minutes on two CPU cores:
        python -m duel.league --sweep quick
    The mission, on GPUs:
        python -m duel.league --trials 32 --faces FOLDER
    """
    paths.faces_cache()  # what is wrong with DUEL_CACHE is told now, not once Ray has started
    if resume is not None:
        _refuse_with_resume(context)
        say(printable(str(_resume(out, resume, storage, address, max_failures))))
        return
    settings = _override(load_sweep(sweep), max_concurrent, cpus_per_trial, gpus_per_trial)
    trials = trials or settings.trials
    weathers = parse_weather(weather) if weather is not None else []
    check_faces(faces)
    if dry_run:
        say(dry(settings, trials, seasons, len(weathers), faces, address))
        return
    name = _run_name(name, sweep)
    data = _new_run(name, settings, trials, seed, faces, _state_root(storage, out / name))
    data.update(seasons=seasons, weather=[each.name for each in weathers])
    say(printable(str(_start(out / name, data, address, max_failures))))


def check_faces(source: str) -> None:
    """See duel.faces.check_source. Imported late, so that --help and usage errors come at once."""
    from duel.faces import check_source

    check_source(source)


def dry(settings: Sweep, trials: int, seasons: int, weathers: int, faces: str, address: str | None) -> str:
    """The plan's text; joins a cluster only to see what it has."""
    from duel.forecast import forecast

    return forecast(settings, trials, seasons, weathers, printable(faces), address, complain).text


def _start(folder: Path, data: dict[str, Any], address: str | None, max_failures: int) -> Path:
    look(address)
    run = RunFolder.create(folder, data)
    try:
        return play(run, address, max_failures, new=True)
    except BaseException:  # Ctrl-C too
        if not run.has_work():
            run.discard()
        raise


def _resume(out: Path, name: str, storage: str | None, address: str | None, max_failures: int) -> Path:
    seen = _look_in_storage(out / name, storage)
    run = RunFolder.open(out / name)
    if run.data["status"] == "complete":
        from duel.report.page import write_report

        complain(f"run {name} is complete already")
        if seen and seen.working and is_newest(seen, run.path):  # the storage was away at its end
            with mirrored(run, complain, seen):
                pass  # what is left is copied at its end
        report = out / name / "index.html"
        if not report.exists():
            write_report(run.path)
        run.forget_failure()  # of this machine, where another one went on to the end
        return report
    if not run.data.get("id"):
        version = run.data.get("duel_version", "an earlier version")
        raise UsageError(f"--resume {name}: duel {version} began it, whose files this one can't go on with; start anew")
    check_faces(run.data["faces"]["source"])
    look(address)
    if changed := run.note_versions(_versions()):
        complain(f"run {name} began with {'; '.join(changed)}: what is made from here on may differ in its last digits")
    return play(run, address, max_failures, seen)


def _look_in_storage(folder: Path, storage: str | None) -> Sign | None:
    """Bring the run here where its storage has it and another folder was the last that drove it; that driver's sign."""
    data = known(folder)
    ours, given = data.get("storage"), join(storage, folder.name) if storage else None
    if data and given and given != ours:
        raise UsageError(f"--storage {storage}: run {folder.name} keeps its trials in {ours or 'its own folder'}")
    root = given or ours
    return fetch(folder, root, complain) if isinstance(root, str) else None


def _refuse_with_resume(context: typer.Context) -> None:
    """A resumed run has its settings: only where and how it runs can be said anew."""
    free = ("resume", "out", "storage", "address", "max_failures")
    sources = {name: context.get_parameter_source(name) for name in context.params if name not in free}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        flags = ", ".join("--" + name.replace("_", "-") for name in given)
        raise UsageError(f"--resume goes on with the run's own settings; leave out {flags}")


def _override(sweep: Sweep, concurrent: int | None, cpus: int | None, gpus: float | None) -> Sweep:
    """The sweep with what the command line says about resources, checked again."""
    raw = sweep.model_dump()
    for side in ("generators", "detectors"):
        raw[side]["max_concurrent"] = concurrent or raw[side]["max_concurrent"]
        if cpus is not None:
            raw[side]["resources"].update(cpu=cpus, spare_cores=False)
        raw[side]["resources"]["gpu"] = raw[side]["resources"]["gpu"] if gpus is None else gpus
    return parse_sweep(raw, "command line")


def _run_name(name: str | None, sweep: Path) -> str:
    chosen = name if name is not None else f"{_as_name(sweep.stem)}-{datetime.now():%Y%m%d-%H%M%S}"
    if not NAME.fullmatch(chosen) or chosen.startswith((".", "-")):
        raise UsageError(f"--name {chosen!r}: use letters A to Z, digits, '.', '_' and '-', a letter or digit first")
    return chosen


def _as_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".-") or "run"


def _state_root(storage: str | None, folder: Path) -> str | None:
    """Where this run's trials keep their state; None for the run's own folder, wherever that is moved to.

    A place that can't be opened, or holds anything already, ends the run here.
    """
    if storage is None:
        return None
    root = join(storage, folder.name)
    check_free(root, folder)
    return root


def _new_run(name: str, settings: Sweep, trials: int, seed: int, faces: str, storage: str | None) -> dict[str, Any]:
    """What run.json holds when a run begins."""
    from duel.rules.scores import FEATURE_NETWORK

    return {
        "id": uuid.uuid4().hex, "name": name, "status": "running", "created": now(), "duel_version": __version__,
        "command": ["python", "-m", "duel.league", *sys.argv[1:]], "seed": seed, "settings": settings.model_dump(),
        "trials_requested": trials, "storage": storage, "faces": {"source": faces}, "hardware": {},
        "versions": _versions(),
        "feature_network": FEATURE_NETWORK, "yardsticks": {}, "stages": [], "notes": [],
    }  # fmt: skip


def _versions() -> dict[str, str]:
    packages = {package: version(package) for package in ("torch", "torchvision", "ray", "optuna")}
    return {"python": platform.python_version(), **packages, "duel": __version__}


def main(program: str | None = None) -> None:
    """Run the command; turn duel's errors into one message and an exit code. program: what its help calls it."""
    sys.stdout, sys.stderr = Output(sys.stdout), Output(sys.stderr)
    try:
        app(prog_name=program)
    except DuelError as error:
        complain(f"error: {error}")
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == UsageError.exit_code:
            complain(f"received: {shlex.join(sys.argv[1:])}")  # typer names the flag alone
        raise
    except KeyboardInterrupt:
        sys.exit(1)
    except OSError as error:
        complain(f"error: {error.filename or ''}: {error.strerror or error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
