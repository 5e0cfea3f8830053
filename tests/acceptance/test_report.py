"""The report in a real headless browser: drawn whole, asking no network, readable on a phone, in the dark, on paper."""

import re
import subprocess
import sys
import time
from itertools import pairwise
from types import SimpleNamespace

import pytest
from report_helpers import data
from report_ledger import large_study, small_study

from lvjobs.report.page.answer import StudyAnswer
from lvjobs.report.page.pieces import Page, Section
from lvjobs.report.page.write import render
from lvjobs.report.table import Table

__all__ = ["data"]
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
DRAWN = (
    "[...document.querySelectorAll('.panel')].filter(one => [...one.querySelectorAll('svg')].some("
    "svg => svg.getBoundingClientRect().width > 100 && svg.querySelector('.cells, [class^=k]')))"
)


def written(root):
    command = (sys.executable, "-m", "lvjobs", "report", "--study", str(root))
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    return (root / "report" / "index.html").as_uri()


@pytest.fixture(scope="module")
def report(tmp_path_factory, data):
    """A small study's: evaluated with samples, beside zero-shot and baselines; with deaths."""
    return written(small_study(tmp_path_factory.mktemp("report") / "study", data).layout.root)


@pytest.fixture
def visit(browser):
    """Opens an address; what went wrong and what was asked for is kept."""
    contexts = []

    def open_page(address, viewport=WIDE, **more):
        context = browser.new_context(viewport=viewport, **more)
        context.set_default_timeout(300_000)
        contexts.append(context)
        page, seen = context.new_page(), SimpleNamespace(errors=[], requests=[])
        page.on("console", lambda said: seen.errors.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("request", lambda request: seen.requests.append(request.url))
        page.goto(address)
        return page, seen

    yield open_page
    for context in contexts:
        context.close()


def every_figure_is_drawn(page):
    total = page.evaluate("document.querySelectorAll('.panel').length")
    return total > 0 and page.evaluate(f"{DRAWN}.length") == total


def test_every_figure_is_drawn_with_no_error_and_no_network(report, visit):
    page, seen = visit(report)
    assert every_figure_is_drawn(page)
    assert page.evaluate("document.querySelectorAll('figure.chart .missing').length") == 0
    assert seen.errors == []
    assert seen.requests == [report]


def test_every_figure_is_there_where_no_script_may_run(report, visit):
    page, seen = visit(report, java_script_enabled=False)
    panels = page.locator(".panel").all()
    assert panels
    for panel in panels:
        panel.locator("svg:visible").wait_for()
    assert seen.requests == [report]


def test_the_value_at_the_pointer_is_shown_as_text(report, visit):
    page, seen = visit(report)
    assert page.locator("#hint").is_hidden()
    panel = page.locator("figure#scores .panel")
    panel.evaluate("each => each.scrollIntoView({behavior: 'instant'})")  # the pointer is moved within the window
    box = panel.bounding_box()
    spots = page.evaluate("JSON.parse(document.querySelector('figure#scores .wide script').textContent)")
    drawing = page.locator("figure#scores .wide svg").bounding_box()
    _, left, _, top, words = spots[0]
    page.mouse.move(drawing["x"] + drawing["width"] * left / 1000, drawing["y"] + drawing["height"] * top / 1000)
    assert page.locator("#hint").inner_text().endswith(words)
    assert "[" in words
    page.mouse.move(box["x"] - 60, box["y"])
    assert page.locator("#hint").is_hidden()
    assert seen.errors == []


def test_every_link_leads_to_its_place(report, visit):
    page, _ = visit(report)
    links = page.evaluate("[...document.querySelectorAll('a[href^=\"#\"]')].map(link => link.getAttribute('href'))")
    assert len(links) > 10
    for link in links:
        assert page.evaluate("link => document.getElementById(decodeURIComponent(link.slice(1))) !== null", link), link
    page.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    page.click("nav a[href='#budget']")
    page.wait_for_timeout(500)
    assert abs(page.evaluate("document.getElementById('budget').getBoundingClientRect().top")) < WIDE["height"]
    files = page.evaluate("[...document.querySelectorAll('a[href^=\"tables/\"]')].map(link => link.href)")
    assert len(files) == 12
    for address in files:
        assert visit(address)[0].inner_text("body").strip()


def test_a_phone_shows_all_of_it_without_scrolling_sideways(report, visit):
    page, seen = visit(report, PHONE, is_mobile=True, has_touch=True)
    assert every_figure_is_drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    widest = page.evaluate(
        "Math.max(...[...document.querySelectorAll('.panel svg, .panel svg text')].map(one => one.getBoundingClientRect().right))"
    )
    assert widest <= PHONE["width"]
    assert seen.errors == []


def test_a_phone_shows_the_scores_of_each_row(report, visit):
    page, _ = visit(report, PHONE, is_mobile=True, has_touch=True)
    row = page.locator(".table", has=page.get_by_role("heading", name="Table 2")).locator("tbody tr").first
    cell = row.locator("td[data-of='MAE']")
    assert cell.is_visible()
    assert re.match(r"[\d.]+", cell.inner_text())
    box = cell.bounding_box()
    assert 0 <= box["x"] < box["x"] + box["width"] <= PHONE["width"]


CLIPPED = """
() => {
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  return [...document.querySelectorAll("*")]
    .filter((one) => /auto|scroll|hidden/.test(getComputedStyle(one).overflowX) && one.scrollWidth > one.clientWidth + 1)
    .map((one) => `${one.tagName}.${one.className} ${one.ariaLabel}: ${one.scrollWidth} > ${one.clientWidth}`);
}
"""


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_nothing_has_to_be_scrolled_sideways_within_the_page(report, visit, viewport):
    page, _ = visit(report, viewport)
    assert page.evaluate(CLIPPED) == []


def test_the_widest_table_of_comparisons_fits_beside_the_contents(visit, tmp_path):
    headers = ("", "beside", *("MAE difference", "skill", "p", "MSE difference", "skill", "p"))
    headers += ("median MAE difference", "p", "lower on", "p (rank)")
    errors = ("+.00608 [-.00979, +.000908]", "-6.37e4", "< .001", "+.0279 [+.0175, +.0408]", "-2.58e9", "< .001")
    row = ("final-r4-lr0.004-c1000-s0-0e4a", "ode (knows the law)", *errors)
    row += ("+4.39e-05 [-.00338, +.00768]", "< .001", "27 of 40 (3 equal)", "< .001")
    table = Table("Paired comparisons", headers, [row], id="comparisons", marked=[0], words=2)
    page = Page("study", StudyAnswer("question", ()), (), [Section("s", "S", [table])], "now", "0")
    (tmp_path / "page.html").write_text(render(page), encoding="utf-8")
    shown, _ = visit((tmp_path / "page.html").as_uri())
    assert shown.evaluate(CLIPPED) == []


def ink(page):
    """The colours of page and text, and of the text in the first figure that has some."""
    return page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
        " getComputedStyle(document.querySelector('.panel text')).fill]"
    )


