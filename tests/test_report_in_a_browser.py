"""The report as people see it: on a desk, on a phone, in the dark, on paper, and read aloud."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from advfeat.planning import build_plan, load_experiment
from advfeat.report.numbers import percent
from advfeat.report.rows import Row, read_rows
from advfeat.storage import Store
from tests.browser import DESK, PHONE, browser_page, needs_browser, on_first_screen, show
from tests.inline import compute_all
from tests.page_checks import CLIPPED, OVERLAPPING, PALE, WITHOUT_TEXT
from tests.test_report import EXPERIMENT

pytestmark = [needs_browser, pytest.mark.servers]

PAPER = (718, 1000)
"""A4 between its margins, in pixels of CSS."""

OPENED = "document.querySelectorAll('details').forEach(each => { each.open = true })"


@pytest.fixture(scope="module")
def finished(shared_store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Row]]:
    """A finished run's report as a file, and its rows."""
    plan = build_plan(load_experiment("digits", EXPERIMENT))
    compute_all(plan, shared_store)
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_bytes(shared_store.read(plan.report.digest, "report.html"))
    return path, read_rows(shared_store, plan.report.digest)


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with browser_page(height=DESK[1]) as page:
        yield page


@pytest.fixture
def page(browser: Page, finished: tuple[Path, list[Row]]) -> Page:
    browser.emulate_media(color_scheme="light", media="screen")
    show(browser, finished[0], DESK)
    return browser


@pytest.mark.parametrize("screen", [DESK, PHONE])
def test_main_number_interval_verdict_and_figure_are_on_the_first_screen(
    page: Page, finished: tuple[Path, list[Row]], screen: tuple[int, int]
) -> None:
    path, rows = finished
    show(page, path, screen)
    main = next(row for row in rows if row.recipe == "d_rand")
    number = page.locator(".headline .number")
    assert number.inner_text() == percent(main.test_accuracy)
    size = "element => parseFloat(getComputedStyle(element).fontSize)"
    assert number.evaluate(size) >= 3 * page.locator("body").evaluate(size)
    said = page.locator(".headline").inner_text()
    assert f"95 % interval {percent(main.ci95[0])} to {percent(main.ci95[1])}, over 2 seeds" in said
    assert page.locator(".headline .verdict").inner_text() == main.verdict
    for part in (".headline", ".verdicts", ".accuracies"):
        assert on_first_screen(page, part), part


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [DESK, PHONE])
def test_all_of_it_can_be_read(
    page: Page, finished: tuple[Path, list[Row]], screen: tuple[int, int], scheme: str
) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    show(page, finished[0], screen)
    page.evaluate(OPENED)
    assert page.evaluate(PALE) == []
    assert page.evaluate(CLIPPED) == []
    assert page.evaluate(OVERLAPPING) == []
    assert page.evaluate("document.documentElement.scrollWidth") == screen[0]
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")


def test_every_picture_has_a_text(page: Page, finished: tuple[Path, list[Row]]) -> None:
    page.evaluate(OPENED)
    assert page.evaluate(WITHOUT_TEXT) == []
    for row in finished[1]:
        bar = page.get_by_role("img", name=f"{row.recipe}: {percent(row.test_accuracy)}")
        assert bar.count() == 1, "the figure says its numbers"


