"""The search as Ray Tune drives it: what is suggested follows from scores and seed, not from timing or restarts."""

import numpy as np
import optuna
import pytest
from league_runs import ROOT, TINY

from duel.config import load_sweep
from duel.sweep.search import Ledger, OrderedHalving, OrderedSearch
from duel.sweep.space import SearchSpace

COUNT = 12
MISSION = ROOT / "sweeps" / "mission.yaml"


class Trial:
    """As much of Tune's trial as the scheduler looks at."""

    def __init__(self, config: dict):
        self.config = config


class Simulation:
    """A searcher and a scheduler, and trials whose scores follow from their settings."""

    def __init__(self, storage: optuna.storages.BaseStorage, seed: int = 0, concurrent: int = 3):
        sweep = load_sweep(TINY).generators
        self.side = sweep.model_copy(update={"max_concurrent": concurrent, "startup_trials": 4})
        self.ledger = Ledger(self.side)
        self.search = OrderedSearch(SearchSpace("generator", self.side), COUNT, self.ledger, storage, seed)
        self.scheduler = OrderedHalving(self.ledger)
        self.running: dict[str, dict] = {}
        self.asked: list[dict] = []

    def ask(self) -> bool:
        config = self.search.suggest(f"id{len(self.asked)}")
        if config is None:
            return False
        self.running[f"id{len(self.asked)}"] = {"config": config, "mark": 0}
        self.asked.append(config)
        return True

    def advance(self, trial_id: str, fails: set[int] = frozenset()) -> None:
        """One more report of a running trial."""
        trial = self.running[trial_id]
        trial["mark"] += 256
        number = trial["config"]["number"]
        failed = number in fails
        score = (
            self.side.worst if failed else abs(trial["config"]["settings"]["lr_generator"] - 4e-4) + 1 / trial["mark"]
        )
        done = failed or trial["mark"] == self.side.budget.max_images
        result = {"mark": trial["mark"], "images": trial["mark"], "objective": score, "done": done}
        stop = done or self.scheduler.on_trial_result(None, Trial(trial["config"]), result) == "STOP"
        if stop:
            self.scheduler.on_trial_complete(None, Trial(trial["config"]), result)
            self.search.on_trial_complete(trial_id, result)
            del self.running[trial_id]

    def run(self, pick, steps: int = 10_000, fails: set[int] = frozenset()) -> list[dict]:
        """Ask whenever possible; let `pick` choose which running trial reports next."""
        for _ in range(steps):
            while len(self.running) < self.side.max_concurrent and self.ask():
                pass
            if not self.running:
                break
            self.advance(pick(sorted(self.running)), fails)
        return self.asked


def memory() -> optuna.storages.BaseStorage:
    return optuna.storages.InMemoryStorage()


ORDERS = {"first": lambda ids: ids[0], "last": lambda ids: ids[-1], "middle": lambda ids: ids[len(ids) // 2]}


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.parametrize("order", ORDERS)
def test_who_is_first_does_not_matter(order):
    reference, other = Simulation(memory()), Simulation(memory())
    expected = reference.run(ORDERS["first"])
    assert len(expected) == COUNT
    assert other.run(ORDERS[order]) == expected
    assert other.ledger.fates() == reference.ledger.fates()


def test_another_seed_asks_for_other_settings():
    assert Simulation(memory(), seed=0).run(ORDERS["first"]) != Simulation(memory(), seed=1).run(ORDERS["first"])


def test_the_guided_trials_are_better_than_the_random_ones():
    random, guided = [], []
    for seed in range(20):
        asked = Simulation(memory(), seed, concurrent=1).run(ORDERS["first"])
        miss = [abs(c["settings"]["lr_generator"] - 4e-4) for c in asked]
        random += miss[:4]
        guided += miss[4:]
    assert np.mean(guided) < np.mean(random)


@pytest.mark.parametrize("seed", range(5))
def test_families_take_turns_in_the_startup_trials_and_the_seed_says_who_is_first(seed):
    families = list(load_sweep(MISSION).detectors.families)
    settings = load_sweep(MISSION).detectors.model_copy(update={"max_concurrent": 20, "startup_trials": 12})
    search = OrderedSearch(SearchSpace("detector", settings), 20, Ledger(settings), memory(), seed)
    asked = [search.suggest(str(number))["family"] for number in range(20)]
    assert sorted(asked[:6]) == sorted(families)
    assert asked[6:12] == asked[:6]
    assert asked[12:18] not in (asked[:6], families)  # from here on the sampler chooses
    first = {OrderedSearch(SearchSpace("detector", settings), 1, Ledger(settings), memory(), s).suggest("0")["family"]
             for s in range(20)}  # fmt: skip
    assert len(first) > 3


@pytest.mark.parametrize("steps", [1, 5, 9, 14])
def test_a_restart_goes_on_with_the_same_settings(steps, tmp_path):
    expected = Simulation(memory()).run(ORDERS["first"])
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'optuna.db'}")
    Simulation(storage).run(ORDERS["last"], steps=steps)  # killed here
    again = Simulation(storage)
    assert again.run(ORDERS["first"]) == expected  # what had been asked for is asked for again
    again.search.finish()
    assert len(again.search._study.trials) == COUNT
    assert all(t.state.is_finished() for t in again.search._study.trials)


def test_stopped_trials_reach_optuna_as_pruned_and_failed_ones_with_the_worst_score():
    simulation = Simulation(memory())
    simulation.run(ORDERS["first"], fails={2})
    simulation.search.finish()
    trials = simulation.search._study.trials
    assert trials[2].state.name == "COMPLETE"
    assert trials[2].value == 1e6
    fates = simulation.ledger.fates()
    assert {f for f in fates if f != float("inf")} == {256, 512}
    for trial, fate in zip(trials, fates, strict=True):
        assert trial.state.name == ("COMPLETE" if fate == float("inf") or trial.number == 2 else "PRUNED")
    finished = [t for n, t in enumerate(trials) if fates[n] == float("inf") and n != 2]
    assert all(list(t.intermediate_values) == [768] for t in finished)


@pytest.mark.parametrize("concurrent", [1, 2, 3, 4, 8, 16])
def test_as_many_trials_as_allowed_start_before_any_result(concurrent):
    simulation = Simulation(memory(), concurrent=concurrent)
    while simulation.ask():
        pass
    assert len(simulation.asked) == min(concurrent, COUNT)
