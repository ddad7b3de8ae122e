"""One session of a run, new or resumed: every stage in order, and what is said where it ends before the report.

faces -> each season: generator trials -> detector trials -> matches -> leaderboard; then twins, families left out,
guard, weather -> report
"""

import contextlib
import tempfile
import traceback
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from duel.claim import Sign
from duel.errors import DuelError
from duel.interrupt import stop_in_two_steps
from duel.mirror import mirrored
from duel.rundir import ERROR, RunFolder
from duel.store import write_atomically

if TYPE_CHECKING:
    from duel.stages import League


def play(run: RunFolder, address: str | None, max_failures: int, seen: Sign | None = None, new: bool = False) -> Path:
    """Every stage in order; the path of the report.

    seen: see duel.mirror.mirrored. new: whether the run goes if it ends before it does any work.
    """
    from duel.cluster.connection import connect, disconnect
    from duel.progress import Progress

    last_words = partial(_last_words, run, new)
    with Progress() as progress:
        progress.note(f"run {run.path.name} in {run.path}")
        try:
            stop_in_two_steps(progress.note, last_words)
            with run.stage("start"):
                _import_meanwhile("torch", "pandas", "optuna")
                cluster = connect(address, progress.note)
                stop_in_two_steps(progress.note, last_words)  # Ray has set handlers of its own
                from duel.forecast import warn_if_long
                from duel.stages import League

            stages = League(run, progress, max_failures)
            stages.load_faces()
            if not run.has_work():
                warn_if_long(stages.sweep, run.data["trials_requested"], stages.seasons, len(stages.weathers), cluster,
                             progress)  # fmt: skip
            stages.join(cluster)
            with mirrored(run, progress.note, seen) as stages.copied:
                return _every_stage(stages)
        except DuelError:
            raise
        except (KeyboardInterrupt, SystemExit):  # by a signal; the latter while Ray starts, from a handler of its own
            raise DuelError(f"interrupted; {last_words()}") from None
        except Exception as error:
            raise _unforeseen(error, run.path, new and not run.has_work()) from error
        finally:
            disconnect()


def _every_stage(stages: "League") -> Path:
    """The order of all that happens once the faces are there."""
    from duel.checks import guard, leave_families_out, play_twins, replay_in
    from duel.season import Season

    for number in range(1, stages.seasons + 1):
        Season(stages, number).play()
    leave_families_out(stages)
    play_twins(stages)
    guard(stages)
    replay_in(stages, stages.weathers)
    stages.rate()
    return stages.finish()


def _import_meanwhile(*modules: str) -> None:
    """Import in a thread what is needed next: Ray's start is seconds of waiting for its processes."""

    def work() -> None:
        for module in modules:
            import_module(module)

    Thread(target=work, daemon=True).start()


def _last_words(run: RunFolder, new: bool) -> str:
    """What becomes of a run that is stopped now; one that has done nothing yet gives its name back."""
    if new and not run.has_work():
        run.discard()
        return f"nothing had begun, so no run {run.path.name} is kept"
    return f"what is finished is kept: go on with --resume {run.path.name}"


def _unforeseen(error: Exception, folder: Path, going: bool) -> DuelError:
    """One line for the user, the traceback in a file for whoever mends it; going: whether the run's folder goes."""
    cause = getattr(error, "cause", None) or error  # Ray wraps what went wrong in a task
    if isinstance(cause, DuelError):
        return DuelError(str(cause))
    file, hint = folder / ERROR, f"--resume {folder.name} goes on"
    with contextlib.suppress(OSError):  # the disk may be full
        if going:
            file, hint = Path(tempfile.mkdtemp(prefix="duel-error-")) / ERROR, f"no run {folder.name} is kept"
        text = "".join(traceback.format_exception(error))
        write_atomically(file, text.encode("utf-8", errors="backslashreplace"))
    line = " ".join(str(cause).split())[:300]
    return DuelError(f"{type(cause).__name__}: {line} (all of it in {file}; {hint})")
