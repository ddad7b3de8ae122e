"""What each stage of a run does: from the files of the stage before it to its own files."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import ray

from duel.cluster.connection import Cluster, describe, probe_storage
from duel.config import PARTITIONS, parse_sweep, share
from duel.entrants import SHEET_COLUMNS
from duel.errors import UsageError
from duel.faces import load_faces, split_faces
from duel.paths import faces_cache
from duel.progress import Progress
from duel.readings import Ground
from duel.report.images import sheet
from duel.report.page import write_report
from duel.rules.standings import leaderboard
from duel.rundir import RunFolder, check_same_faces, now
from duel.seeds import derive
from duel.store import PROBE, Store, sync
from duel.sweep.job import LEGACIES, STATES
from duel.sweep.yardsticks import FEATURES, start_yardsticks
from duel.tasks import Room, Task
from duel.weather import Weather, parse_weather

LEAST_FACES = 16  # of a partition: fewer make no batch and no score


class League:
    """One run of the league. A stage that is done does nothing again; one that was cut off goes on."""

    def __init__(self, run: RunFolder, progress: Progress, max_failures: int):
        self.run, self.progress, self.max_failures = run, progress, max_failures
        self.sweep = parse_sweep(run.data["settings"], str(run.path / "run.json"), typed=False)
        self.id, self.seed, self.seasons = run.data["id"], run.data["seed"], run.data["seasons"]
        self.weathers = parse_weather(",".join(run.data["weather"])) if run.data["weather"] else []
        self.storage = run.data["storage"] or str(run.path.absolute())
        self.copied: Callable[[], bool] = lambda: True  # see duel.mirror.mirrored
        self.work = run.path / "work"
        self.yardsticks: dict[str, Task] = {}
        self.kept: dict[str, ray.ObjectRef] = {}  # what several seasons use, in the object store

    def load_faces(self) -> None:
        """Real faces -> one array, ordered by partition. Needs no Ray."""
        run, sizes = self.run, self.sweep.faces.sizes()
        self.progress.stage("faces", sum(sizes.values()), "faces")
        with run.stage("faces"):
            faces = load_faces(
                run.data["faces"]["source"],
                self.sweep.image_size,
                sum(sizes.values()),
                self.seed,
                faces_cache(),
                on_progress=lambda done, total: self.progress.advance(done),
            )
            check_same_faces(run, faces.manifest.fingerprint)
            parts = split_faces(faces.groups, sizes, derive(self.seed, "split"))
            self._describe_faces(faces.manifest.as_dict(), sizes, parts)
            self.images = faces.images[np.concatenate([parts[name] for name in PARTITIONS])]
        ends = np.cumsum([0, *(len(parts[name]) for name in PARTITIONS)]).tolist()
        self.spans = dict(zip(PARTITIONS, itertools.pairwise(ends), strict=True))
        start = self.spans["validation"][0]
        run.path.joinpath("fakes").mkdir(exist_ok=True)
        shown = self.images[start : start + SHEET_COLUMNS**2]
        sheet(shown, SHEET_COLUMNS, run.path / "fakes" / "reals.png")
        self.progress.end()

    def join(self, cluster: Cluster) -> None:
        """Put the faces into the cluster's object store, once. UsageError where trials could keep no state."""
        if cluster.joined or self.run.data["storage"]:
            self._check_storage(cluster)
        self.cluster = cluster
        self.run.update(hardware=cluster.hardware())
        self.reals = ray.put(self.images)
        del self.images

    def _check_storage(self, cluster: Cluster) -> None:
        """A node that runs trials must read what the driver wrote to the storage, and the other way round."""
        store, token = Store(self.storage, patience=0), str(derive(self.seed, now()))
        try:
            store.write(f"{PROBE}/driver", token.encode())
            try:
                read = probe_storage(self.storage, cluster.fit(self.sweep.generators.resources), self.progress.note)
                seen = read == token and store.read(f"{PROBE}/worker") == token.encode()
            finally:
                store.remove(PROBE)
        except OSError as error:
            raise UsageError(f"--storage {self.storage}: can't be written to and read: {error}") from None
        if not seen:
            raise UsageError(
                f"--storage {self.storage}: a node of the cluster does not see what this process writes there; trials "
                "need a place that all nodes reach: a shared folder, or a URI such as s3://bucket/duel"
            )

    def _describe_faces(self, manifest: dict[str, Any], asked: dict[str, int], parts: dict[str, np.ndarray]) -> None:
        got = {name: len(parts[name]) for name in PARTITIONS}
        if min(got.values()) < LEAST_FACES:
            raise UsageError(
                f"--faces {manifest['source']}: {manifest['used']:,} faces are too few: each partition needs"
                f" {LEAST_FACES}; they would be {', '.join(f'{name} {n:,}' for name, n in got.items())}"
            )
        factor = sum(got.values()) / sum(asked.values())
        shrunk = round(factor, 4) if got != asked else None
        notes = _archives(manifest)
        if shrunk is not None:
            notes.append(f"the source has fewer faces than the sweep asks for: all partitions shrink to {factor:.1%} "
                         f"({', '.join(f'{name} {n:,}' for name, n in got.items())})")  # fmt: skip
        if skipped := manifest["skipped"]:
            names = "; ".join(f"{item['name']} ({item['reason']})" for item in skipped[:5])
            more = "; ..." * (len(skipped) > 5)
            notes.append(f"{len(skipped):,} images skipped, all listed in run.json: {names}{more}")
        # All notes that are kept are about the faces. In place of an earlier session's: what they say may have changed.
        self.run.update(faces={**manifest, "partitions": got, "shrunk": shrunk}, notes=notes)
        for note in notes:
            self.progress.note(note)

    def measure_yardsticks(self) -> None:
        """KID of noise, of an untrained generator and of reals."""
        if self.run.done("yardsticks"):
            return
        self.progress.stage("yardsticks", 0, "")
        with self.run.stage("yardsticks"):
            self.start_yardsticks()
            self.run.update(yardsticks={name: task.result() for name, task in self.yardsticks.items()})

    def start_yardsticks(self) -> None:
        """While generators train: no trial needs the yardsticks, and the last trials leave cores idle."""
        if not self.yardsticks and not self.run.done("yardsticks"):
            room = self.cluster.fit(self.sweep.generators.resources)
            self.yardsticks = start_yardsticks(
                self.sweep, self.seed, self.storage, self.id, self.reals, self.spans["validation"], room,
                self.progress.note,
            )  # fmt: skip

    def write_trials(self, name: str, rows: pd.DataFrame) -> None:
        """Add rows to trials.csv or twins.csv, in place of those of the same trials."""
        if (self.run.path / name).exists():
            before = self.run.read_table(name)
            rows = pd.concat([before[~before["trial"].isin(rows["trial"])], rows], ignore_index=True)
        self.run.write_table(name, rows)

    def trials(self, side: str, until: int | None = None) -> pd.DataFrame:
        """The rows of trials.csv of the side's entrants, of all seasons or up to one, best first."""
        if not (self.run.path / "trials.csv").exists():
            return pd.DataFrame(columns=["trial", "season", "family", "objective"])
        table = self.run.read_table("trials.csv")
        chosen = table[(table["side"] == side) & table["entrant"] & (table["season"] <= (until or self.seasons))]
        lowest = self.sweep.side(side).mode == "min"
        return chosen.sort_values(["objective", "trial"], ascending=[lowest, True], ignore_index=True)

    def entrants(self, side: str, until: int | None = None) -> dict[str, Path]:
        """Name -> model folder of the side's trials that finished, by season and name."""
        table = self.trials(side, until).sort_values(["season", "trial"])
        return {name: self.model(name) for name in table["trial"]}

    def names_in(self, table: str, side: str, season: int) -> list[str]:
        """The trials of a side and season in trials.csv or twins.csv, but for those of families left out."""
        if not (self.run.path / table).exists():
            return []
        rows = self.run.read_table(table)
        if "kind" in rows:
            rows = rows[~rows["kind"].str.startswith("without-")]
        return list(rows[(rows["side"] == side) & (rows["season"] == season)]["trial"])

    def families(self) -> dict[str, str]:
        """The family of every generator that is an entrant."""
        table = self.trials("generator")
        return dict(zip(table["trial"], table["family"], strict=True))

    def model(self, name: str) -> Path:
        """The folder of an entrant's or a twin's model."""
        return self.run.model(name)

    def forget_states(self, trials: list[str]) -> None:
        """Delete what only an unfinished trial needs, once what was made of it is on the disk and on the storage.

        Trials whose states are gone already may be among them. Where the storage is away, the states stay for now.
        """
        if not trials:
            return
        for folder in (self.run.path / "models", self.run.path):
            if folder.exists():
                sync(folder)
        self._remove([f"{STATES}/{name}" for name in trials])

    def _remove(self, names: list[str]) -> None:
        """From the storage, once the copy there is up to date."""
        if not self.copied():
            return
        try:
            store = Store(self.storage)
            for name in names:
                store.remove(name)
        except OSError as error:
            self.progress.note(f"{self.storage}: what is no longer needed can't be removed: {error}")

    def trial_room(self, side: str) -> Room:
        """What each trial of a side reserves; a twin too, which differs from its entrant in one thing alone."""
        return self.cluster.fit_trials(self.sweep.side(side), share(self.run.data["trials_requested"], side))

    def ground(self, purpose: str = "league", weather: Weather | None = None, title: str = "matches") -> Ground:
        """The images of the league, or the validation images, for detectors to read."""
        span = self.spans["league" if purpose == "league" else "validation"]
        room = self.cluster.fit(self.sweep.detectors.resources)
        return Ground(self.reals, span, self.seed, self.work, room, self.progress, purpose, weather, title)

    def rate(self) -> None:
        """matches.csv + trials.csv, and guard.csv once it is there -> leaderboard.csv."""
        trials, guard = self.run.read_table("trials.csv"), None
        if (self.run.path / "guard.csv").exists():
            guard = self.run.read_table("guard.csv")
        entrants = trials[trials["entrant"]].rename(columns={"trial": "name"})
        self.run.write_table("leaderboard.csv", leaderboard(self.run.read_table("matches.csv"), entrants, guard))

    def finish(self) -> Path:
        """Mark the run as complete and write its report."""
        self.progress.end()
        self._remove([LEGACIES, STATES, *([FEATURES] if self.run.data.get("storage") else [])])
        (self.run.path / "index.html").unlink(missing_ok=True)  # after an earlier season, it says that the run goes on
        self.run.update(status="complete", hardware=describe(self.cluster.joined).hardware())
        report = write_report(self.run.path)
        self.run.forget_failure()
        return report


def _archives(manifest: dict[str, Any]) -> list[str]:
    """What to tell of a folder whose images are in archives, or that has some beside its images."""
    read, passed_over = manifest.get("archives", []), manifest.get("passed_over", [])
    notes = [f"the images are from {_first_of(read)} in {manifest['source']}"] if read else []
    return [*notes, f"not read: {_first_of(passed_over)}"] if passed_over else notes


def _first_of(names: list[str]) -> str:
    return ", ".join(names[:3]) + f" and {len(names) - 3:,} more" * (len(names) > 3)
