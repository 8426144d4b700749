"""A grid's report as people see it: the order of its values, its figures, and its page in a browser."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Page

from advfeat.planning import build_grid_plan, grid_report
from advfeat.planning.forms import GRIDS
from advfeat.planning.grid import points
from advfeat.report.grid_figures import tile_colours
from advfeat.report.grid_html import GridContent, draw, render_grid
from advfeat.report.grid_story import lanes, main_axis, said_once
from advfeat.report.groups import axis_values, groups
from advfeat.report.numbers import percent
from advfeat.report.rows import Cost, Row, read_rows, robust_balls
from advfeat.report.verdicts import predicted_of_places
from advfeat.storage import Store
from tests.browser import DESK, PHONE, browser_page, needs_browser, on_first_screen, show
from tests.inline import compute
from tests.page_checks import CLIPPED, OVERLAPPING, PALE, WITHOUT_TEXT
from tests.test_grid import SMALL
from tests.test_verdict import row_of

ROW = row_of("d_det", [0.5], attack_success=0.9)
OPENED = "document.querySelectorAll('details').forEach(each => { each.open = true })"


def at(axes: dict[str, Any], accuracy: float = 0.5, **fields: Any) -> Row:
    """Return the row of one seed at a place of a grid."""
    measured = {"test_accuracy": accuracy, "test_accuracies": (accuracy,), "ci95": (accuracy, accuracy)}
    place = {"axes": {"data": "digits", **axes}, "command": "advfeat run"}
    return ROW.model_copy(update={**measured, **place, **fields})


def content(rows: Sequence[Row], **fields: Any) -> GridContent:
    """Return what a grid's report shows of rows alone."""
    cost = Cost(seconds=1, core_hours=1, bytes=1)
    known: dict[str, Any] = {
        **{"title": "a grid", "missing": 0, "losses": {}, "transfers": (), "confusions": {}, "examples": {}},
        **{"planes": {}, "total": cost, "experiment": {}, "lineages": {}, "digests": {}},
    }
    costed = [row.model_copy(update={"cost": cost}) for row in rows]
    return GridContent(rows=costed, **{**known, **fields})


@given(st.lists(st.one_of(st.integers(0, 99), st.floats(0, 9)), min_size=1, max_size=6, unique_by=float))
def test_numbers_on_an_axis_stand_in_their_order_however_they_are_written(values: list[float]) -> None:
    rows = [at({"eps": value, "seed": 0}) for value in values]
    assert axis_values(rows, "eps") == sorted(values)
    assert [group.axes["eps"] for group in groups(rows)] == sorted(values)
    assert [lane.name for lane in lanes([at({"eps": str(v), "seed": 0}) for v in values])] == (
        [f"eps {value}" for value in sorted(values)] if len(values) > 1 else ["d_det"]
    )


def test_fractions_are_numbers_and_names_keep_their_order() -> None:
    rows = [
        at({"eps": eps, "net": net, "seed": 0}) for eps, net in (("8/255", "c"), ("0.5", "a"), ("1/255", "b"))
    ]
    assert axis_values(rows, "eps") == ["1/255", "8/255", "0.5"]
    assert axis_values(rows, "net") == ["c", "a", "b"]


def test_radii_stand_in_their_order_whichever_the_attack_has() -> None:
    radii = {"L2 0.5": 0.4, "L2 0.25": 0.6, "L2 10": 0.0, "L-infinity 0.1": 0.2, "L2 2": 0.1}
    rows = [at({"seed": 0}, robust_accuracies=radii)]
    assert robust_balls(rows) == ["L2 0.25", "L2 0.5", "L2 2", "L2 10", "L-infinity 0.1"]


