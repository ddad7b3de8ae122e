"""What a person sees while a run works: one live view on a terminal, plain lines elsewhere."""

import time
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text


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


class Progress:
    """The Watch that a person looks at; use as a context manager.

    On a terminal: a live panel with stage, work done, best score so far, running trials and time left.
    Elsewhere: one line when a stage begins or ends, a trial reports or ends, and at most every 10 s for the rest.
    """

    def __init__(self, console: Console | None = None):
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._begin("", 0, "")
        self._live = Live(console=self.console, refresh_per_second=4, get_renderable=self._view, transient=True)

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def stage(self, title: str, total: int, unit: str, mode: str = "min", budget: int = 0) -> None:
        """A stage begins; the one before it has ended."""
        self._end()
        self._begin(title, total, unit, mode, budget)
        self._line(f"{title}: {total:,} {unit}" if total else title)

    def advance(self, done: int) -> None:
        """So many units are done now."""
        self._done = done
        if time.monotonic() - self._last_line > 10:
            self._line(f"{self._title}: {done:,} of {self._total:,} {self._unit}, {self._left()}")

    def trial_report(self, name: str, images: int, objective: float) -> None:
        """A trial's measurement."""
        self._running[name] = (images, objective)
        better = min if self._mode == "min" else max
        self._best = objective if self._best is None else better(self._best, objective)
        self._line(f"{name}: {images:,} images, objective {objective:.4f} (best {self._best:.4f}), {self._left()}")

    def trial_ended(self, name: str) -> None:
        """A trial left the stage."""
        images, _ = self._running.pop(name, (0, 0.0))
        self._done += 1
        self._line(f"{name}: ended after {images:,} images; {self._done} of {self._total} trials done")

    def note(self, text: str) -> None:
        """Print a line that stays."""
        self.console.print(Text(text))

    def _begin(self, title: str, total: int, unit: str, mode: str = "min", budget: int = 0) -> None:
        self._title, self._total, self._unit, self._done = title, total, unit, 0
        self._running: dict[str, tuple[int, float]] = {}
        self._best: float | None = None
        self._mode, self._budget = mode, budget
        self._started = self._last_line = time.monotonic()

    def _end(self) -> None:
        if self._title:
            self.note(f"{self._title}: done in {span(time.monotonic() - self._started)}")

    def _line(self, text: str) -> None:
        if not self.console.is_terminal:
            self.console.print(Text(text))
            self._last_line = time.monotonic()

    def _left(self) -> str:
        """Time left in this stage, from the share of work done so far."""
        share = self._done / self._total if self._total else 0.0
        if self._budget and self._total:
            share += sum(images / self._budget for images, _ in self._running.values()) / self._total
        spent = time.monotonic() - self._started
        return f"about {span(spent / share - spent)} left" if 0 < share <= 1 else "time left unknown"

    def _view(self) -> Group:
        head = Text(self._title, style="bold")
        if self._total:
            head.append(
                f"  {self._done:,} of {self._total:,} {self._unit}, {len(self._running)} running, {self._left()}"
            )
        if self._best is not None:
            head.append(f"  best so far {self._best:.4f}", style="green")
        table = Table.grid(padding=(0, 2))
        for name, (images, objective) in sorted(self._running.items()):
            table.add_row(f"  {name}", f"{images:,} images", f"{objective:.4f}")
        return Group(head, table)


def span(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3 min 05 s, 2 h 10 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
