"""Verdicts: a claim against an interval, with chance at a tenth."""

from collections.abc import Sequence
from typing import Any

import pytest

from advfeat.flows.command_line.table import print_grid, print_reproduction
from advfeat.planning import RecipeName, load_experiment
from advfeat.recipes import RECIPES
from advfeat.report.groups import Group
from advfeat.report.markdown import markdown_report
from advfeat.report.rows import Row, recipe_row
from advfeat.report.verdict import Verdict, correlation_verdict, robustness_verdict, verdict, verdict_of_parts
from advfeat.report.verdicts import judged, verdict_line

TEST_SIZE = 500


@pytest.mark.parametrize(
    ("teaches", "low", "high", "expected"),
    [
        (True, 0.11, 0.50, "as claimed"),
        (True, 0.09, 0.50, "open"),
        (True, 0.02, 0.09, "contrary"),
        (False, 0.05, 0.15, "as claimed"),
        (False, 0.01, 0.04, "as claimed"),  # as of Nakkiran's bugs, 2.8 %: the visible image misleads
        (False, 0.05, 0.25, "open"),
        (False, 0.11, 0.15, "contrary"),
    ],
)
def test_verdict(teaches: bool, low: float, high: float, expected: Verdict) -> None:
    assert verdict(teaches, (low, high), 0.1) == expected


@pytest.mark.parametrize(
    ("robust", "ci95", "expected"),
    [
        (True, (0.44, 0.52), "as claimed"),  # as published of D_R: 48 %
        (True, (0.09, 0.52), "open"),
        (True, (0.0, 0.01), "contrary"),
        (False, (0.0, 0.01), "as claimed"),  # as published of D_NR: 0 %
        (False, (0.0, 0.11), "open"),
        (False, (0.11, 0.20), "contrary"),
        (None, (0.11, 0.20), None),
        (True, None, None),
    ],
)
def test_verdict_on_robustness(
    robust: bool | None, ci95: tuple[float, float] | None, expected: Verdict | None
) -> None:
    assert robustness_verdict(robust, ci95, 0.1) == expected


@pytest.mark.parametrize(
    ("accuracy", "robustness", "expected"),
    [
        ("as claimed", "as claimed", "as claimed"),
        ("as claimed", "contrary", "contrary"),
        ("open", "contrary", "contrary"),
        ("contrary", "as claimed", "contrary"),
        ("as claimed", "open", "open"),
        ("as claimed", None, "as claimed"),
        ("open", None, "open"),
    ],
)
def test_verdict_on_both_parts(accuracy: Verdict, robustness: Verdict | None, expected: Verdict) -> None:
    assert verdict_of_parts(accuracy, robustness) == expected


@pytest.mark.parametrize(
    ("robust", "ordinary", "expected"),
    [
        (True, None, "as claimed"),
        (True, 0.05, "as claimed"),
        (True, 0.3, "as claimed"),
        (True, 0.5, "open"),
        (True, 0.7, "contrary"),
        (False, 0.7, "contrary"),
    ],
)
def test_robustness_is_more_than_ordinary_training_has(
    robust: bool, ordinary: float | None, expected: Verdict
) -> None:
    assert robustness_verdict(robust, (0.4, 0.6), 0.1, ordinary) == expected


@pytest.mark.parametrize(
    ("ci95", "expected"),
    [((0.1, 0.9), "as claimed"), ((-0.9, -0.1), "contrary"), ((-0.1, 0.9), "open"), (None, "open")],
)
def test_verdict_on_a_correlation(ci95: tuple[float, float] | None, expected: Verdict) -> None:
    assert correlation_verdict(ci95) == expected


def row_of(recipe: RecipeName, clean: Sequence[float], robust: Sequence[float] | None) -> Row:
    """Return the row of a recipe whose networks are right on these shares of the test images, by seed."""
    evaluations: list[dict[str, Any]] = [
        {"test_accuracy": one, "right": round(one * TEST_SIZE), "test_size": TEST_SIZE, "chance": 0.1}
        for one in clean
    ]
    for entry, accuracy in zip(evaluations, robust or (), strict=robust is not None):
        entry["robust_accuracy"] = accuracy
    seeds = f"seeds={list(range(len(clean)))}"
    return recipe_row(
        RECIPES[recipe], load_experiment("digits", [seeds]), [{"train_size": 9}] * len(clean), evaluations, []
    )