@given(st.floats(0, 100))
def test_every_number_on_a_tile_can_be_read(value: float) -> None:
    tile, text = tile_colours(value)

    def luminance(colour: Sequence[float]) -> float:
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return float(np.dot(parts, (0.2126, 0.7152, 0.0722)))

    light, dark = sorted([luminance(tile), {"black": 0.0, "white": 1.0}[text]], reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5
    assert tile[0] <= tile[2] + 1e-9, "no yellow"


def test_the_published_figure_stands_at_the_place_that_is_nearest_to_it() -> None:
    near, far = ("data.source",), ("data.source", "attack.eps")
    rows = [
        at({"eps": eps, "seed": 0}, published_differs=near if eps == 0.5 else far) for eps in (2.0, 0.5, 1.0)
    ]
    figure = rows[0].published
    assert figure is not None
    assert [lane.published for lane in lanes(rows)] == [(figure.test_accuracy, figure.setting), None, None]
    alike = [at({"eps": eps, "seed": 0}, eps / 4, published_differs=far) for eps in (0.5, 2.0, 1.0)]
    assert [lane.published is not None for lane in lanes(alike)] == [False, False, True], (
        "the highest of several"
    )


def test_of_many_places_the_figure_shows_the_axis_that_matters_with_every_place() -> None:
    rows = [
        at({"eps": eps, "steps": steps, "seed": 0}, 0.1 * eps) for eps in (8, 4, 2) for steps in range(12)
    ]
    assert main_axis(rows) == "eps"
    found = lanes(rows)
    assert [lane.name for lane in found] == ["eps 2", "eps 4", "eps 8"]
    assert [len(lane.points) for lane in found] == [12, 12, 12]
    assert [lane.mean for lane in found] == pytest.approx([0.2, 0.4, 0.8])
    assert [lane.ci95 for lane in found] == [None] * 3, "of one seed"
    page = render_grid(content(rows), draw(content(rows)))
    assert "mean over the other axes" in page


def test_what_all_rows_share_is_said_once() -> None:
    first = "digits (1,258 images, tested on 539), cnn (12 epochs), L2 0.5, 20 steps"
    rows = [at({"seed": 0}, setting=first), at({"seed": 0}, setting=first.replace("0.5", "1.5"))]
    assert said_once(rows) == "digits (1,258 images, tested on 539), cnn (12 epochs), 20 steps"


def test_a_claim_says_the_chance_of_every_place_and_one_seed_only_where_there_is_one() -> None:
    digits = [at({"eps": 1, "seed": seed}, chance=0.102) for seed in (0, 1)]
    mnist = [at({"data": "mnist", "eps": 1, "seed": seed}, chance=0.114) for seed in (0, 1)]
    assert predicted_of_places(groups(digits)) == "above chance (10.2 %)"
    assert predicted_of_places(groups(digits + mnist)) == "above chance (10.2 % to 11.4 %, by place)"
    assert "one seed: above 19.2 %" in predicted_of_places(groups(digits[:1]))


def test_no_robustness_is_not_contradicted_where_nothing_tells_what_any_network_keeps() -> None:
    robust: dict[str, Any] = {"robust": False, "robust_accuracy": 0.6, "robust_ci95": (0.55, 0.65)}
    (place,) = groups([at({"eps": 1, "seed": 0}, **robust)])
    assert (place.robustness_verdict, place.verdict) == ("not tested", "not tested")
    assert place.verdict_reason == "a grid has no clean to compare with"


def test_a_page_does_not_grow_without_end() -> None:
    rows = [
        at({"eps": eps / 10, "steps": steps, "seed": seed}, min(1.0, eps / 20))
        for eps in range(20)
        for steps in range(10)
        for seed in range(5)
    ]
    digests = {f"{number}/{role}": "ab" * 32 for number in range(1000) for role in ("dataset", "evaluation")}
    shown = content(rows, digests=digests, missing=7)
    page = render_grid(shown, draw(shown))
    assert len(page) < 1_500_000
    assert "7 further experiments failed" in page
    assert "The first 500 of 1000 rows" in page
    assert "200 places" in page


@pytest.fixture(scope="module")
def finished(shared_store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Row]]:
    """A grid of two axes and two seeds, as a file and its rows."""
    form = {"eps": (1.5, 0.5), "steps": (5, 2), "seeds": (0, 1), "settings": SMALL[:-1]}
    found = points("d_det", GRIDS["d_rand"].model_validate(form))
    plan = build_grid_plan(found)
    report = grid_report("eps and steps", found, plan.made_of)
    for stage in (*plan.stages, report):
        compute(stage, shared_store)
    path = tmp_path_factory.mktemp("grid") / "report.html"
    path.write_bytes(shared_store.read(report.digest, "report.html"))
    return path, read_rows(shared_store, report.digest)


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with browser_page(height=DESK[1]) as page:
        yield page


