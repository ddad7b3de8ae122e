"""Generators' fakes and real faces, read by detectors on Ray: fakes once a generator, each pair once.

Everything is written to the run's work folder as soon as it is there, and read from it when a run is resumed.

Memory does not grow with the number of generators or detectors. The detectors play in blocks of BLOCK. Within a
block few generators are at play at once: one more than keeps every place for a task busy, so that the next one's
fakes are made while the others' are read. Ray's object store then holds, beside the reals,

    (at play + 1) x (one generator's fakes and model) + (models of a block)

where (at play) = 1 + ceil(places / tasks a generator), and places = tasks that fit the cluster at once: 2 on two
cores. One more than are at play, as Ray gives an array's memory back some time after its last reference has gone
(`python tests/bench mission_league` measures it). The driver holds no fakes: it passes them from the store to their
file and, on resume, back.

In weather images are changed once a block, in tasks that need no GPU, and each set at play counts twice: changed, and
as it was, so that Ray can change it again where a node is lost. A GPU reads a set sooner than a core changes one: AHEAD
more are at play for it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import ray
import torch

from duel.checkpoint import load_model
from duel.device import claimed
from duel.models.inference import make_fakes, predict_each
from duel.progress import Watch
from duel.seeds import derive
from duel.store import write_array
from duel.tasks import Note, Room, Task, ends_processes, places_for, sized
from duel.weather import Weather, change

Span = tuple[int, int]  # first and last + 1 row of an array

READERS = 4  # detectors a task, at most: images reach a GPU once for all of them; a kill loses so many readings a place
BLOCK = 16  # detectors whose models are in the object store at once
AHEAD = 2  # sets more at play in weather that a GPU reads: a core takes 2 to 5 s to change 15,000 images of 64x64
CORE: Room = {"cpu": 1, "gpu": 0.0}  # what changing images reserves: it is all done on one
REALS = "reals"  # in the place of a generator's name


def _make_fakes(generator: torch.nn.Module, count: int, seed: int, room: Room) -> np.ndarray:
    with claimed(room) as device:
        return make_fakes(generator.to(device), count, seed, device)


def _change(images: np.ndarray, span: Span, weather: Weather, seed: int) -> np.ndarray:
    with claimed(CORE):
        return change(images[slice(*span)], weather, seed)


def _score(images: np.ndarray, span: Span, room: Room, *detectors: torch.nn.Module) -> np.ndarray:
    with claimed(room) as device:
        return predict_each([d.to(device) for d in detectors], images[slice(*span)], device)


class _Tasks:
    """Tasks at work, each with what is to be done with its result."""

    def __init__(self) -> None:
        self._then: dict[ray.ObjectRef, tuple[Task, Callable[[Task], None]]] = {}

    def __len__(self) -> int:
        return len(self._then)

    def add(self, task: Task, then: Callable[[Task], None]) -> None:
        self._then[task.ref] = task, then

    def settle(self) -> None:
        """Wait until a task has ended and do what follows."""
        done, _ = ray.wait(list(self._then), num_returns=1)
        task, then = self._then.pop(done[0])
        then(task)


@dataclass(frozen=True)
class _Fakes:
    """How the fakes for one purpose are made, and where they are kept."""

    purpose: str
    count: int
    seed: int
    work: Path
    room: Room
    note: Note

    def path(self, name: str) -> Path:
        return self.work / "fakes" / self.purpose / f"{name}.npy"

    def make(self, name: str, folder: Path) -> Task:
        seed, task = derive(self.seed, "fakes", self.purpose, name), sized(_make_fakes, self.room)
        return Task(lambda: task.remote(load_model(folder)[0], self.count, seed, self.room), self.note)

    def keep(self, name: str, task: Task) -> None:
        write_array(self.path(name), task.result())

    def kept(self, name: str) -> ray.ObjectRef:
        """From the file to the object store, without a stop in this process: Ray copies a plain array's pages."""
        return ray.put(np.asarray(np.load(self.path(name), mmap_mode="r")))


@dataclass(frozen=True)
class Ground:
    """What is read for one purpose, and where the answers go.

    reals, span: the array of all reals and the rows of it that are read. purpose: 'league' or 'scouting'; noise is
    drawn anew for each purpose. weather: what happens to all images before they are read. title: for the watch.
    """

    reals: ray.ObjectRef
    span: Span
    seed: int
    work: Path
    room: Room
    watch: Watch
    purpose: str = "league"
    weather: Weather | None = None
    title: str = "matches"

    @property
    def fakes(self) -> "_Fakes":
        """How the fakes are made: the same in every weather."""
        return _Fakes(self.purpose, self.span[1] - self.span[0], self.seed, self.work, self.room, self.watch.note)

    def answers(self, detector: str, images: str) -> Path:
        """The file of P(fake), float32 [N], of a detector on a generator's fakes or on REALS."""
        folder = self.work / ("scores" if self.purpose == "league" else self.purpose)
        if self.weather:
            folder = self.work / "weather" / self.weather.name
        return folder / detector / f"{images}.npy"