def test_the_figure_shows_each_seed_control_and_published_value_at_their_places(
    page: Page, finished: tuple[Path, list[Row]]
) -> None:
    middles = (
        "(row, selector) => { const lane = row.querySelector('.lane').getBoundingClientRect();"
        " return [...row.querySelectorAll('.lane ' + selector)].map(mark => {"
        " const box = mark.getBoundingClientRect();"
        " return ((box.left + box.right) / 2 - lane.left) / lane.width }) }"
    )
    for row in finished[1]:
        shown = page.locator(".bars > li").filter(has=page.get_by_text(row.recipe, exact=True)).first
        element = shown.element_handle()
        wanted = {
            ".seed": row.test_accuracies,
            ".control": () if row.control_accuracy is None else (row.control_accuracy,),
            ".published": () if row.published is None else (row.published.test_accuracy,),
            ".chance": (row.chance,),
        }
        for mark, values in wanted.items():
            places = page.evaluate(f"row => ({middles})(row, '{mark}')", element)
            assert places == pytest.approx(list(values), abs=0.004), (row.recipe, mark)
        assert shown.locator(".value").inner_text() == percent(row.test_accuracy)
        if row.published is not None:
            beside = shown.locator("span.published").inner_text()
            assert percent(row.published.test_accuracy) in beside
            assert row.published.setting in beside
    legend = page.locator(".legend").inner_text()
    for mark in ("mean", "95 % interval", "one seed", "chance", "control", "published"):
        assert mark in legend


def test_the_contents_lead_to_each_section_and_open_it(page: Page) -> None:
    links = page.locator("nav a")
    assert links.count() >= 10
    shut = "element => element.closest('details:not([open])') !== null"
    for link in links.all():
        section = page.locator(f"[id='{(link.get_attribute('href') or '').removeprefix('#')}']")
        folded = section.evaluate("element => element.closest('details') !== null")
        assert section.evaluate(shut) == folded
        link.click()
        assert not section.evaluate(shut)
        assert section.evaluate("element => element.getBoundingClientRect().top < innerHeight")


def test_pictures_are_enough_in_a_row_and_unsmoothed(page: Page, finished: tuple[Path, list[Row]]) -> None:
    for screen, in_a_row in ((DESK, 8), (PHONE, 4)):
        show(page, finished[0], screen)
        shown = page.locator("#pictures .example")
        assert shown.count() == 8
        tops = shown.evaluate_all("all => all.map(each => each.getBoundingClientRect().top)")
        assert tops.count(tops[0]) == in_a_row
    images = page.locator("#pictures img")
    assert images.count() == 3 * 8, "original, perturbation and adversarial image"
    for style in images.evaluate_all("all => all.map(each => getComputedStyle(each).imageRendering)"):
        assert style == "pixelated"


def test_print_shows_what_is_folded_away(page: Page, finished: tuple[Path, list[Row]]) -> None:
    page.emulate_media(media="print", color_scheme="light")
    show(page, finished[0], PAPER)
    folded = page.locator(".folded")
    assert folded.count() >= 8
    for number in range(folded.count()):
        assert folded.nth(number).evaluate(
            "element => element.checkVisibility({contentVisibilityAuto: true}) && element.offsetHeight > 10"
        )
    assert page.evaluate(CLIPPED) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PAPER[0]
    assert page.evaluate(PALE) == []


def test_the_checks_find_what_is_wrong(browser: Page) -> None:
    browser.emulate_media(color_scheme="light", media="screen")
    browser.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    browser.set_content(
        '<body style="margin: 0"><p style="color: #999">pale</p><p style="color: #555">dark enough</p>'
        '<p style="background: #333"><b style="color: rgb(255 255 255 / 40%)">pale, too</b></p>'
        '<div style="width: 600px">too wide</div><div class="scroll" style="overflow: auto">'
        '<div style="width: 600px">in a box that scrolls</div></div>'
        '<img src="data:," alt=""><img src="data:," alt="said"><svg aria-label="no role"></svg>'
        '<ul class="bars"><li style="display: flex"><b style="margin-right: -1em">one</b><i>two</i></li></ul>'
    )
    assert [text.partition(":")[0] for text in browser.evaluate(PALE)] == ["pale", "pale, too"]
    assert [text.partition(": ")[2] for text in browser.evaluate(CLIPPED)] == ["too wide"]
    assert len(browser.evaluate(WITHOUT_TEXT)) == 2
    assert browser.evaluate(OVERLAPPING) == ["one and two"]