@needs_browser
@pytest.mark.servers
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [DESK, PHONE])
def test_number_and_figure_are_seen_at_once_and_all_can_be_read(
    browser: Page, finished: tuple[Path, list[Row]], screen: tuple[int, int], scheme: str
) -> None:
    path, rows = finished
    browser.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    show(browser, path, screen)
    best = max(groups(rows), key=lambda place: place.mean)
    assert browser.locator(".headline .number").inner_text() == percent(best.mean)
    said = browser.locator(".headline").inner_text()
    assert f"at eps {best.axes['eps']}, steps {best.axes['steps']}" in said
    assert f"{percent(best.ci95[0])} to {percent(best.ci95[1])}" in said
    for part in (".headline", ".verdicts", ".accuracies"):
        assert on_first_screen(browser, part), part
    browser.evaluate(OPENED)
    assert browser.evaluate("document.documentElement.scrollWidth") == screen[0]
    for check in (PALE, CLIPPED, OVERLAPPING, WITHOUT_TEXT):
        assert browser.evaluate(check) == []


@needs_browser
@pytest.mark.servers
def test_the_figure_has_every_place_in_order_every_seed_and_every_mark_explained(
    browser: Page, finished: tuple[Path, list[Row]]
) -> None:
    path, rows = finished
    show(browser, path, DESK)
    names = browser.locator(".bars .name").all_inner_texts()
    assert names == [f"eps {eps}, steps {steps}" for eps in (0.5, 1.5) for steps in (2, 5)]
    assert browser.locator(".bars .seed").count() == len(rows)
    legend = browser.locator(".legend").inner_text()
    marks = {
        "bar": "mean",
        "reach": "interval",
        "seed": "one seed",
        "chance": "chance",
        "published": "published",
    }
    for mark, word in marks.items():
        assert browser.locator(f".bars .track .{mark}").count() > 0
        assert word in legend
    assert browser.locator(".bars .track .control").count() == 0
    assert "control" not in legend
    chart = browser.locator(".chart", has=browser.locator("svg")).first
    assert chart.get_attribute("aria-label") or chart.get_attribute("role") == "img"


@needs_browser
@pytest.mark.servers
def test_a_confusion_matrix_is_of_one_place_and_says_which(
    browser: Page, finished: tuple[Path, list[Row]]
) -> None:
    path, rows = finished
    show(browser, path, DESK)
    best = max(groups(rows), key=lambda place: place.mean)
    titles = browser.locator("#confusions h3").all_text_contents()
    assert titles == [f"eps {best.axes['eps']}, steps {best.axes['steps']}: sum over 2 seeds"]


@needs_browser
@pytest.mark.servers
def test_the_table_has_the_accuracy_first_and_few_columns(
    browser: Page, finished: tuple[Path, list[Row]]
) -> None:
    path, rows = finished
    show(browser, path, DESK)
    heads = browser.locator("#results th").all_inner_texts()
    assert [re.sub(r"\s+", " ", head) for head in heads] == [
        *("eps, pixels in [0, 1]", "steps", "test accuracy [95 % interval]", "verdict on the claim"),
        "attack success",
    ]
    assert "Seeds: 0, 1." in browser.locator("#results small").last.inner_text()
    shown = browser.locator("#results tbody tr")
    for number, place in enumerate(groups(rows)):
        words = shown.nth(number).inner_text()
        assert percent(place.mean) in words
        assert place.verdict in words
