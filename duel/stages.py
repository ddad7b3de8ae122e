"""What each stage of a run does: from the files of the stage before it to its own files."""

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import ray

from duel.cluster import Cluster, describe, probe_storage
from duel.config import PARTITIONS, parse_sweep, share
from duel.entrants import SHEET_COLUMNS, drop_states, save_entrants, sparring_of
from duel.errors import DuelError, UsageError
from duel.faces import load_faces, split_faces
from duel.matches import fakes_of, play
from duel.progress import Progress
from duel.report.images import sheet
from duel.report.page import write_report
from duel.rundir import RunFolder, check_same_faces, now
from duel.scores import FEATURE_NETWORK
from duel.seeds import derive
from duel.spent import spent
from duel.standings import leaderboard
from duel.store import Store
from duel.sweep.run import run_sweep, trial_row
from duel.sweep.trial import Job
from duel.sweep.yardsticks import start_yardsticks

LEAST_FACES = 16  # of a partition: fewer make no batch and no score


def faces_cache() -> Path:
    """Where decoded faces are kept between runs: $DUEL_CACHE, else duel in the user's cache folder."""
    if "DUEL_CACHE" in os.environ:
        return Path(os.environ["DUEL_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "duel"


class League:
    """One run of the league. A stage that is done does nothing again; one that was cut off goes on."""

    def __init__(self, run: RunFolder, progress: Progress, max_failures: int):
        self.run, self.progress, self.max_failures = run, progress, max_failures
        self.sweep = parse_sweep(run.data["settings"], str(run.path / "run.json"))
        self.seed = run.data["seed"]
        self.storage = run.data["storage"] or str(run.path.absolute())
        self.work = run.path / "work"
        self.yardsticks: dict[str, ray.ObjectRef] = {}

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
        if cluster.joined:
            self._check_storage(cluster)
        self.cluster = cluster
        self.run.update(hardware=cluster.hardware())
        self.reals = ray.put(self.images)
        del self.images

    def _check_storage(self, cluster: Cluster) -> None:
        """A node that runs trials must read what the driver wrote to the storage, and the other way round."""
        store, token = Store(self.storage), str(derive(self.seed, now()))
        store.write("probe/driver", token.encode())
        read = probe_storage(self.storage, cluster.fit(self.sweep.generators.resources), self.progress.note)
        if read != token or store.read("probe/worker") != token.encode():
            raise UsageError(
                f"--storage {self.storage}: a node of the cluster does not see what this process writes there; trials "
                "need a place that all nodes reach: a shared folder, or a URI such as s3://bucket/duel"
            )
        store.remove("probe")

    def _describe_faces(self, manifest: dict[str, Any], asked: dict[str, int], parts: dict[str, np.ndarray]) -> None:
        got = {name: len(parts[name]) for name in PARTITIONS}
        if min(got.values()) < LEAST_FACES:
            raise UsageError(
                f"--faces {manifest['source']}: {manifest['used']:,} faces are too few: each partition needs"
                f" {LEAST_FACES}; they would be {', '.join(f'{name} {n:,}' for name, n in got.items())}"
            )
        factor = sum(got.values()) / sum(asked.values())
        shrunk = round(factor, 4) if got != asked else None
        skipped = manifest["skipped"]
        self.run.update(faces={**manifest, "partitions": got, "shrunk": shrunk})
        if shrunk is not None:
            self._note(f"the source has fewer faces than the sweep asks for: all partitions shrink to {factor:.1%} "
                       f"({', '.join(f'{name} {n:,}' for name, n in got.items())})")  # fmt: skip
        if skipped:
            names = "; ".join(f"{item['name']} ({item['reason']})" for item in skipped[:5])
            self._note(
                f"{len(skipped):,} images skipped, all listed in run.json: {names}{'; ...' * (len(skipped) > 5)}"
            )

    def measure_yardsticks(self) -> None:
        """KID of noise, of an untrained generator and of reals."""
        if self.run.done("yardsticks"):
            return
        self.progress.stage("yardsticks", 0, "")
        with self.run.stage("yardsticks"):
            self._start_yardsticks()
            self.run.update(yardsticks={name: ray.get(ref) for name, ref in self.yardsticks.items()})

    def _start_yardsticks(self) -> None:
        """While generators train: no trial needs the yardsticks, and the last trials leave cores idle."""
        if not self.yardsticks and not self.run.done("yardsticks"):
            room = self.cluster.fit(self.sweep.generators.resources)
            self.yardsticks = start_yardsticks(
                self.sweep, self.seed, self.storage, self.reals, self.spans["validation"], room
            )

    def run_side(self, side: str) -> None:
        """All trials of one side; its entrants end up in models/."""
        if not self.run.done(f"{side}s"):
            self._sweep(side)
        trials = self.run.read_table("trials.csv")
        # Only now, so that a run killed before its stage was done finds every trial's state.
        drop_states(list(trials[trials["side"] == side]["trial"]), self.storage)

    def _sweep(self, side: str) -> None:
        settings, count = self.sweep.side(side), share(self.run.data["trials_requested"], side)
        room = self.cluster.fit(settings.resources)
        extra = self._sparring(room) if side == "detector" else {}
        job = Job(side, settings, self.sweep.image_size, self.seed, self.storage, room, self.reals, self.spans, **extra)
        self.progress.stage(f"{side} trials", count, "trials", settings.mode, settings.budget.max_images)
        with self.run.stage(f"{side}s") as entry:
            outcomes = run_sweep(job, count, self.run.path, self.max_failures, self.progress,
                                 self._start_yardsticks if side == "generator" else None)  # fmt: skip
            entry.update(spent([outcome.reports for outcome in outcomes]))
            self._write_trials(pd.DataFrame([trial_row(o, settings.objective, FEATURE_NETWORK) for o in outcomes]))
            save_entrants(outcomes, settings.objective, self.sweep.image_size, self.storage, self.run.path)
            for outcome in outcomes:
                if outcome.status == "failed":
                    self._note(f"{outcome.name} failed: {outcome.reason}")
            if not any(outcome.status == "finished" for outcome in outcomes):
                raise DuelError(
                    f"no {side} trial of {count} reached its full budget, so there is no league; "
                    f"the reasons are in {self.run.path / 'trials.csv'}"
                )

    def _sparring(self, room: dict[str, float]) -> dict[str, Any]:
        """Fakes of all generators that finished: to train detectors on, and to validate them on."""
        generators = self.entrants("generator")
        train, validation = (self.spans[name][1] - self.spans[name][0] for name in ("detector_train", "validation"))
        with self.run.stage("sparring fakes"):
            share = -(-validation // len(generators))
            sparring = fakes_of(generators, "sparring", train, self.seed, self.work, room, self.progress)
            checks = fakes_of(generators, "validation", share, self.seed, self.work, room, self.progress)
            mixed = np.concatenate([ray.get(ref) for ref in checks.values()])[:validation]
        return {"sparring": sparring, "validation_fakes": ray.put(mixed)}

    def _write_trials(self, rows: pd.DataFrame) -> None:
        path = self.run.path / "trials.csv"
        if path.exists():
            before = self.run.read_table("trials.csv")
            rows = pd.concat([before[~before["trial"].isin(rows["trial"])], rows], ignore_index=True)
        self.run.write_table("trials.csv", rows)

    def entrants(self, side: str) -> dict[str, Path]:
        """Name -> model folder of the side's trials that finished, by name."""
        trials = self.run.read_table("trials.csv")
        chosen = trials[(trials["side"] == side) & trials["entrant"]]
        return {name: self.run.path / "models" / name for name in sorted(chosen["trial"])}

    def play_matches(self) -> None:
        """Every generator's league fakes against every detector."""
        if self.run.done("matches"):
            return
        generators, detectors = self.entrants("generator"), self.entrants("detector")
        span = self.spans["league"]
        room = self.cluster.fit(self.sweep.detectors.resources)
        with self.run.stage("matches"):
            table = play(generators, detectors, self.reals, span, sparring_of(self.run.path, list(detectors)),
                         self.seed, self.work, room, self.progress)  # fmt: skip
            self.run.write_table("matches.csv", table)

    def rate(self) -> None:
        """matches.csv + trials.csv -> leaderboard.csv."""
        trials = self.run.read_table("trials.csv")
        entrants = trials[trials["entrant"]].rename(columns={"trial": "name"})
        self.run.write_table("leaderboard.csv", leaderboard(self.run.read_table("matches.csv"), entrants))

    def finish(self) -> Path:
        """Mark the run as complete and write its report."""
        self.progress.end()
        self.run.update(status="complete", hardware=describe(self.cluster.joined).hardware())
        return write_report(self.run.path)

    def _note(self, text: str) -> None:
        self.progress.note(text)
        self.run.note(text)
