"""The report: one file that needs no network, whose numbers are those of the evaluations."""

import html
import io
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
import yaml

from advfeat.datasets.lineage import lineage, lineage_text
from advfeat.planning import Experiment, Plan, build_plan, load_experiment
from advfeat.report.controls import control
from advfeat.report.intervals import wilson_interval
from advfeat.report.numbers import percent
from advfeat.report.rows import Row, read_rows
from advfeat.report.verdict import highest_of_no_lesson
from advfeat.storage import Store
from tests.inline import compute_all

EXPERIMENT = (
    *("seeds=[0,1]", "data.train_size=256", "name=<b>bold</b> & co", "data.test_size=200"),
    *("source.epochs=3", "target.epochs=3", "attack.steps=5"),
    "evaluation={attack: {eps: 0.25, steps: 2}, further_eps: [1.0]}",
)


@pytest.fixture(scope="module")
def computed(shared_store: Store) -> tuple[Store, Plan]:
    plan = build_plan(load_experiment("digits", EXPERIMENT))
    compute_all(plan, shared_store)
    return shared_store, plan


@pytest.fixture(scope="module")
def page(computed: tuple[Store, Plan]) -> str:
    store, plan = computed
    return store.read(plan.report.digest, "report.html").decode()


def section(page: str, name: str) -> str:
    """Return a section of the page by its id."""
    _, _, found = page.partition(f' id="{name}">')
    return found.partition("</details>")[0]


