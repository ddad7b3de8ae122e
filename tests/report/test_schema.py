"""The tables' schema: what writers write and readers read, said once."""

from dataclasses import replace

import pandas as pd
import pytest
from league_runs import ROOT

from duel.report import boards
from duel.report.run_files import read_run
from duel.rules import tables
from duel.rules.tables import LEADERBOARD, LEAVE_ONE_OUT, MATCHES, TABLES


@pytest.mark.parametrize("file", TABLES)
def test_every_column_is_described_once(file):
    table = TABLES[file]
    assert len(set(table.names)) == len(table.names)
    assert {column.kind for column in table.columns} <= set(tables.KINDS)


def test_a_columns_kind_is_the_same_in_every_table():
    kinds: dict[str, str] = {}
    for column in tables.COLUMNS:
        assert kinds.setdefault(column.name, column.kind) == column.kind


@pytest.mark.parametrize(
    "columns",
    [["generator"], [*MATCHES.names[1:], "generator"], [*MATCHES.names, "extra"]],
    ids=["few", "order", "more"],
)
def test_what_is_no_such_table_is_refused(columns):
    with pytest.raises(ValueError, match=r"matches.csv must have the columns generator, detector"):
        MATCHES.checked(pd.DataFrame(columns=columns))


def test_columns_named_after_what_they_hold():
    weather = pd.DataFrame(columns=[*MATCHES.names, "accuracy_jpeg50"])
    assert MATCHES.checked(weather) is weather
    assert MATCHES.others(weather) == ["accuracy_jpeg50"]
    families = pd.DataFrame(columns=["detector", "family", "dcgan", "r3gan", "mean"])
    assert LEAVE_ONE_OUT.others(LEAVE_ONE_OUT.checked(families)) == ["dcgan", "r3gan"]


def test_a_new_column_of_the_leaderboard_is_on_the_page(three_seasons, monkeypatch):
    """One line in the schema, and one where it is computed."""
    new = tables.Column("surprise", "number", "how odd it was", "share")
    monkeypatch.setattr(boards, "LEADERBOARD", replace(LEADERBOARD, columns=(*LEADERBOARD.columns, new)))
    run = read_run(three_seasons)
    run.board["surprise"] = 0.25
    board = boards.board(run, "detector")
    at = [column.key for column in board.columns].index("surprise")
    assert (board.columns[at].title, board.columns[at].meaning) == ("Surprise", "how odd it was")
    assert board.rows[0][at].text == "25.0\N{NO-BREAK SPACE}%"


def test_every_table_of_a_run_is_as_described(three_seasons):
    for file, table in TABLES.items():
        if (three_seasons / file).exists():
            table.checked(pd.read_csv(three_seasons / file))


def test_the_page_in_the_docs_is_made_from_it():
    page = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    assert page == tables.page() + "\n", "python -m duel.rules.tables > docs/tables.md"
