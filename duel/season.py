"""One season of the league: generator trials, then detector trials that train on their fakes, then new matches.

From season 2 on trials start from earlier entrants and compete with them (see duel.rules.pfsp), and the best are
trained again without competing, as twins that show what competing added.
"""

import json
from typing import Any

import pandas as pd
import ray

from duel.checkpoint import load_model
from duel.config import share
from duel.entrants import save_entrants, sparring_of
from duel.errors import DuelError
from duel.families import TWINS
from duel.matches import play, scout
from duel.readings import fakes_of
from duel.report.page import write_report
from duel.rules.scores import FEATURE_NETWORK
from duel.spent import spent
from duel.stages import League
from duel.sweep.job import Job
from duel.sweep.run import Outcome, run_sweep, run_twins, trial_row
from duel.sweep.space import Parent


class Season:
    """Season `number` of a league. A stage that is done does nothing again; one that was cut off goes on."""

    def __init__(self, league: League, number: int):
        self.league, self.number, self.run = league, number, league.run

    def play(self) -> None:
        """Every stage of the season, in order."""
        if self.number > 1:
            self._scout("before the generators", self.number - 1)
        self._side("generator")
        if self.number > 1:
            self._scout("before the detectors", self.number)
        else:
            self.league.measure_yardsticks()
        self._side("detector")
        self._matches()

    def _stage(self, name: str) -> str:
        return name if self.number == 1 else f"season {self.number}: {name}"

    def _side(self, side: str) -> None:
        """All trials of one side, its twins, and their models in models/."""
        trials, twins = self._stage(f"{side}s"), self._stage(f"{side} twins")
        job: Job | None = None
        if not self.run.done(trials):
            job = self._job(side)
            self._sweep(job, trials)
        if self.number > 1 and self.league.sweep.side(side).later_seasons.twins and not self.run.done(twins):
            self._twins(job or self._job(side), twins)
        # Only now, so that a run killed before its stage was done finds every trial's state.
        for table in ("trials.csv", "twins.csv"):
            self.league.forget_states(self.league.names_in(table, side, self.number))

    def _job(self, side: str) -> Job:
        league, settings = self.league, self.league.sweep.side(side)
        sweep = settings.model_copy(update={"budget": settings.budget_in(self.number)})
        rivalry: dict[str, Any] = {"elders": self._elders(), "caught": self._caught()} if self.number > 1 else {}
        sparring = sparring_fakes(league, self.number, self._stage("sparring fakes")) if side == "detector" else {}
        return Job(
            side, sweep, league.sweep.image_size, league.seed, league.storage, league.id, league.trial_room(side),
            league.reals, league.spans, self.number, self.number < league.seasons, **sparring, **rivalry,
        )  # fmt: skip

    def _elders(self) -> dict[str, ray.ObjectRef]:
        kept, folders = self.league.kept, self.league.entrants("detector", self.number - 1)
        kept.update({name: ray.put(load_model(folder)[0]) for name, folder in folders.items() if name not in kept})
        return {name: kept[name] for name in folders}

    def _sweep(self, job: Job, stage: str) -> None:
        league, side = self.league, job.side
        count = share(self.run.data["trials_requested"], side)
        league.progress.stage(
            self._stage(f"{side} trials"), count, "trials", job.sweep.mode, job.sweep.budget.max_images
        )
        at_work = league.start_yardsticks if stage == "generators" else None
        with self.run.stage(stage) as entry:
            outcomes = run_sweep(job, self._parents(side) if self.number > 1 else [], count, self.run.path,
                                 league.max_failures, league.progress, at_work)  # fmt: skip
            keep(league, outcomes, job, "trials.csv", entry)
            if not any(outcome.status == "finished" for outcome in outcomes):
                after = "so there is no league" if self.number == 1 else "so the league ends with the season before"
                raise DuelError(
                    f"no {side} trial of {count} reached its full budget in season {self.number}, {after}; "
                    f"the reasons are in {self.run.path / 'trials.csv'}"
                )

    def _parents(self, side: str) -> list[Parent]:
        """The better half of the entrants so far.

        Detectors go by their scouting, as an AUC of an earlier season is of fewer and easier fakes than a later one's.
        """
        table = self.league.trials(side, self.number - 1)
        if side == "detector":
            strength = self.run.read_table("scouting.csv").groupby("detector")["accuracy"].mean()
            table = table.assign(strength=table["trial"].map(strength))
            table = table.sort_values("strength", ascending=False, kind="stable")
        best = table["trial"].head(-(-len(table) // 2))
        return [Parent(name, (c := chosen_of(self.league, name))["family"], c["settings"]) for name in best]

    def _twins(self, job: Job, stage: str) -> None:
        """Train the season's best again, each with one part of competing switched off."""
        league, side = self.league, job.side
        table = league.trials(side, self.number)
        names = table[table["season"] == self.number]["trial"].head(job.sweep.later_seasons.twins)
        configs = [twin(name, kind, chosen_of(league, name)) for name in names for kind in TWINS[side]]
        train_twins(league, job, configs, stage)

    def _scout(self, when: str, until: int) -> None:
        """What earlier detectors catch of the generators up to season `until`, on validation images: scouting.csv."""
        stage = self._stage(f"scouting {when}")
        if self.run.done(stage):
            return
        ground = self.league.ground("scouting", title=stage)
        with self.run.stage(stage):
            generators = self.league.entrants("generator", until)
            table = scout(generators, self.league.entrants("detector", self.number - 1), ground)
            self.run.write_table("scouting.csv", table)

    def _caught(self) -> dict[str, dict[str, float]]:
        table = self.run.read_table("scouting.csv")
        return {
            str(g): dict(zip(rows["detector"], rows["caught"], strict=True)) for g, rows in table.groupby("generator")
        }

    def _matches(self) -> None:
        """All generators so far against all detectors so far; pairs that have met keep their answers."""
        stage, league = self._stage("matches"), self.league
        if self.run.done(stage):
            return
        generators, detectors = (league.entrants(side, self.number) for side in ("generator", "detector"))
        with self.run.stage(stage):
            table = play(generators, detectors, sparring_of(self.run.path, list(detectors)), league.families(),
                         league.ground(title=stage))  # fmt: skip
            self.run.write_table("matches.csv", table)
            league.rate()
            if self.number < league.seasons:
                write_report(self.run.path)


def sparring_fakes(league: League, season: int, stage: str) -> dict[str, Any]:
    """Fakes of all generators so far, to train detectors on and to validate them on, and who these generators are.

    They stay in the object store, and are put there once: Tune never lets go of what a trial was given.
    """
    generators, known = league.entrants("generator", season), league.trials("generator", season)
    room = league.cluster.fit(league.sweep.detectors.resources)
    train, validation = (league.spans[name][1] - league.spans[name][0] for name in ("detector_train", "validation"))
    refs: dict[str, dict[str, ray.ObjectRef]] = {}
    with league.run.stage(stage):
        for purpose, count in {"sparring": train, "validation": -(-validation // len(generators))}.items():
            new = {name: folder for name, folder in generators.items() if f"{purpose}/{name}" not in league.kept}
            made = fakes_of(new, purpose, count, league.seed, league.work, room, league.progress) if new else {}
            league.kept.update({f"{purpose}/{name}": ref for name, ref in made.items()})
            refs[purpose] = {name: league.kept[f"{purpose}/{name}"] for name in generators}
    lineup = {name: (int(s), f) for name, s, f in zip(known["trial"], known["season"], known["family"], strict=True)}
    return {"sparring": refs["sparring"], "validation_fakes": refs["validation"], "lineup": lineup}


def chosen_of(league: League, name: str) -> dict[str, Any]:
    """What an entrant's trial was drawn as: family, settings, parent and how it competed."""
    return json.loads((league.model(name) / "metrics.json").read_text(encoding="utf-8"))["trial"]


def twin(name: str, kind: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """The config of an entrant's twin."""
    season = {**chosen["season"], "evasion": 0.0} if kind == "no-evasion" else chosen["season"]
    return {**chosen, "season": season, "name": f"{name}.{kind}", "twin_of": name, "kind": kind}


def train_twins(league: League, job: Job, configs: list[dict[str, Any]], stage: str) -> None:
    """Train twins, each for its whole budget; they end up in models/ and twins.csv, but never in the league."""
    if not configs:
        return
    league.progress.stage(stage, len(configs), "trials", job.sweep.mode, job.sweep.budget.max_images)
    with league.run.stage(stage) as entry:
        outcomes = run_twins(job, configs, stage, league.run.path, league.max_failures, league.progress)
        keep(league, outcomes, job, "twins.csv", entry)


def keep(league: League, outcomes: list[Outcome], job: Job, table: str, entry: dict[str, Any]) -> None:
    """Ended trials to their table, their models to models/, their time to the stage's entry in run.json."""
    entry.update(spent([outcome.reports for outcome in outcomes]))
    rows = [trial_row(outcome, job.sweep.objective, FEATURE_NETWORK) for outcome in outcomes]
    league.write_trials(table, pd.DataFrame(rows))
    save_entrants(outcomes, job, league.run.path)
    for outcome in outcomes:
        if outcome.status == "failed":
            # Not kept as a note: the report has it from the table, which a resumed run may write anew.
            league.progress.note(f"{outcome.name} failed: {outcome.reason}")