class Addresses(HTMLParser):
    """Collects what a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.images = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.images += tag == "img"
        self.found += [value or "" for name, value in attrs if name in {"src", "href", "xlink:href"}]
        assert tag not in {"script", "link", "iframe"}


@pytest.mark.slow
def test_it_is_one_file_without_network(page: str) -> None:
    addresses = Addresses()
    addresses.feed(page)
    assert addresses.images > 20
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in addresses.found)
    assert "url(http" not in page


def test_it_shows_the_table_and_the_digests(page: str, computed: tuple[Store, Plan]) -> None:
    store, plan = computed
    for row in read_rows(store, plan.report.digest):
        assert re.search(rf"<b>{row.recipe}</b>.*?{100 * row.test_accuracy:.1f} %", page, re.DOTALL)
        if row.published is not None:
            assert row.published.source in page
    for stage in plan.stages:
        if stage.kind in {"dataset", "evaluation", "images", "source_model"}:
            assert stage.digest in page
    assert page.count("perturbation ×") == 16, "eight examples for d_rand and for d_det"


def share_of_commonest_class(store: Store, plan: Plan) -> float:
    """Return what calling every test image the same gets right at most, above a tenth as counts differ."""
    predictions = pd.read_parquet(
        io.BytesIO(store.read(plan.report.inputs["clean/0/evaluation"], "predictions.parquet"))
    )
    share = float(predictions["label"].value_counts(normalize=True).max())
    assert 0.1 < share < 0.2
    return share


def test_each_claim_stands_with_its_prediction_and_what_was_seen(
    page: str, computed: tuple[Store, Plan]
) -> None:
    store, plan = computed
    text = store.read(plan.report.digest, "report.md").decode()
    claims = section(page, "claims")
    chance = share_of_commonest_class(store, plan)
    most = highest_of_no_lesson(chance)
    predictions = {
        "d_det": f"above chance ({percent(chance)})",
        "shuffled": f"chance ({percent(chance)}) or less, in any case below {percent(most)}",
    }
    for row in read_rows(store, plan.report.digest):
        if row.recipe in predictions:
            seen = f"{100 * row.test_accuracy:.1f} % (95 % interval over seeds: {100 * row.ci95[0]:.1f} %"
            (line,) = [
                line for line in text.splitlines() if line.startswith(f"- `{row.recipe}`: {row.summary}")
            ]
            cells = claims.partition(f"<b>{row.recipe}</b>")[2].partition("</tr>")[0]
            for part in (predictions[row.recipe], seen, row.verdict):
                assert part in line
                assert part in cells
    assert "attack success" in claims.partition("<b>d_det</b>")[2].partition("</tr>")[0]


def test_controls_settings_and_radii_are_columns(page: str, computed: tuple[Store, Plan]) -> None:
    store, plan = computed
    text = store.read(plan.report.digest, "report.md").decode()
    rows = {row.recipe: row for row in read_rows(store, plan.report.digest)}
    for recipe, row in rows.items():
        assert row.setting is not None
        line = next(line for line in text.splitlines() if line.startswith(f"| `{recipe}`"))
        cells = section(page, "results").partition(f"<b>{recipe}</b>")[2].partition("</tr>")[0]
        for part in (row.setting, control(row)):
            assert part in line
        assert section(page, "settings").count(f"<dd>{row.setting}</dd>") == 1, "what rows share is said once"
        reached = "" if row.control_accuracy is None else f"<small>{row.control}</small>"
        assert f"<td>{percent(row.control_accuracy)}{reached}</td>" in cells
        assert row.robust_accuracies.keys() == {"L2 0.25", "L2 1"}
        assert row.robust_accuracies["L2 0.25"] == row.robust_accuracy
        assert row.robust_accuracies["L2 1"] <= row.robust_accuracies["L2 0.25"]
        for accuracy in row.robust_accuracies.values():
            assert f"<td>{percent(accuracy)}</td>" in page
    assert rows["d_rand"].control_accuracy == rows["shuffled"].test_accuracy
    assert rows["d_det"].control_accuracy is None, "bugs_only is not in this report"
    assert "robust at<br>L2 1</th>" in page
    assert "| robust at L2 0.25 | robust at L2 1 |" in text
    assert "AutoAttack" not in page + text, "it was not asked for"


def test_each_seed_has_the_interval_of_its_test_images_and_each_class_its_accuracy(
    page: str, computed: tuple[Store, Plan]
) -> None:
    store, plan = computed
    text = store.read(plan.report.digest, "report.md").decode()
    seeds, classes = section(page, "seeds"), section(page, "classes")
    for row in read_rows(store, plan.report.digest):
        assert len(row.wilson_ci95) == len(row.test_accuracies) == 2
        assert row.ci95_over == "seeds"
        for accuracy, interval in zip(row.test_accuracies, row.wilson_ci95, strict=True):
            assert interval == pytest.approx(wilson_interval(round(200 * accuracy), 200))
            low, high = map(percent, interval)
            cells = seeds.partition(f"<b>{row.recipe}</b>")[2].partition("</tr>")[0]
            assert f'{percent(accuracy)}<small class="interval">[{low}, {high}]</small>' in cells
            assert f"{percent(accuracy)} [{low}, {high}]" in text
        cells = classes.partition(f"<b>{row.recipe}</b>")[2].partition("</tr>")[0]
        assert row.class_accuracies is not None
        shown = re.findall(r">(\d+)</td>", cells)
        assert shown == [f"{100 * accuracy:.0f}" for accuracy in row.class_accuracies if accuracy is not None]
        if row.source_errors is not None:
            assert f"({row.source_errors:,.0f}; {percent(row.source_error_agreement_by_chance)})" in text


def test_it_draws_what_the_data_sets_were_made_from(page: str, computed: tuple[Store, Plan]) -> None:
    store, plan = computed
    for recipe in ("clean", "d_rand", "d_det", "mislabeled", "shuffled"):
        drawing = lineage_text(lineage(store, plan.report.inputs[f"{recipe}/0/dataset"]))
        assert drawing in html.unescape(page)


def test_names_cannot_inject_markup(page: str) -> None:
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; co" in page
    assert "<b>bold</b>" not in page


def test_rows_are_what_the_predictions_say(computed: tuple[Store, Plan]) -> None:
    store, plan = computed
    rows = {row.recipe: row for row in read_rows(store, plan.report.digest)}
    for recipe, row in rows.items():
        accuracies = []
        for seed in (0, 1):
            digest = plan.report.inputs[f"{recipe}/{seed}/evaluation"]
            predictions = pd.read_parquet(io.BytesIO(store.read(digest, "predictions.parquet")))
            assert len(predictions) == 200
            accuracies.append(float((predictions["label"] == predictions["prediction"]).mean()))
        assert row.test_accuracies == pytest.approx(tuple(accuracies))
        assert row.test_accuracy == pytest.approx(sum(accuracies) / 2)
        assert row.ci95[0] <= row.test_accuracy <= row.ci95[1]
        assert row.chance == pytest.approx(share_of_commonest_class(store, plan))
    assert rows["d_det"].wrong_label_share == rows["mislabeled"].wrong_label_share == 1
    assert rows["clean"].wrong_label_share == 0
    assert rows["clean"].attack_success is rows["mislabeled"].attack_success is None


def test_rows_come_as_json_and_parquet_too(computed: tuple[Store, Plan]) -> None:
    store, plan = computed
    records = json.loads(store.read(plan.report.digest, "rows.json"))
    assert [Row.model_validate(record).recipe for record in records] == [
        *("clean", "d_rand", "d_det", "mislabeled", "shuffled")
    ]
    table = pd.read_parquet(io.BytesIO(store.read(plan.report.digest, "rows.parquet")))
    assert table["test_accuracy"].tolist() == [record["test_accuracy"] for record in records]


def test_attacks_that_missed_many_images_are_named_in_it(page: str, computed: tuple[Store, Plan]) -> None:
    store, plan = computed
    rows = read_rows(store, plan.report.digest)
    weak = [row for row in rows if row.attack_success is not None and row.attack_success < 0.9]
    assert weak, "five steps of an attack on a network of three epochs"
    assert {row.recipe for row in rows if row.attack_note is not None} == {row.recipe for row in weak}
    table = section(page, "results").partition("</table>")[0]
    assert table.count("<small>below 90 %</small>") == len(weak)
    recorded = json.loads(store.read(plan.report.digest, "rows.json"))
    assert [record["attack_note"] for record in recorded] == [row.attack_note for row in rows]
    frame = pd.read_parquet(io.BytesIO(store.read(plan.report.digest, "rows.parquet")))
    assert frame["attack_note"].notna().tolist() == [row in weak for row in rows]


def test_the_parameters_in_it_reproduce_it(page: str, computed: tuple[Store, Plan]) -> None:
    match = re.search(r"<pre>(.*?)</pre>", page, re.DOTALL)
    assert match is not None
    experiment = Experiment.model_validate(yaml.safe_load(html.unescape(match[1])))
    assert build_plan(experiment).report.digest == computed[1].report.digest
