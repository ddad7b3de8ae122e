"""When the states of trials go: not before what was made of them is safe; and what their names may be."""

import pandas as pd
import pytest

from duel import stages
from duel.claim import Ousted
from duel.errors import DuelError
from duel.rules.tables import TABLES
from duel.rundir import RunFolder
from duel.stages import League
from duel.sweep.job import States


@pytest.fixture
def league(tmp_path):
    """A league with a trial's state on its storage and its model in the run's folder."""
    league = object.__new__(League)
    league.run = RunFolder.create(tmp_path / "r", {"id": "this run"})
    league.storage, league.copied = str(tmp_path / "storage"), lambda: True
    league.model("g01-dcgan").mkdir(parents=True)
    States(league.storage, "this run").save("trials/g01-dcgan/state.pt", {"history": []})
    return league


def test_states_go_once_their_stage_is_done(league):
    league.forget_states(["g01-dcgan", "g02-gone-already"])
    assert States(league.storage, "this run").of_trial("g01-dcgan") is None


def test_states_stay_while_the_models_are_not_on_the_storage(league):
    league.copied = lambda: False
    league.forget_states(["g01-dcgan"])
    assert States(league.storage, "this run").of_trial("g01-dcgan") is not None


def test_states_stay_for_the_driver_that_has_taken_over(league):
    def ousted():
        raise Ousted("another drives")

    league.copied = ousted
    with pytest.raises(Ousted):
        league.forget_states(["g01-dcgan"])
    assert States(league.storage, "this run").of_trial("g01-dcgan") is not None


def test_the_models_names_are_on_the_disk_first(league, monkeypatch):
    done = []
    monkeypatch.setattr(stages, "sync", done.append)
    league.copied = lambda: bool(done.append("copied"))
    league.forget_states(["g01-dcgan"])
    assert done == [league.run.path / "models", league.run.path, "copied"]


@pytest.mark.parametrize("name", ["../../../../Documents", "/etc", "a/../..", "..", "g01 dcgan"])
@pytest.mark.parametrize("file", TABLES)
def test_a_table_with_a_name_that_leads_elsewhere(league, file, name):
    """Whoever may write to the run's storage can write its tables, and their names become paths."""
    for column in TABLES[file].of_kind("name"):
        pd.DataFrame({column: ["g01-dcgan", name, None]}).to_csv(league.run.path / file)
        with pytest.raises(DuelError, match="no name of a run's file"):
            league.run.read_table(file)
    with pytest.raises(DuelError, match="no name of a run's file"):
        league.model(name)


def test_a_model_folder_that_is_a_link_out_of_the_run(league, tmp_path):
    (league.run.path / "models" / "g09-link").symlink_to(tmp_path)
    with pytest.raises(DuelError, match="out of"):
        league.model("g09-link")
