"""The transfer matrix of a grid: who falls for whose examples, who learns from them, how both go together."""

import io
import json
from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from advfeat.datasets.stored_rows import stored_tables
from advfeat.evaluation import predict
from advfeat.files.tables import image_array, int_array
from advfeat.flows.command_line.table import print_grid
from advfeat.planning import build_grid_plan, build_plan, grid_report, load_experiment, load_grid, points
from advfeat.report.correlation import correlate
from advfeat.report.rows import Row, read_rows
from advfeat.report.transfer import transfer_matrices, transfer_record
from advfeat.report.verdict import Verdict
from advfeat.report.verdicts import correlation_lines
from advfeat.stages.model import read_model
from advfeat.storage import Stage, Store
from tests.inline import compute

SOURCES, TARGETS = ("mlp", "cnn"), ("mlp", "cnn", "resnet9")
GRID = (
    f"source_model=[{','.join(SOURCES)}]",
    f"target_model=[{','.join(TARGETS)}]",
    *("seeds=[0]", "data.train_size=192", "data.test_size=200", "attack.steps=4"),
    *("source.epochs=5", "target.epochs=2", "source.width=16", "target.width=8"),
)


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Stage]:
    """Two sources, three targets, as fast as they come."""
    store = Store(str(tmp_path_factory.mktemp("store")))
    return store, computed_report(GRID, store)


def computed_report(assignments: tuple[str, ...], store: Store) -> Stage:
    """Compute a grid of ``transfer``, its report too."""
    places = points("transfer", load_grid("transfer", assignments))
    plan = build_grid_plan(places)
    report = grid_report("transfer", places, plan.made_of)
    for stage in (*plan.stages, report):
        compute(stage, store)
    return report


@pytest.fixture(scope="module")
def rows(computed: tuple[Store, Stage]) -> list[Row]:
    return read_rows(computed[0], computed[1].digest)


def test_each_cell_is_what_the_targets_network_makes_of_the_sources_examples(
    computed: tuple[Store, Stage], rows: list[Row]
) -> None:
    store, report = computed
    (matrix,) = transfer_matrices(rows)
    assert (tuple(matrix.sources), tuple(matrix.targets), dict(matrix.place)) == (SOURCES, TARGETS, {})
    for number, row in enumerate(rows):
        place = SOURCES.index(str(row.source_model)), TARGETS.index(str(row.target_model))
        network = read_model(store, report.inputs[f"{number}/reference_model"])
        examples = pa.concat_tables(stored_tables(store, report.inputs[f"{number}/dataset"]))
        predictions = predict(network, torch.from_numpy(image_array(examples, np.float32)))
        assert matrix.rates[place] == np.mean(predictions == int_array(examples, "label"))
        assert matrix.accuracies[place] == row.test_accuracy


def test_the_same_examples_are_given_to_every_target(computed: tuple[Store, Stage]) -> None:
    inputs = computed[1].inputs
    data_sets = [inputs[f"{number}/dataset"] for number in range(len(SOURCES) * len(TARGETS))]
    assert [len(set(data_sets[start : start + 3])) for start in (0, 3)] == [1, 1]
    assert len(set(data_sets)) == 2
    sources = {inputs[f"{number}/source_model"] for number in range(6)}
    assert not sources & {inputs[f"{number}/reference_model"] for number in range(6)}, "also of one kind"