def test_a_claim_of_robustness_is_held_against_the_robust_accuracy() -> None:
    taught = row_of("robust_features", [0.84, 0.85, 0.83], [0.48, 0.50, 0.46])
    reach = 4.3027 * 0.02 / 3**0.5
    assert taught.robust_ci95 == pytest.approx((0.48 - reach, 0.48 + reach), abs=1e-5)
    assert (taught.accuracy_verdict, taught.robustness_verdict, taught.verdict) == ("as claimed",) * 3
    fragile = row_of("robust_features", [0.84, 0.85, 0.83], [0.01, 0.0, 0.02])
    assert (fragile.accuracy_verdict, fragile.robustness_verdict) == ("as claimed", "contrary")
    assert fragile.verdict == "contrary"
    unclear = row_of("non_robust_features", [0.88, 0.88, 0.89], [0.05, 0.15, 0.02])
    assert (unclear.accuracy_verdict, unclear.robustness_verdict) == ("as claimed", "open")
    assert unclear.verdict == "open"


def test_of_one_seed_the_interval_is_wilsons_over_the_test_images() -> None:
    (low, high), row = (0.0, 0.00762), row_of("non_robust_features", [0.88], [0.0])
    assert row.robust_ci95 == pytest.approx((low, high), abs=1e-5)
    assert row.ci95_over == "test images"
    assert row.robustness_verdict == "as claimed"


def test_the_line_tells_both_parts() -> None:
    line = verdict_line(row_of("robust_features", [0.84, 0.85, 0.83], [0.48, 0.50, 0.46]))
    assert line.startswith("it teaches, robustness too, as ")
    assert "Predicted: above chance (10.0 %); under attack above chance (published: 48.0 %, L2 0.25)." in line
    assert "Seen: 84.0 % (95 % interval over seeds: 81.5 % to 86.5 %); under attack 48.0 % (95 % in" in line
    assert line.endswith("Verdict: as claimed (accuracy: as claimed; robustness: as claimed).")
    other = verdict_line(row_of("non_robust_features", [0.88], [0.3]))
    assert other.startswith("it teaches, but no robustness, as ")
    assert "under attack below chance (published: 0.0 %, L2 0.25)." in other
    assert other.endswith("Verdict: contrary (accuracy: as claimed; robustness: contrary).")


def test_what_was_not_attacked_is_judged_by_its_accuracy() -> None:
    row = row_of("robust_features", [0.84, 0.85, 0.83], None)
    assert (row.verdict, row.robustness_verdict, row.robust_ci95) == ("as claimed", None, None)
    line = verdict_line(row)
    assert "under attack not measured." in line
    assert line.endswith("Verdict: as claimed (accuracy: as claimed; robustness: not measured).")


def test_where_nothing_is_claimed_of_robustness_nothing_is_judged() -> None:
    row = row_of("clean", [0.95, 0.96], [0.0, 0.01])
    assert (row.robust, row.robustness_verdict, row.verdict) == (None, None, "as claimed")
    assert row.robust_ci95 is not None, "it is a figure all the same"
    assert judged(row) == "as claimed"
    assert "attack" not in verdict_line(row)


def test_seeds_of_a_grid_are_judged_together(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        row_of("non_robust_features", [clean], [robust]).model_copy(update={"axes": {"eps": 1, "seed": seed}})
        for seed, (clean, robust) in enumerate([(0.88, 0.04), (0.89, 0.05), (0.87, 0.12)])
    ]
    group = Group({"eps": 1}, tuple(rows))
    assert [row.robustness_verdict for row in rows] == ["as claimed", "as claimed", "open"]
    assert group.robust_ci95 is not None
    assert group.robust_ci95[1] > 0.1
    assert (group.accuracy_verdict, group.robustness_verdict, group.verdict) == ("as claimed", "open", "open")
    print_grid("a grid", rows)
    printed = capsys.readouterr().out
    assert "robust accuracy" in printed
    assert "7.0 %" in printed
    assert "robustness: open" in printed


def test_reports_and_the_terminal_tell_it(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        row_of("clean", [0.95], [0.02]),
        row_of("robust_features", [0.84], [0.48]),
        row_of("non_robust_features", [0.88], [0.0]),
    ]
    print_reproduction(rows)
    text = markdown_report(rows)
    printed = " ".join(capsys.readouterr().out.split())
    for row in rows[1:]:
        assert f"- `{row.recipe}`: {row.summary}. Claim: {verdict_line(row)}" in text
        assert f"{row.recipe}: {verdict_line(row)}" in printed
    assert f"clean: {verdict_line(rows[0])}" not in printed


def test_rows_of_older_reports_can_be_read() -> None:
    record = row_of("clean", [0.95], None).model_dump()
    for later in ("robust", "robust_ci95", "accuracy_verdict", "robustness_verdict"):
        del record[later]
    assert Row.model_validate(record).verdict == "as claimed"
