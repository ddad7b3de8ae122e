"""What is measured once all seasons are over: twins' matches, families left out, cheap wins, and other weather."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import ray

from duel.device import claimed
from duel.entrants import sparring_of
from duel.guard import Reference, guard_row, mark, reference
from duel.matches import in_weather, play
from duel.metrics import feature_network
from duel.readings import Span, batches, read_all
from duel.rules.standings import best_of_each, leave_one_out
from duel.season import chosen_of, sparring_fakes, train_twins
from duel.stages import League
from duel.sweep.job import Job, States
from duel.sweep.yardsticks import real_features
from duel.tasks import Room, Task, places_for, sized
from duel.weather import Weather


def leave_families_out(league: League) -> None:
    """Train the best detectors' designs again, each time without one family's fakes: twins `without-FAMILY`."""
    families = sorted(set(league.families().values()))
    settings, stage = league.sweep.detectors, "families left out"
    if league.run.done(stage) or len(families) < 2 or not settings.leave_family_out:
        return
    sparring = sparring_fakes(league, league.seasons, "sparring fakes of all seasons")
    job = Job("detector", settings, league.sweep.image_size, league.seed, league.storage, league.id,
              league.trial_room("detector"), league.reals, league.spans, league.seasons, **sparring)  # fmt: skip
    table = league.trials("detector")
    best = best_of_each(table[table["season"] == league.seasons])  # another season's AUC is of other fakes
    designs = list(dict.fromkeys(first_of_line(league, name) for name in best))[: settings.leave_family_out]
    configs = [without(family, name, chosen_of(league, name)) for name in designs for family in families]
    train_twins(league, job, configs, stage)
    league.forget_states([config["name"] for config in configs])


def first_of_line(league: League, name: str) -> str:
    """The entrant that began what `name` goes on with; a design is its settings."""
    parent = chosen_of(league, name)["parent"]
    return first_of_line(league, parent) if parent else name


def without(family: str, name: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """The config of a detector's design that never sees a generator family."""
    kind, settings = f"without-{family}", {**chosen["settings"], "sparring": "all"}
    return {**chosen, "settings": settings, "name": f"{name}.{kind}", "twin_of": name, "kind": kind}


def play_twins(league: League) -> None:
    """Twins against all entrants of the other side: twin_matches.csv and, from it, leave_one_out.csv."""
    if league.run.done("twins' matches") or not (league.run.path / "twins.csv").exists():
        return
    twins = league.run.read_table("twins.csv")
    twins = twins[twins["status"] == "finished"]
    folders = {name: league.model(name) for name in twins["trial"]}
    sides = {side: {n: folders[n] for n in twins[twins["side"] == side]["trial"]} for side in ("generator", "detector")}
    entrants = {side: league.entrants(side) for side in sides}
    families = {**league.families(), **dict(zip(twins["trial"], twins["family"], strict=True))}
    ground = league.ground(title="twins' matches")
    with league.run.stage("twins' matches"):
        tables = []
        for a, b in ((sides["generator"], entrants["detector"]), (entrants["generator"], sides["detector"])):
            if a and b:
                tables.append(play(a, b, sparring_of(league.run.path, list(b)), families, ground))
        if tables:
            table = pd.concat(tables, ignore_index=True)
            league.run.write_table("twin_matches.csv", table)
            left_out = leave_one_out(table, twins, league.families())
            if len(left_out):
                league.run.write_table("leave_one_out.csv", left_out)


def replay_in(league: League, weathers: list[Weather]) -> None:
    """The league's matches again with all images changed: columns accuracy_WEATHER of matches.csv."""
    for weather in weathers:
        stage = f"weather {weather.name}"
        if league.run.done(stage):
            continue
        ground = league.ground(weather=weather, title=stage)
        with league.run.stage(stage):
            read_all(league.entrants("generator"), league.entrants("detector"), ground)
            table = league.run.read_table("matches.csv")
            table[f"accuracy_{weather.name}"] = in_weather(table, ground)
            league.run.write_table("matches.csv", table)


def guard(league: League) -> None:
    """Precision, recall, density, coverage, copies and mark of every generator, on league fakes: guard.csv."""
    if league.run.done("guard"):
        return
    table, room = league.trials("generator"), league.cluster.fit(league.sweep.generators.resources)
    league.progress.stage("guard", len(table), "generators")
    with league.run.stage("guard"):
        measure, note = sized(_guarded, room).remote, league.progress.note
        whose = league.storage, league.id
        known = Task(partial(sized(_reference, room).remote, league.reals, league.spans, *whose, room), note)
        known.result()
        rows: list[dict[str, Any]] = []
        for names in batches(list(table["trial"]), places_for(room) + 1):
            tasks = [Task(partial(measure, _some_fakes(league, name), known.ref, room), note) for name in names]
            rows += [{"name": name, **task.result()} for name, task in zip(names, tasks, strict=True)]
            del tasks  # and with them the fakes, before others are put beside them
            league.progress.advance(len(rows))
        bounds, noise = league.sweep.guard, league.run.data["yardsticks"]["kid_noise"]
        for row, kid in zip(rows, table["objective"], strict=True):
            row["mark"] = mark(kid, noise, row["copies"], bounds.kid_share, bounds.copies)
        league.run.write_table("guard.csv", pd.DataFrame(rows))


def _some_fakes(league: League, name: str) -> ray.ObjectRef:
    """As many of a generator's league fakes as there are validation reals to compare them with."""
    start, end = league.spans["validation"]
    fakes = np.load(league.ground().fakes.path(name), mmap_mode="r")
    return ray.put(np.asarray(fakes[: end - start]))


def _reference(reals: np.ndarray, spans: dict[str, Span], storage: str, run: str, room: Room) -> Reference:
    with claimed(room) as device:
        network = feature_network(device=device)
        real, train = (reals[slice(*spans[name])] for name in ("validation", "generator_train"))
        return reference(real_features(States(storage, run), network, real, device), real, train, device)


def _guarded(fakes: np.ndarray, known: Reference, room: Room) -> dict[str, float]:
    with claimed(room) as device:
        return guard_row(fakes, known, feature_network(device=device), device)