def test_the_report_has_it_as_table_figure_csv_and_json(
    computed: tuple[Store, Stage], rows: list[Row], capsys: pytest.CaptureFixture[str]
) -> None:
    store, report = computed
    (matrix,) = transfer_matrices(rows)
    pairs = pd.read_csv(io.BytesIO(store.read(report.digest, "transfer.csv")))
    assert pairs["transfer_rate"].tolist() == pytest.approx(matrix.rates.ravel())
    assert pairs["test_accuracy"].tolist() == pytest.approx(matrix.accuracies.ravel())
    (record,) = json.loads(store.read(report.digest, "transfer.json"))
    assert np.allclose(record["transfer_rates"], matrix.rates)
    page = store.read(report.digest, "report.html").decode()
    for source, rates, accuracies, found in zip(
        SOURCES, matrix.rates, matrix.accuracies, record["correlation_by_source"], strict=True
    ):
        assert found["points"] == len(TARGETS)
        assert found["r"] == pytest.approx(np.corrcoef(rates, accuracies)[0, 1])
        cells = page.partition(f"<tr><td>{source}</td>")[2].partition("</tr>")[0]
        for rate, accuracy in zip(rates, accuracies, strict=True):
            assert f"<b>{100 * rate:.1f} %</b><small>learned {100 * accuracy:.1f} %</small>" in cells
        verdict = '<span class="verdict open">open</span>'
        assert f"r = {found['r']:.2f}, 3 points<br>{verdict}" in cells
    assert record["verdict_by_source"] == ["open", "open"], "three architectures have no interval"
    assert "transfer rate, %" in page, "the heat map's title"
    assert "Transfer matrix" in json.loads(store.read(report.digest, "pictures.json"))
    over_all = np.corrcoef(matrix.rates.ravel(), matrix.accuracies.ravel())[0, 1]
    print_grid("transfer", rows)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"Transfer rate against test accuracy: r = {over_all:.2f} [" in printed
    for source, found in zip(SOURCES, record["correlation_by_source"], strict=True):
        claim = f"of the examples made with {source}, architectures that fall for more learn more"
        seen = f"Seen: r = {found['r']:.2f}, 3 points, of which an interval takes four. Verdict: open."
        assert f"Claim: {claim}. Predicted: r above 0. {seen}" in printed


def test_other_axes_make_matrices_of_their_own(rows: list[Row]) -> None:
    weaker = [row.model_copy(update={"axes": {**row.axes, "eps": 0.5}}) for row in rows]
    stronger = [row.model_copy(update={"axes": {**row.axes, "eps": 2.0}}) for row in rows]
    all_fooled = [row.model_copy(update={"transfer_rate": 1.0}) for row in stronger]
    matrices = transfer_matrices([*weaker, *all_fooled])
    assert [matrix.title for matrix in matrices] == ["eps 0.5", "eps 2.0"]
    assert matrices[0].rates.tolist() == transfer_matrices(rows)[0].rates.tolist()
    assert (matrices[1].rates == 1).all()
    assert matrices[1].over_all is None, "what is the same everywhere goes with nothing"


def test_a_pair_that_is_missing_is_no_zero(rows: list[Row]) -> None:
    (matrix,) = transfer_matrices(rows[:-1])
    assert np.isnan(matrix.rates).tolist() == [[False] * 3, [False, False, True]]
    assert matrix.by_source[1] is None, "of two points"
    assert transfer_matrices(rows[:1]) == []
    assert transfer_matrices([row.model_copy(update={"transfer_rate": None}) for row in rows]) == []


@pytest.mark.slow
def test_architectures_that_fall_for_more_learn_more(local_store: Store) -> None:
    """The claim itself, with the networks of the preset; which architecture that is depends on the source."""
    axes = ("source_model=[cnn,mlp]", "target_model=[mlp,cnn,resnet9]", "eps=1.0", "seeds=[0]")
    (matrix,) = transfer_matrices(read_rows(local_store, computed_report(axes, local_store).digest))
    (from_cnn, from_mlp), (learned_from_cnn, learned_from_mlp) = matrix.rates, matrix.accuracies
    print(matrix.rates, matrix.accuracies, matrix.by_source)
    assert from_cnn[0] < from_cnn[1:].min(), "a perceptron is the least like a convolutional network"
    assert learned_from_cnn[0] + 0.05 < learned_from_cnn[1:].min()
    assert from_mlp[0] > 1.5 * from_mlp[1:].max(), "and the most like another perceptron"
    assert learned_from_mlp[0] > learned_from_mlp[1:].mean() + 0.01
    assert all(found is not None and found.r > 0.5 for found in matrix.by_source)


