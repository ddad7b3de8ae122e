"""The page in a real browser: nothing is fetched, everything is legible, the tables sort."""

import re
import shutil

import pandas as pd
import pytest

from duel.report.page import write_report

sync_api = pytest.importorskip("playwright.sync_api")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on this machine")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

# Contrast of each visible text with what is painted behind it (WCAG 2.2, 1.4.3), colours read off a canvas.
CONTRAST = """() => {
  const canvas = document.createElement('canvas'); canvas.width = canvas.height = 1;
  const pen = canvas.getContext('2d', {willReadFrequently: true});
  const rgba = (color) => { pen.clearRect(0, 0, 1, 1); pen.fillStyle = color; pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data]; };
  const light = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (e) => { for (; e; e = e.parentElement) {
    const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c; }
    return [255, 255, 255]; };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const e = node.parentElement, style = getComputedStyle(e);
    if (!node.data.trim() || !e.getClientRects().length || e.closest('script, style')) continue;
    const color = rgba(e.closest('svg') ? style.fill : style.color);
    const [a, b] = [light(color), light(behind(e))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), node.data.trim()]);
  }
  return found.sort((x, y) => x[0] - y[0]);
}"""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def report(make_run, tmp_path_factory):
    evil = "g01-<script>document.title='run over'</script><img src=x onerror=\"document.title='run over'\">"
    names = {"g01-dcgan": evil, "d02-resnet18": "d02-" + "verylongname" * 6}
    notes = ["<script src='https://example.org/x.js'></script>", "unbroken" * 40]
    return write_report(make_run(tmp_path_factory.mktemp("browser") / "run", 4, rename=names, notes=notes))


@pytest.fixture(scope="module")
def seasons(three_seasons):
    return write_report(three_seasons)


@pytest.fixture
def visit(browser, report):
    """Opens the page; at the end no request may have left the file, no word be on the console."""
    contexts, asked, said, files = [], [], [], []

    def opened(width=1280, path=report, **options):
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        files.append(path.as_uri())
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [url for url in asked if not url.startswith(("data:", *files))] == []
    assert said == []


def names(page, side):
    return page.locator(f"[aria-labelledby={side}s] tbody .name").all_inner_texts()


def column(page, side, index):
    return page.locator(f"[aria-labelledby={side}s] tbody tr > :nth-child({index})").all_inner_texts()


def test_a_press_on_a_heading_sorts_and_a_second_turns_it(visit):
    page = visit()
    by_rank = names(page, "detector")
    heading = page.locator("[aria-labelledby=detectors] thead th", has_text="Val. AUC")
    at = heading.evaluate("(heading) => heading.cellIndex + 1")
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert page.locator("[aria-labelledby=detectors] [aria-sort]").count() == 1
    scores = [float(text) for text in column(page, "detector", at)]
    assert scores == sorted(scores)
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert [float(text) for text in column(page, "detector", at)] == sorted(scores, reverse=True)
    page.locator("[aria-labelledby=detectors] thead button", has_text="Rank").click()
    assert names(page, "detector") == by_rank


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_the_keyboard_sorts_too(visit, key):
    page = visit()
    heading = page.locator("[aria-labelledby=generators] thead th", has_text="Name")
    heading.get_by_role("button").focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press(key)
    assert heading.get_attribute("aria-sort") == "ascending"
    page.keyboard.press(key)
    assert heading.get_attribute("aria-sort") == "descending"
    assert names(page, "generator") == sorted(names(page, "generator"), reverse=True)
    assert "Pure noise" in page.locator("[aria-labelledby=generators] tfoot").inner_text()


