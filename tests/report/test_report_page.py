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
from duel.report import charts, tables
from duel.report.page import write_report
from duel.report.run_files import read_run
from duel.rules.standings import GUARDED


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


@pytest.fixture
def league(three_seasons, tmp_path):
    return shutil.copytree(three_seasons, tmp_path / "run")


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


# -- a league over seasons


def mean(matches, generators, detectors):
    met = matches["generator"].str.match(generators) & matches["detector"].str.match(detectors)
    return f"{100 * matches.loc[met, 'accuracy'].mean():.1f}"


def test_the_race_holds_every_season_and_control(league):
    html = write_report(league).read_text(encoding="utf-8")
    section = Reader(html[html.index('<section aria-labelledby="race">') : html.index('<h3 id="split"')] + "</section>")
    matches, twins = pd.read_csv(league / "matches.csv"), pd.read_csv(league / "twin_matches.csv")
    rows = [
        ["1", mean(matches, "g", "d"), mean(matches, "s2g", "d"), mean(twins, r"s2g.*\.no-evasion", "d"),
         mean(matches, "s3g", "d"), mean(twins, r"s3g.*\.no-evasion", "d")],
        ["2", mean(matches, "g", "s2d"), mean(matches, "s2g", "s2d"), mean(twins, r"s2g.*\.no-evasion", "s2d"),
         mean(matches, "s3g", "s2d"), mean(twins, r"s3g.*\.no-evasion", "s2d")],
        ["2, replay off", mean(twins, "g", r"s2d.*\.no-replay"), mean(twins, "s2g", r"s2d.*\.no-replay"),
         "\N{EN DASH}", mean(twins, "s3g", r"s2d.*\.no-replay"), "\N{EN DASH}"],
        ["2, no new rivals", mean(twins, "g", r"s2d.*\.no-rivals"), mean(twins, "s2g", r"s2d.*\.no-rivals")],
    ]  # fmt: skip
    for row in rows:
        assert " ".join(row) in section.text
    assert (
        "detectors \N{DOWNWARDS ARROW} generators \N{RIGHTWARDS ARROW} 1 2 2 evasion off 3 3 evasion off"
        in section.text
    )
    assert "Ratings of both sides over the seasons" in section.text
    trials = pd.read_csv(league / "trials.csv").query("entrant and side == 'generator'")
    for season, kids in trials.groupby("season")["objective"]:
        assert f"{season} 3 {kids.mean():.3f} {kids.min():.3f}" in section.text


def test_the_race_is_told_in_words_with_each_control_beside_its_own_entrants(league):
    text = read(league).text
    matches, twins = pd.read_csv(league / "matches.csv"), pd.read_csv(league / "twin_matches.csv")
    rows = pd.read_csv(league / "twins.csv").query("kind == 'no-evasion' and season == 2")
    own = matches[matches["generator"].isin(rows["twin_of"])]
    first, then = float(mean(matches, "g", "d")), float(mean(matches, "s2g", "d"))
    lost = matches[matches["generator"].str.match("g") & matches["detector"].str.match("d")]["accuracy"].mean()
    lost -= matches[matches["generator"].str.match("s2g") & matches["detector"].str.match("d")]["accuracy"].mean()
    verb = "lost" if lost > 0 else "gained"
    said = f"The detectors of season 1 {verb} {100 * abs(lost):.1f} points of accuracy on the fakes of season 2: from "
    assert f"{said}{first} % on season 1's (" in text
    assert (
        f"on generators that they never trained on) to {then} %. The 2 generators trained again with evasion off met "
        f"{mean(twins, r's2g.*no-evasion', 'd')} % instead of {mean(own, 's2g', 'd')} %" in text
    )
    assert re.search(
        r"The detectors of season 2 (won back|lost another) [\d.]+ points on the same fakes: [\d.]+ %", text
    )
    assert "; trained again with replay off, " in text
    kids = pd.read_csv(league / "leaderboard.csv").query("side == 'generator'").groupby("season")["objective"].mean()
    assert f"The mean KID of season 3 is {kids[3]:.3f}, {kids[3] / kids[2]:.2f} times that of season 2" in text


def test_a_race_without_controls_says_what_stays_open(league):
    for name in ("twins", "twin_matches", "guard", "leave_one_out", "scouting"):
        (league / f"{name}.csv").unlink()
    page = read(league)
    assert "how much of that is evasion stays open" in page.text
    assert "replay off," not in page.text
    assert "Families never seen" not in page.text
    assert not {"twins.csv", "guard.csv"} & set(page.addresses)


def test_marks_weather_and_new_families_are_on_the_page(league):
    page = read(league)
    board = pd.read_csv(league / "leaderboard.csv")
    for row in board[board["side"] == "generator"].fillna({"mark": ""}).to_dict("records"):
        badges = row["mark"].replace(",", "")
        assert f"{row['name']} {badges} {row['family']}".replace("  ", " ") in page.text
        assert f"{100 * row['accuracy_jpeg50']:.1f} %" in page.text
        assert f"{row['precision']:.2f} {row['recall']:.2f} {row['density']:.2f} {row['coverage']:.2f}" in page.text
    left_out = pd.read_csv(league / "leave_one_out.csv").iloc[0]
    numbers = " ".join(f"{100 * left_out[c]:.1f}" for c in ("dcgan", "sagan", "mean"))
    assert f"{left_out['detector']} {left_out['family']} {numbers}" in page.text
    detector = board[board["side"] == "detector"].iloc[0]
    weathers = " ".join(f"{100 * detector[c]:.1f}" for c in ("mean_accuracy", "accuracy_jpeg50", "accuracy_blur1"))
    assert f"{detector['name']} {weathers}" in page.text
    matches = pd.read_csv(league / "matches.csv")
    new = matches[~matches["family_seen"]]
    assert (
        f"new family {len(new)} {100 * new['accuracy'].mean():.1f} % {100 * new['real_accuracy'].mean():.1f} %"
        in page.text
    )
    assert "a KID above 50.0 % of that of pure noise (above 0.790)" in page.text
    assert "of whose fakes more than 5.0 % are training faces" in page.text
    assert {"twins.csv", "twin_matches.csv", "guard.csv", "leave_one_out.csv", "scouting.csv"} <= set(page.addresses)