def with_figures(rows: list[Row], figures: list[tuple[float, float]]) -> list[Row]:
    """Give copies of a row an architecture each, with these transfer rates and accuracies."""
    return [
        rows[0].model_copy(
            update={
                "target_model": f"net {number}",
                "axes": {**rows[0].axes, "target_model": f"net {number}"},
                "transfer_rate": rate,
                "test_accuracy": accuracy,
            }
        )
        for number, (rate, accuracy) in enumerate(figures)
    ]


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ([(0.1, 0.2), (0.2, 0.32), (0.3, 0.38), (0.4, 0.5), (0.5, 0.61)], "as claimed"),
        ([(0.1, 0.61), (0.2, 0.5), (0.3, 0.38), (0.4, 0.32), (0.5, 0.2)], "contrary"),
        ([(0.1, 0.4), (0.2, 0.2), (0.3, 0.6), (0.4, 0.3), (0.5, 0.5)], "open"),
        ([(0.1, 0.2), (0.2, 0.32), (0.3, 0.38)], "open"),
        ([(0.3, 0.2), (0.3, 0.32), (0.3, 0.38), (0.3, 0.5)], "open"),
    ],
)
def test_the_verdict_says_whether_who_falls_for_more_learns_more(
    rows: list[Row], figures: list[tuple[float, float]], verdict: Verdict
) -> None:
    (matrix,) = transfer_matrices(with_figures(rows, figures))
    assert matrix.verdicts == [verdict]
    (line,) = correlation_lines(matrix)
    assert line.endswith(f"Verdict: {verdict}.")
    assert transfer_record(matrix)["verdict_by_source"] == [verdict]


def test_of_examples_that_should_not_teach_nothing_is_claimed(rows: list[Row]) -> None:
    bugs = [row.model_copy(update={"recipe": "bugs_only", "teaches": False}) for row in rows]
    (matrix,) = transfer_matrices(bugs)
    assert matrix.verdicts is None
    assert correlation_lines(matrix) == []
    assert transfer_record(matrix)["verdict_by_source"] is None


@pytest.mark.parametrize(("recipe", "dataset_of"), [("transfer", "d_det"), ("transfer_d_rand", "d_rand")])
def test_it_shares_images_data_set_and_networks_with_the_recipe_that_it_measures(
    recipe: str, dataset_of: str
) -> None:
    plan = build_plan(load_experiment("digits", [f"recipes=[{dataset_of},{recipe}]", "seeds=[0]"]))
    inputs = plan.report.inputs
    for role in ("source_model", "dataset", "target_model"):
        assert inputs[f"{recipe}/0/{role}"] == inputs[f"{dataset_of}/0/{role}"]
    kinds = Counter(stage.kind for stage in plan.stages)
    assert kinds["dataset"] == kinds["target_model"] == 1
    assert (kinds["source_model"], kinds["evaluation"]) == (2, 2), "the reference model, and its rate"


@pytest.mark.parametrize(
    ("first", "second", "r"),
    [
        ([0.1, 0.2, 0.3], [1.0, 2.0, 3.0], 1.0),
        ([0.1, 0.2, 0.3, 0.4], [4.0, 3.0, 2.0, 1.0], -1.0),
        ([0.1, np.nan, 0.2, 0.3], [1.0, 9.0, 2.0, 3.0], 1.0),
        ([0.1, 0.2, np.nan], [1.0, 2.0, 3.0], None),
        ([0.5, 0.5, 0.5], [1.0, 2.0, 3.0], None),
    ],
)
def test_correlation(first: list[float], second: list[float], r: float | None) -> None:
    found = correlate(np.array(first), np.array(second))
    assert (found and found.r) == (r and pytest.approx(r))


def test_the_interval_of_a_correlation_is_fishers() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=20)
    second = first + rng.normal(size=20)
    found = correlate(first, second)
    assert found is not None
    z, reach = np.arctanh(found.r), 1.959964 / np.sqrt(17)
    assert found.ci95 == pytest.approx((np.tanh(z - reach), np.tanh(z + reach)))