def test_empty_values_stay_last_in_both_directions(visit, make_run, tmp_path):
    root = make_run(tmp_path / "run")
    board = pd.read_csv(root / "leaderboard.csv")
    board.loc[0, "seen_accuracy"] = None  # of the first generator
    board.to_csv(root / "leaderboard.csv", index=False)
    page = visit(path=write_report(root))
    heading = page.locator("[aria-labelledby=generators] thead th").filter(has_text=re.compile("^Seen$"))
    at = heading.evaluate("(heading) => heading.cellIndex + 1")
    for _ in range(2):
        page.locator(f"[aria-labelledby=generators] thead th:nth-child({at}) button").click()
        assert column(page, "generator", at)[-1] == "\N{EN DASH}"


@pytest.mark.parametrize("width", [320, 360, 768])
@pytest.mark.parametrize("shown", ["report", "seasons"])
def test_the_body_never_scrolls_sideways(visit, width, shown, request):
    page = visit(width, request.getfixturevalue(shown))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width == 360:
        for label in ("generators", "matrix"):
            box = page.locator(f"section [aria-labelledby={label}].scroll")
            assert box.evaluate("box => box.scrollWidth > box.clientWidth"), "the table scrolls in its own box"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("shown", ["report", "seasons"])
def test_every_text_has_contrast(visit, scheme, shown, request):
    page = visit(path=request.getfixturevalue(shown), color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    found = page.evaluate(CONTRAST)
    assert len(found) > 200
    assert [text for ratio, text in found if ratio < 4.5] == [], found[0]
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == {
        "light": "rgb(247, 246, 243)", "dark": "rgb(19, 20, 24)",
    }[scheme]  # fmt: skip


def test_no_script_from_a_name_or_note_runs(visit):
    page = visit()
    page.wait_for_timeout(100)
    assert page.title() == "faces · duel"
    assert page.locator("script").count() == 1
    assert page.get_by_text("example.org").is_visible()


def test_all_is_there_without_scripts(visit):
    page = visit(java_script_enabled=False)
    assert page.locator("table.board").count() == 2
    assert page.locator("th button").count() == 0
    assert page.locator(".matrix tbody td:not(.mean)").count() == 16
    assert page.locator(".charts svg").count() == 4


def test_nothing_moves_until_it_is_asked_to(visit):
    page = visit(reduced_motion="reduce")
    gifs = page.locator("img[src^='data:image/gif']")
    assert gifs.count() == 3  # one name has no picture: it holds a slash
    assert not any(gif.is_visible() for gif in gifs.all())
    page.get_by_text("Watch it learn").first.click()
    assert gifs.first.is_visible()
    assert gifs.first.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 256


def test_it_prints(visit, tmp_path):
    page = visit()
    assert len(page.pdf()) > 10_000


def test_a_table_with_groups_of_columns_sorts_by_the_heading_that_was_pressed(visit, seasons):
    page = visit(path=seasons)
    heading = page.locator("[aria-labelledby=generators] thead th", has_text="Copies")
    at = heading.evaluate("(heading) => heading.cellIndex + 1")
    heading.get_by_role("button").click()
    shares = [float(text.split()[0]) for text in column(page, "generator", at)]
    assert shares == sorted(shares)
    group = page.locator("[aria-labelledby=generators] thead td", has_text="Guard").bounding_box()
    pressed = heading.bounding_box()
    assert group["x"] - 1 <= pressed["x"]
    assert pressed["x"] + pressed["width"] <= group["x"] + group["width"] + 1
    yardstick = page.locator("[aria-labelledby=generators] tfoot td.number").first.bounding_box()
    kid = page.locator("[aria-labelledby=generators] thead th", has_text="KID").bounding_box()
    assert yardstick["x"] == pytest.approx(kid["x"], abs=1)


def test_badges_leave_room_for_the_numbers_on_a_phone(visit, seasons):
    page = visit(360, seasons)
    widths = page.locator("[aria-labelledby=generators] tbody .name").evaluate_all(
        "(cells) => cells.map((cell) => cell.offsetWidth)"
    )
    assert max(widths) < 180
    for badge in page.locator("[aria-labelledby=generators] .badge").all():
        assert badge.evaluate("(badge) => badge.scrollWidth <= badge.offsetWidth")
