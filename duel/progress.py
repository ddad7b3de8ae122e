"""What a person sees while a run works: one live view on a terminal, plain lines elsewhere."""

import sys
import time
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from duel.output import Output, printable


class Watch(Protocol):
    """What the stages tell the progress view. Units are the stage's own: images, trials, fakes or matches."""

    def stage(self, title: str, total: int, unit: str, mode: str = "min", budget: int = 0) -> None:
        """A stage begins that will do `total` units; for trials also the better objective's mode, images a trial."""

    def advance(self, done: int) -> None:
        """So many units of the stage are done now."""

    def trial_report(self, name: str, images: int, objective: float) -> None:
        """A trial has trained on `images` images by now and measured its objective."""

    def trial_ended(self, name: str) -> None:
        """A trial finished, was stopped or failed."""

    def note(self, text: str) -> None:
        """Something the reader should know, said once."""


@dataclass
class _Stage:
    """What the view knows of the stage at work."""

    title: str = ""
    total: int = 0
    unit: str = ""
    mode: str = "min"
    budget: int = 0  # images a trial
    done: int = 0
    best: float | None = None
    running: dict[str, tuple[int, float]] = field(default_factory=dict)  # trial -> its images, its objective
    started: float = field(default_factory=time.monotonic)

    def time_left(self) -> str:
        """From the share of work done so far; running trials count by their images."""
        share = self.done / self.total if self.total else 0.0
        if self.budget and self.total:
            share += sum(images / self.budget for images, _ in self.running.values()) / self.total
        spent = time.monotonic() - self.started
        return f"about {span(spent / share - spent)} left" if 0 < share <= 1 else "time left unknown"


class Progress:
    """The Watch that a person looks at; use as a context manager.

    On a terminal: a live panel with stage, work done, best score so far, running trials and time left.
    Elsewhere: a line when a stage begins or ends, a trial reports or ends, and at most every 10 s for the rest.
    """

    def __init__(self, console: Console | None = None):
        self.console = console or _console()
        self.console.file = Output(self.console.file)  # type: ignore[assignment]
        self._live_view = self.console.is_terminal and self.console.is_interactive  # not so where TERM is dumb
        self._stage = _Stage()
        self._last_line = time.monotonic()
        self._live = Live(console=self.console, refresh_per_second=4, get_renderable=self._view, transient=True)

    def __enter__(self) -> "Progress":
        if self._live_view:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def stage(self, title: str, total: int, unit: str, mode: str = "min", budget: int = 0) -> None:
        """A stage begins; the one before it has ended."""
        self.end()
        self._stage = _Stage(title, total, unit, mode, budget)
        self._line(f"{title}: {total:,} {unit}" if total else title)

    def end(self) -> None:
        """The stage at work has ended."""
        if self._stage.title:
            self.note(f"{self._stage.title}: done in {span(time.monotonic() - self._stage.started)}")
        self._stage = _Stage()

    def advance(self, done: int) -> None:
        """So many units are done now."""
        stage = self._stage
        stage.done = done
        if time.monotonic() - self._last_line > 10:
            self._line(f"{stage.title}: {done:,} of {stage.total:,} {stage.unit}, {stage.time_left()}")

    def trial_report(self, name: str, images: int, objective: float) -> None:
        """A trial's measurement."""
        stage = self._stage
        stage.running[name] = (images, objective)
        better = min if stage.mode == "min" else max
        stage.best = objective if stage.best is None else better(stage.best, objective)
        score = f"objective {objective:.4f} (best {stage.best:.4f})"
        self._line(f"{name}: {images:,} images, {score}, {stage.time_left()}")

    def trial_ended(self, name: str) -> None:
        """A trial left the stage."""
        stage = self._stage
        images, _ = stage.running.pop(name, (0, 0.0))
        stage.done += 1
        self._line(f"{name}: ended after {images:,} images; {stage.done} of {stage.total} trials done")

    def note(self, text: str) -> None:
        """Print a line that stays."""
        self.console.print(Text(printable(text)))

    def _line(self, text: str) -> None:
        if not self._live_view:
            self.note(text)
            self._last_line = time.monotonic()

    def _view(self) -> Group:
        stage = self._stage
        head = Text(stage.title, style="bold")
        if stage.total:
            work = f"{stage.done:,} of {stage.total:,} {stage.unit}"
            head.append(f"  {work}, {len(stage.running)} running, {stage.time_left()}")
        if stage.best is not None:
            head.append(f"  best so far {stage.best:.4f}", style="green")
        table = Table.grid(padding=(0, 2))
        for name, (images, objective) in sorted(stage.running.items()):
            table.add_row(f"  {name}", f"{images:,} images", f"{objective:.4f}")
        return Group(head, table)


def _console() -> Console:
    """stdout, with a live view on a real terminal only: rich would go by FORCE_COLOR too, which CI systems set."""
    real = sys.stdout is not None and sys.stdout.isatty()
    return Console(highlight=False, soft_wrap=True, force_terminal=None if real else False)


def span(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3 min 05 s, 2 h 10 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
