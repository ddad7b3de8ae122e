"""How detectors do on what is new to them: generators, families of generators, changed images."""

from typing import Any, NamedTuple

from duel.report.run_files import RunFiles, records
from duel.report.tables import Heat, decimal, heat, percent
from duel.rules.standings import split, weather_columns


class HeatTable(NamedTuple):
    """Rows of squares: (name, a small line with it, squares); a square that holds nothing is None."""

    columns: list[str]
    rows: list[tuple[str, str, list[Heat | None]]]


def split_rows(run: RunFiles) -> list[list[str]]:
    """Seen, unseen and new family, each with the number of matches and the mean of every number; [] before the
    first match."""
    return [
        [
            row["split"], decimal(row["matches"], 0), percent(row["accuracy"]), percent(row["real_accuracy"]),
            percent(row["fake_accuracy"]), decimal(row["auc"], 4), decimal(row["calibration_error"], 3),
        ]
        for row in records(split(run.matches))
        if len(run.matches)
    ]  # fmt: skip


def left_out(run: RunFiles) -> HeatTable | None:
    """Detectors' twins on the families that they were trained without; None where there are none."""
    families = [c for c in map(str, run.left_out) if c not in ("detector", "family", "mean")]
    rows = [
        (row["detector"], row["family"], [_square(row, family, f"trained without {family}") for family in families]
         + [_square(row, "mean", "mean over the families")])
        for row in records(run.left_out)
    ]  # fmt: skip
    return HeatTable([*families, "mean"], rows) if rows else None


def _square(row: dict[str, Any], column: str, words: str) -> Heat | None:
    accuracy = row[column]
    return None if accuracy != accuracy else heat(accuracy, f"{row['detector']}, {words}: {percent(accuracy)}")


def weather(run: RunFiles) -> HeatTable | None:
    """Each detector's mean accuracy on images as they are and in every weather; None without weather."""
    columns = weather_columns(run.board)
    board = run.board[(run.board["side"] == "detector") & (run.board["played"] > 0)]
    if not columns or board.empty:
        return None
    names = {"mean_accuracy": "clean"} | {column: column.removeprefix("accuracy_") for column in columns}
    rows = [
        (row["detector"], "", [_square(row, column, word) for column, word in names.items()])
        for row in records(board.rename(columns={"name": "detector"}).sort_values("rank"))
    ]
    return HeatTable(list(names.values()), rows)