def test_a_marked_winner_is_not_praised_without_its_mark(league):
    board = pd.read_csv(league / "leaderboard.csv")
    board.loc[(board["side"] == "generator") & (board["rank"] == 1), "mark"] = "not faces, copies"
    board.to_csv(league / "leaderboard.csv", index=False)
    assert "But the guard marks its fakes as not faces and copies." in read(league).text


def test_a_match_within_noise_is_shown_as_such(run):
    matches = pd.read_csv(run / "matches.csv")
    matches.loc[0, ["accuracy", "accuracy_low", "accuracy_high", "within_noise"]] = [0.503, 0.49, 0.516, True]
    matches.to_csv(run / "matches.csv", index=False)
    html = write_report(run).read_text(encoding="utf-8")
    assert html.count("within noise</span>") == matches["within_noise"].sum()
    assert "\N{ALMOST EQUAL TO}50.3" in html
    assert "95 % interval 49.0\N{NO-BREAK SPACE}% to 51.6\N{NO-BREAK SPACE}%" in html


def test_trials_of_later_seasons_follow_those_of_earlier_ones_in_the_chart(league):
    trials = charts.numbered(read_run(league).trials.query("side == 'generator'"))
    assert sorted(trials["number"]) == list(range(1, len(trials) + 1))
    assert trials.groupby("season")["number"].max().tolist() == [5, 10, 15]


OLD = ["season", "parent", "family_seen", "calibration_error", "within_noise", "accuracy_low", "accuracy_high",
       "new_family_accuracy", "mean_real_accuracy", "mean_fake_accuracy", "mean_auc", "mean_calibration_error",
       *GUARDED]  # fmt: skip


@pytest.mark.parametrize("with_board", [True, False])
def test_a_run_from_before_there_were_seasons_is_shown_as_one_season(run, with_board):
    for name in ("trials", "matches", "leaderboard"):
        pd.read_csv(run / f"{name}.csv").drop(columns=OLD, errors="ignore").to_csv(run / f"{name}.csv", index=False)
    if not with_board:
        (run / "leaderboard.csv").unlink()
    page = read(run)
    assert "Every match" in page.text
    assert "The race" not in page.text
    assert "Calib. error 0" not in page.text
    assert "new family 0 \N{EN DASH}" in page.text
    assert "Guard" not in page.text


def test_a_season_in_progress_has_the_guards_findings_already(league):
    expected = pd.read_csv(league / "leaderboard.csv").query("side == 'generator'")["mark"].dropna()
    (league / "leaderboard.csv").unlink()
    text = read(league).text
    assert "Guard" in text
    assert all(mark.split(",")[0] in text for mark in expected)


def test_a_season_whose_detectors_are_still_to_come_is_shown(league):
    edit(league, status="running")
    for name in ("leaderboard", "twins", "twin_matches", "leave_one_out"):
        (league / f"{name}.csv").unlink()
    trials, matches = pd.read_csv(league / "trials.csv"), pd.read_csv(league / "matches.csv")
    trials = trials[(trials["season"] == 1) | ((trials["season"] == 2) & (trials["side"] == "generator"))]
    trials.to_csv(league / "trials.csv", index=False)
    matches[~matches["generator"].str.startswith("s") & matches["detector"].str.startswith("d")].to_csv(
        league / "matches.csv", index=False
    )
    text = read(league).text
    assert "The race between the seasons" in text
    assert "The mean KID of season 2 is" in text
    assert "The detectors of season 1" not in text


def test_what_the_files_of_a_league_hold_is_escaped(league):
    evil = "<u>alert(1)</u>"
    for name, column in (("leaderboard", "mark"), ("twins", "twin_of"), ("leave_one_out", "family")):
        table = pd.read_csv(league / f"{name}.csv")
        table.assign(**{column: evil}).rename(columns={"accuracy_blur1": f"accuracy_{evil}", "sagan": evil}).to_csv(
            league / f"{name}.csv", index=False
        )
    edit(league, settings={"guard": {"kid_share": evil, "copies": None}})
    html = write_report(league).read_text(encoding="utf-8")
    assert "<u>" not in html
    assert Reader(html).text.count(evil) > 5


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


def test_bytes_on_the_command_line_that_are_no_text(run):
    edit(run, command=["--faces", "caf\udce9"], notes=["\udce9 skipped"])
    text = read(run).text
    assert r"caf\udce9" in text
    assert r"\udce9 skipped" in text


def test_a_failed_control_is_among_the_failed_trials(league):
    twins = pd.read_csv(league / "twins.csv", dtype={"reason": str})
    twins.loc[0, ["status", "reason"]] = ["failed", "its worker died"]
    twins.to_csv(league / "twins.csv", index=False)
    run = read_run(league)
    assert twins["trial"][0] not in set(run.twins["trial"])
    assert (twins["trial"][0], "its worker died") in [(f["name"], f["reason"]) for f in tables.failures(run)]


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