def fakes_of(generators: dict[str, Path], purpose: str, count: int, seed: int, work: Path,
             room: Room, watch: Watch) -> dict[str, ray.ObjectRef]:  # fmt: skip
    """`count` fakes of every generator in Ray's object store, all at once, as uint8 [count, 3, S, S].

    generators: name -> folder of its model. purpose: what they are for ('sparring', 'validation', 'league');
    noise is drawn anew for each purpose and generator, so that no two purposes share a fake.
    """
    fakes, tasks, refs = _Fakes(purpose, count, seed, work, room, watch.note), _Tasks(), {}
    watch.stage(f"fakes for {purpose}", len(generators), "generators")

    def keep(name: str, task: Task) -> None:
        fakes.keep(name, task)
        refs[name] = task.ref
        watch.advance(len(refs))

    for name, folder in generators.items():
        if fakes.path(name).exists():
            refs[name] = fakes.kept(name)
            continue
        while len(tasks) > places_for(room):
            tasks.settle()
        tasks.add(fakes.make(name, folder), partial(keep, name))
    while tasks:
        tasks.settle()
    return {name: refs[name] for name in generators}


def read_all(generators: dict[str, Path], detectors: dict[str, Path], ground: Ground) -> None:
    """Have every detector's answers on the reals and on every generator's fakes on disk; see Ground.answers.

    generators, detectors: name -> folder of the model. Each generator makes as many fakes as there are reals.
    """
    ground.watch.stage(ground.title, len(detectors) * (1 + len(generators)), "readings")
    done = 0
    for block in batches(list(detectors), BLOCK):
        models = {name: ray.put(load_model(detectors[name])[0]) for name in block}
        done = _Block(ground, generators, models, done).read()


class _Block:
    """Some detectors read the reals and every generator's fakes; each reading ends up in a file."""

    def __init__(self, ground: Ground, generators: dict[str, Path], models: dict[str, ray.ObjectRef], done: int):
        self.ground, self.fakes, self.generators, self.models = ground, ground.fakes, generators, models
        self.done, self.tasks = done, _Tasks()
        self.readers, at_play = schedule(len(models), places_for(ground.room), ends_processes(ground.room))
        self.at_play = at_play + (AHEAD if ground.weather and ground.room["gpu"] else 0)
        self.left: dict[str, int] = {}  # what is being made, changed or read -> readings to come
        self.changes: dict[str, Task] = {}  # what is at play -> its change by weather, which holds the images before it

    def read(self) -> int:
        """Have all readings on disk; returns how many the league has by now."""
        for images in (REALS, *self.generators):
            todo = [d for d in self.models if not self.ground.answers(d, images).exists()]
            self._count(len(self.models) - len(todo))
            if todo:
                while len(self.left) >= self.at_play:
                    self.tasks.settle()
                self._begin(images, todo)
        while self.tasks:
            self.tasks.settle()
        return self.done

    def _begin(self, images: str, detectors: list[str]) -> None:
        self.left[images] = len(detectors)
        if images == REALS:
            self._show(images, detectors, self.ground.reals, self.ground.span)
        elif self.fakes.path(images).exists():
            self._show(images, detectors, self.fakes.kept(images), (0, self.fakes.count))
        else:
            self.tasks.add(self.fakes.make(images, self.generators[images]), partial(self._made, images, detectors))

    def _made(self, generator: str, detectors: list[str], task: Task) -> None:
        # To their file before anyone reads them: a resumed run goes on with the very same fakes.
        self.fakes.keep(generator, task)
        self._show(generator, detectors, task.ref, (0, self.fakes.count))

    def _show(self, images: str, detectors: list[str], ref: ray.ObjectRef, span: Span) -> None:
        """Have the images read, first changed if there is weather: once for all detectors, while others are read."""
        ground = self.ground
        if ground.weather is None:
            self._read(images, detectors, ref, span)
            return
        seed = derive(ground.seed, "weather", images)
        submit = partial(sized(_change, CORE).remote, ref, span, ground.weather, seed)
        self.changes[images] = Task(submit, ground.watch.note)
        self.tasks.add(self.changes[images], partial(self._changed, images, detectors))

    def _changed(self, images: str, detectors: list[str], task: Task) -> None:
        task.result()
        self._read(images, detectors, task.ref, (0, self.fakes.count))

    def _read(self, images: str, detectors: list[str], ref: ray.ObjectRef, span: Span) -> None:
        for names in batches(detectors, self.readers):
            models = [self.models[name] for name in names]
            room, note = self.ground.room, self.ground.watch.note
            submit = partial(sized(_score, room).remote, ref, span, room, *models)
            self.tasks.add(Task(submit, note), partial(self._scored, images, names))

    def _scored(self, images: str, detectors: list[str], task: Task) -> None:
        for name, probs in zip(detectors, task.result(), strict=True):
            write_array(self.ground.answers(name, images), probs)
        self.left[images] -= len(detectors)
        if not self.left[images]:
            del self.left[images]
            self.changes.pop(images, None)
        self._count(len(detectors))

    def _count(self, readings: int) -> None:
        self.done += readings
        self.ground.watch.advance(self.done)


def schedule(detectors: int, places: int, ends: bool = False) -> tuple[int, int]:
    """Detectors a task, and generators at play: one more than keeps every place for a task busy.

    ends: every task costs a process of its own, so that they should be few and large.
    """
    readers = min(READERS, detectors if ends else -(-detectors // places))
    tasks = -(-detectors // readers)
    return readers, 1 + -(-places // tasks)


def batches(names: list[str], size: int) -> Iterator[list[str]]:
    """The names, `size` at a time."""
    return (names[start : start + size] for start in range(0, len(names), size))
