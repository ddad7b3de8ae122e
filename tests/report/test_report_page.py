"""The page's words and tables, read from its HTML, for whole, unfinished, odd and broken runs."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pandas as pd
import pytest

from duel.errors import DuelError
from duel.report import tables
from duel.report.page import write_report


class Reader(HTMLParser):
    """Collects text, ids, and every address an element asks for; fails on tags that do not close."""

    VOID = frozenset({"meta", "link", "img", "br", "use", "path"})

    def __init__(self, html):
        super().__init__()
        self.open, self.ids, self.addresses, self.words = [], [], [], []
        self.feed(html)
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self.note(attrs)

    def handle_startendtag(self, tag, attrs):
        self.note(attrs)

    def note(self, attrs):
        for key, value in attrs:
            if key == "id":
                self.ids.append(value)
            if key in ("src", "href", "xlink:href"):
                self.addresses.append(value)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).replace("\N{NO-BREAK SPACE}", " ").split())


def read(root):
    return Reader(write_report(root).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(make_run, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def run(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def edit(root, **values):
    path = root / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# -- a whole run


def test_the_page_stands_alone(run):
    page = read(run)
    outside = [a for a in page.addresses if not a.startswith(("data:", "#"))]
    assert set(outside) == {"leaderboard.csv", "matches.csv", "trials.csv", "run.json"}
    assert all((run / a).is_file() for a in outside)
    assert sorted(page.ids) == sorted(set(page.ids)), "ids are unique"
    anchors = {a[1:] for a in page.addresses if a.startswith("#")}
    assert anchors <= set(page.ids)
    assert sum(a.startswith("data:image/gif") for a in page.addresses) == 3
    assert sum(a.startswith("data:image/png") for a in page.addresses) == 4


def test_the_same_run_gives_the_same_page(run):
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


@pytest.mark.parametrize(
    ("generators_win", "team"), [(False, "Team B, the detectors"), (True, "Team A, the generators")]
)
def test_the_headline_names_the_winning_team_and_its_count(make_run, tmp_path, generators_win, team):
    root = make_run(tmp_path / "run", generators_win=generators_win)
    matches, board = pd.read_csv(root / "matches.csv"), pd.read_csv(root / "leaderboard.csv")
    won = (matches["winner"] == ("generator" if generators_win else "detector")).sum()
    page = read(root)
    assert f"{team}, won the league: {won} of {len(matches)} matches." in page.text
    best = board[(board["side"] == "detector") & (board["rank"] == 1)].iloc[0]
    assert f"{best['name']} holds best: it won {best['wins']} of its {best['played']} matches" in page.text


def test_a_level_league_says_so(run):
    matches = pd.read_csv(run / "matches.csv").iloc[:2]
    matches.assign(winner=["generator", "detector"]).to_csv(run / "matches.csv", index=False)
    assert "The league ended level: each team won 1 of 2 matches." in read(run).text


def test_the_tables_hold_the_files_numbers(run):
    text = read(run).text
    for row in pd.read_csv(run / "leaderboard.csv").to_dict("records"):
        rating = f"{row['rating']:.0f} ({row['rating_low']:.0f} to {row['rating_high']:.0f})"
        objective = f"{row['objective']:.{3 if row['side'] == 'generator' else 4}f}"
        line = f"{row['rank']} {row['name']} {row['family']} {row['played']} {row['wins']} {row['losses']}"
        assert f"{line} {tables.percent(row['win_rate'])} {rating}".replace("\N{NO-BREAK SPACE}", " ") in text
        assert objective in text
    assert "KID efficientnet-lite0" in text
    assert re.search(
        r"Pure noise to place the KIDs above 1\.580 Untrained generator 2\.110 Reals against reals 0\.003",
        text,
    )
    for match in pd.read_csv(run / "matches.csv").to_dict("records"):
        assert f"{100 * match['accuracy']:.1f}" in text
    assert text.count(" seen") >= pd.read_csv(run / "matches.csv")["seen"].sum()
    assert "the loss was not finite after 12,800 images" in text
    assert "python -m duel.league --trials 10 --faces '../my faces'" in text
    assert "9c1f0a7be2d34410" in text
    assert "No GPU was found" in text


def test_the_page_says_where_the_time_went(run):
    text = read(run).text
    assert "generators 6 min 52 s 6 min 11 s 30.5 s 10.3 s" in text
    assert "matches 48.1 s all stages 11 min 22 s 9 min 21 s 41.5 s 14.6 s" in text
    edit(run, stages=[{"name": "start", "seconds": 3.0}])
    text = read(run).text
    assert "start 3.0 s" in text
    assert "all stages" not in text


def test_a_report_needs_neither_torch_nor_ray(run):
    code = (
        "import sys, pathlib; from duel.report.page import write_report; import duel.report.images;"
        "write_report(pathlib.Path(sys.argv[1])); print([m for m in ('torch', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "[]\n")


# -- an unfinished run


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        (["leaderboard.csv", "index.html"], "is ahead so far"),
        (["leaderboard.csv", "matches.csv"], "No match has been played yet."),
        (
            ["leaderboard.csv", "matches.csv", "trials.csv", "models", "fakes"],
            "No generator has entered the league yet.",
        ),
        (["fakes"], "no sheet of fakes yet"),
        (["models"], "KID of 5 trials"),
    ],
)
def test_an_unfinished_run_shows_what_there_is(run, gone, says):
    edit(run, status="running")
    for name in gone:
        path = run / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    page = read(run)
    assert "This run has not ended." in page.text
    assert says in page.text
    assert {a for a in page.addresses if a.endswith(".csv")} == {p.name for p in run.glob("*.csv")}


def test_half_of_the_matches_leave_gaps_in_the_matrix(run):
    edit(run, status="running")
    (run / "leaderboard.csv").unlink()
    matches = pd.read_csv(run / "matches.csv").iloc[:5]
    matches.to_csv(run / "matches.csv", index=False)
    html = write_report(run).read_text(encoding="utf-8")
    assert html.count('class="unplayed"') == 4
    assert "of 5 matches" in Reader(html).text


def test_a_barest_run_json_is_enough(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "matches.csv").write_text("")
    assert "No match has been played yet." in read(tmp_path).text


def test_no_gif_and_no_reals_are_no_harm(run):
    for path in [*run.glob("fakes/*.gif"), run / "fakes" / "reals.png"]:
        path.unlink()
    page = read(run)
    assert "Watch it learn" not in page.text
    assert "Real faces" not in page.text


def test_odd_numbers_are_shown_as_none(run):
    trials = pd.read_csv(run / "trials.csv")
    trials["objective"] = None
    trials["images"] = "many"
    trials.to_csv(run / "trials.csv", index=False)
    board = pd.read_csv(run / "leaderboard.csv")
    board[["rating", "rating_low", "rating_high", "objective", "seen_accuracy"]] = None
    board.to_csv(run / "leaderboard.csv", index=False)
    edit(run, yardsticks=None, stages=None, faces=None, hardware=None, notes=None, settings=None)
    assert "(\N{EN DASH} to \N{EN DASH})" in read(run).text


# -- a broken run


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", "{"), ("run.json", "[]"), ("matches.csv", 'a,b\n"1'), ("trials.csv", b"\xff\xfe\x00"),
        ("models/g01-dcgan/metrics.json", "nope"),
    ],
)  # fmt: skip
def test_a_broken_file_is_named(run, name, content):
    (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DuelError, match=name.rsplit("/", maxsplit=1)[-1]):
        write_report(run)


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(DuelError, match=r"no run\.json"):
        write_report(tmp_path)


def test_everything_from_the_files_is_escaped(make_run, tmp_path):
    evil = "g01-<script>alert(1)</script>\"'&"
    root = make_run(tmp_path / "run", rename={"g01-dcgan": evil}, notes=["</pre><script>alert(2)</script>"])
    faces = {"source": "<img src=x onerror=alert(3)>", "used": 5, "image_size": "<b>"}
    edit(
        root,
        name="</title><script>alert(4)</script>",
        faces=faces,
        settings={"a": "</pre><script>"},
        command=["<i>"],
    )
    trials = pd.read_csv(root / "trials.csv")
    trials["reason"] = "<script>alert(5)</script> ${x} {{ 7 * 7 }}"
    trials["family"] = "<u>$x_1$</u>"
    trials.to_csv(root / "trials.csv", index=False)
    html = write_report(root).read_text(encoding="utf-8")
    assert html.count("<script") == 1
    for tag in ("<img src=x", "<b>", "<i>", "<u>"):
        assert tag not in html.replace("<b style", "")
    page = Reader(html)
    assert evil in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "$x_1$" in page.text


def test_a_name_that_leads_out_of_the_folder_reads_nothing(make_run, tmp_path):
    root = make_run(tmp_path / "run")
    shutil.copy(root / "fakes" / "reals.png", tmp_path / "secret.png")
    for table, column in (("leaderboard", "name"), ("matches", "generator")):
        content = pd.read_csv(root / f"{table}.csv").replace({column: {"g01-dcgan": "../../secret"}})
        content.to_csv(root / f"{table}.csv", index=False)
    assert "no sheet of fakes yet" in read(root).text


# -- words


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.97241, "97.2 %"), (0.5, "50.0 %"), (0.49999, "49.99 %"), (0.9999, "99.99 %"), (1.0, "100.0 %"),
        (0.0, "0.0 %"), (float("nan"), "\N{EN DASH}"),
    ],
)  # fmt: skip
def test_rounding_never_crosses_the_win_line(share, text):
    assert tables.percent(share).replace("\N{NO-BREAK SPACE}", " ") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.5, "59.5 s"), (75.2, "1 min 15 s"), (7260, "2 h 1 min"), (None, "\N{EN DASH}")],
)
def test_times_read_as_words(seconds, text):
    assert tables.seconds_in_words(seconds) == text