def bright(colour):
    numbers = [float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    return sum(numbers) / 3 > 128


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_and_figures_follow_the_readers_theme_and_the_button(report, visit, scheme):
    page, seen = visit(report, color_scheme=scheme)
    is_light = scheme == "light"
    assert [bright(colour) for colour in ink(page)] == [is_light, not is_light, not is_light]
    page.click("#theme")
    assert [bright(colour) for colour in ink(page)] == [not is_light, is_light, is_light]
    page.emulate_media(color_scheme="light" if scheme == "dark" else "dark")  # the button was the reader's own word
    assert [bright(colour) for colour in ink(page)] == [not is_light, is_light, is_light]
    assert seen.errors == []


def test_an_entry_of_a_legend_switches_its_lines_off_and_on(report, visit):
    page, _ = visit(report)
    figure = page.locator("figure#scores")
    marks = "[...document.querySelectorAll('figure#scores .wide [class]')].filter(one => one.getClientRects().length).length"
    before = page.evaluate(marks)
    entry = figure.locator("button.key", has_text="baseline")
    entry.click()
    assert entry.get_attribute("aria-pressed") == "false"
    assert 0 < page.evaluate(marks) < before
    entry.click()
    assert page.evaluate(marks) == before


def test_figures_are_named_for_those_who_cannot_see_them_and_headings_are_in_order(report, visit):
    page, _ = visit(report)
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.evaluate(
        "[...document.querySelectorAll('.panel')].every(one => one.getAttribute('aria-label').length > 10)"
    )
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4, h5')].map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


CONTRAST = """
() => {
  const shade = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(Number).map((v) => v / 255)
      .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!colour.endsWith(", 0)")) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const poor = [];
  for (const one of document.querySelectorAll("main *:not(.panel *), nav *")) {
    const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !one.getClientRects().length) continue;
    const [a, b] = [shade(getComputedStyle(one).color), shade(behind(one))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(`${one.tagName}.${one.className}: ${one.textContent.slice(0, 30)}`);
  }
  return poor;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_what_is_behind_it(report, visit, scheme):
    """By 4.5 to 1 at least: WCAG's AA."""
    page, _ = visit(report, color_scheme=scheme)
    assert page.evaluate(CONTRAST) == []


def test_on_paper_every_figure_is_drawn(report, visit, tmp_path):
    page, seen = visit(report, color_scheme="dark")
    page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    pages = (tmp_path / "report.pdf").read_bytes().count(b"/Type /Page\n")
    assert pages > 3
    assert every_figure_is_drawn(page)
    assert seen.errors == []
    assert not bright(page.evaluate("getComputedStyle(document.body).backgroundColor"))  # and then dark again


def test_on_paper_no_name_is_a_column_of_letters(report, visit):
    """However many columns stand beside it."""
    page, _ = visit(report)
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 400, "height": 1000})
    names = page.locator("#answer tbody th")
    assert names.count()
    assert min(names.nth(place).bounding_box()["width"] for place in range(names.count())) > 60


def test_a_thousand_runs_open(tmp_path, visit, capsys):
    address = written(large_study(tmp_path / "wide"))
    begin = time.monotonic()
    page, seen = visit(address)
    page.wait_for_selector(".panel svg")
    opened = time.monotonic() - begin
    with capsys.disabled():
        size = (tmp_path / "wide" / "report" / "index.html").stat().st_size / 1e6
        sys.stdout.write(f"\n1,000 runs: {size:.1f} MB, the first figure after {opened:.2f} s\n")
    assert every_figure_is_drawn(page)
    assert seen.errors == []
    page.locator("#runs summary").click()
    assert page.locator("#runs tbody tr").count() == 1000
    assert page.evaluate("document.documentElement.scrollWidth") == WIDE["width"]
