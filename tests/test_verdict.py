"""Verdicts: a claim against an interval, with chance at a tenth."""

import json
from collections.abc import Sequence
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advfeat.flows.command_line.table import print_grid, print_reproduction, print_rows
from advfeat.planning import RecipeName, load_experiment
from advfeat.recipes import RECIPES
from advfeat.report.controls import with_controls
from advfeat.report.frame import rows_frame
from advfeat.report.groups import Group
from advfeat.report.html import results_table
from advfeat.report.markdown import markdown_report
from advfeat.report.rows import Row, recipe_row
from advfeat.report.verdict import (
    LEAST_SUCCESS,
    Judgement,
    Verdict,
    accuracy_verdict,
    correlation_verdict,
    highest_of_no_lesson,
    robustness_verdict,
    verdict_of_parts,
)
from advfeat.report.verdicts import judged, reasons, verdict_label, verdict_line, verdict_summary

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
    assert accuracy_verdict(teaches, (low, high), 0.1) == (expected, None)


@pytest.mark.parametrize(
    ("teaches", "low", "high", "expected"),
    [
        (True, 0.2, 0.3, "as claimed"),
        (True, 0.11, 0.50, "open"),  # above chance, but another seed may have less
        (True, 0.02, 0.09, "open"),
        (False, 0.05, 0.15, "as claimed"),
        (False, 0.05, 0.25, "open"),
        (False, 0.11, 0.15, "as claimed"),
        (False, 0.2, 0.3, "contrary"),
    ],
)
def test_one_seed_decides_against_twice_chance_alone(
    teaches: bool, low: float, high: float, expected: Verdict
) -> None:
    reason = "one seed" if expected == "open" else None
    assert accuracy_verdict(teaches, (low, high), 0.1, one_seed=True) == (expected, reason)


@pytest.mark.parametrize(
    ("teaches", "low", "high", "success", "expected"),
    [
        (True, 0.05, 0.15, 0.12, "not tested"),
        (True, 0.01, 0.02, 0.12, "not tested"),
        (True, 0.3, 0.4, 0.12, "as claimed"),  # it learned although the attack mostly failed
        (True, 0.01, 0.02, 0.5, "contrary"),
        (False, 0.05, 0.15, 0.12, "not tested"),
        (False, 0.3, 0.4, 0.12, "not tested"),
        (False, 0.05, 0.15, None, "as claimed"),
    ],
)
def test_a_claim_is_not_tested_by_an_attack_that_failed(
    teaches: bool, low: float, high: float, success: float | None, expected: Verdict
) -> None:
    reason = "attack success 12.0 %, below 50 %" if expected == "not tested" else None
    found = accuracy_verdict(teaches, (low, high), 0.1, attack_success=success)
    assert found == (expected, reason)


def test_what_does_not_teach_two_classes_is_not_right_on_all_of_them() -> None:
    assert highest_of_no_lesson(0.5) == pytest.approx(0.55)
    assert highest_of_no_lesson(0.01) == pytest.approx(0.02)
    assert accuracy_verdict(False, (0.7, 0.9), 0.5).verdict == "contrary"
    assert accuracy_verdict(False, (0.45, 0.9), 0.5).verdict == "open"
    assert accuracy_verdict(False, (0.45, 0.54), 0.5).verdict == "as claimed"


fractions = st.floats(0, 1)
chances = st.floats(0.001, 0.9)
successes = st.none() | fractions


@given(chances)
def test_no_lesson_lies_between_chance_and_all(chance: float) -> None:
    assert chance < highest_of_no_lesson(chance) < 1


@given(st.booleans(), st.tuples(*[fractions] * 4).map(sorted), chances, successes, st.booleans())
def test_a_higher_interval_never_speaks_more_against_teaching(
    teaches: bool, ends: list[float], chance: float, success: float | None, one_seed: bool
) -> None:
    """Nor a lower one more for it; ends are those of a lower interval and of a higher one that overlap."""
    order = ["contrary", "open", "as claimed"] if teaches else ["as claimed", "open", "contrary"]
    lower, higher = (ends[0], ends[2]), (ends[1], ends[3])

    def judged_at(ci95: tuple[float, float]) -> Judgement:
        return accuracy_verdict(teaches, ci95, chance, attack_success=success, one_seed=one_seed)

    found = [judged_at(lower).verdict, judged_at(higher).verdict]
    if "not tested" not in found:
        assert order.index(found[0]) <= order.index(found[1])
    elif found[0] != "not tested":
        assert found == ["not tested", "not tested"], "what a lower interval tested a higher one does too"


@given(st.booleans(), st.tuples(fractions, fractions).map(sorted), chances, successes, st.booleans())
def test_only_a_failed_attack_leaves_a_claim_untested(
    teaches: bool, ends: list[float], chance: float, success: float | None, one_seed: bool
) -> None:
    ci95 = ends[0], ends[1]
    found = accuracy_verdict(teaches, ci95, chance, attack_success=success, one_seed=one_seed)
    without = accuracy_verdict(teaches, ci95, chance, one_seed=one_seed)
    failed = success is not None and success < LEAST_SUCCESS
    taught = teaches and without.verdict == "as claimed"
    assert (found.verdict == "not tested") == (failed and not taught)
    assert found.verdict == "not tested" or found == without
    decided = {"as claimed", "contrary"}
    many = accuracy_verdict(teaches, ci95, chance)
    if one_seed and {without.verdict, many.verdict} <= decided and teaches:
        assert without == many, "one seed says less, and nothing else"


@given(st.booleans(), st.tuples(fractions, fractions).map(sorted), chances, fractions, successes)
def test_robustness_is_untested_only_where_ordinary_training_withstands_too(
    robust: bool, ends: list[float], chance: float, ordinary: float, success: float | None
) -> None:
    ci95 = ends[0], ends[1]
    found = robustness_verdict(robust, ci95, chance, ordinary, attack_success=success)
    without = robustness_verdict(robust, ci95, chance, ordinary)
    assert found is not None
    assert without is not None
    failed = success is not None and success < LEAST_SUCCESS
    assert (found.verdict == "not tested") == (failed and without.verdict != "as claimed")


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
    found = robustness_verdict(robust, ci95, 0.1)
    assert (found and found.verdict) == expected


@pytest.mark.parametrize(
    ("robust", "ci95", "expected"),
    [
        (True, (0.2, 0.3), "as claimed"),
        (True, (0.11, 0.3), "open"),
        (True, (0.0, 0.04), "contrary"),
        (False, (0.0, 0.04), "as claimed"),
        (False, (0.0, 0.09), "open"),
        (False, (0.2, 0.3), "contrary"),
    ],
)
def test_one_seed_decides_on_robustness_far_from_chance_alone(
    robust: bool, ci95: tuple[float, float], expected: Verdict
) -> None:
    reason = "one seed" if expected == "open" else None
    assert robustness_verdict(robust, ci95, 0.1, one_seed=True) == (expected, reason)


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
        ("as claimed", "not tested", "not tested"),
        ("not tested", "open", "not tested"),
        ("not tested", "contrary", "contrary"),
    ],
)
def test_verdict_on_both_parts(accuracy: Verdict, robustness: Verdict | None, expected: Verdict) -> None:
    parts = Judgement(accuracy, "first"), robustness and Judgement(robustness, "second")
    found = verdict_of_parts(*parts)
    assert found.verdict == expected
    assert found.reason == ("first" if accuracy == expected else "second")


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
    assert robustness_verdict(robust, (0.4, 0.6), 0.1, ordinary) == (expected, None)


@pytest.mark.parametrize(
    ("ci95", "expected"),
    [((0.1, 0.9), "as claimed"), ((-0.9, -0.1), "contrary"), ((-0.1, 0.9), "open"), (None, "open")],
)
def test_verdict_on_a_correlation(ci95: tuple[float, float] | None, expected: Verdict) -> None:
    assert correlation_verdict(ci95) == expected


def row_of(
    recipe: RecipeName,
    clean: Sequence[float],
    robust: Sequence[float] | None = None,
    attack_success: float | None = None,
) -> Row:
    """Return the row of a recipe whose networks are right on these shares of the test images, by seed."""
    evaluations: list[dict[str, Any]] = [
        {"test_accuracy": one, "right": round(one * TEST_SIZE), "test_size": TEST_SIZE, "chance": 0.1}
        for one in clean
    ]
    for entry, accuracy in zip(evaluations, robust or (), strict=robust is not None):
        entry["robust_accuracy"] = accuracy
    seeds = f"seeds={list(range(len(clean)))}"
    return recipe_row(
        RECIPES[recipe],
        load_experiment("digits", [seeds]),
        [{"train_size": 9, "attack_success": attack_success}] * len(clean),
        evaluations,
        [],
    )


def test_a_report_says_why_a_claim_was_not_tested(capsys: pytest.CaptureFixture[str]) -> None:
    row = row_of("d_det", [0.01, 0.02, 0.015], attack_success=0.09)
    assert (row.verdict, row.verdict_reason) == ("not tested", "attack success 9.0 %, below 50 %")
    assert verdict_line(row).endswith("Verdict: not tested (attack success 9.0 %, below 50 %).")
    print_rows([row])
    printed = capsys.readouterr().out
    assert "not tested" in printed
    assert "Verdicts: 0 of 1 as claimed, 1 not tested." in printed
    assert "Not tested: the attack succeeded on less than 50.0 % of the images." in printed
    assert "Verdicts: 0 of 1 as claimed, 1 not tested." in markdown_report([row])


@pytest.mark.parametrize(
    ("recipe", "success", "note"),
    [
        ("d_rand", 0.732, "below 90 %"),
        ("d_det", 0.9, None),
        ("bugs_only", 0.89, "below 90 %"),
        ("random_perturbation", 0.1, None),  # it is to fool nobody
        ("shuffled", None, None),
    ],
)
def test_an_attack_that_missed_many_images_is_named_beside_its_row(
    recipe: RecipeName, success: float | None, note: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    row = row_of(recipe, [0.5, 0.51, 0.49], attack_success=success)
    assert row.attack_note == note
    assert json.loads(row.model_dump_json())["attack_note"] == note
    assert rows_frame([row])["attack_note"][0] == note
    assert Row.model_validate_json(row.model_dump_json()) == row
    print_rows([row])
    printed = capsys.readouterr().out
    in_a_grid = row.model_copy(update={"axes": {"data": "digits", "eps": 0.5, "seed": 0}})
    print_grid("a grid", [in_a_grid])
    for shown in (printed, capsys.readouterr().out, results_table([row]), verdict_line(row)):
        assert ("below 90 %" in shown) == (note is not None)
    assert ("Attack success below 90.0 %" in printed) == (note is not None)


def test_what_one_seed_leaves_open_is_called_that() -> None:
    row = row_of("d_det", [0.14], attack_success=0.9)
    assert (row.verdict, row.verdict_reason, verdict_label(row)) == ("open", "one seed", "one seed: open")
    assert verdict_line(row).endswith("Verdict: one seed: open.")
    assert reasons([row]) == [
        "One seed: the interval does not cover other seeds; run three or more to decide."
    ]
    wide = row_of("d_det", [0.05, 0.15, 0.25], attack_success=0.9)
    assert (wide.verdict, wide.verdict_reason, verdict_label(wide)) == ("open", None, "open")


def test_the_same_experiment_counts_once() -> None:
    rows = [
        row_of("d_det", [0.4, 0.5, 0.45], attack_success=0.9),
        row_of("transfer", [0.4, 0.5, 0.45], attack_success=0.9),
        row_of("shuffled", [0.1, 0.11, 0.09]),
        row_of("mislabeled", [0.05, 0.4, 0.1]),
    ]
    assert verdict_summary(rows) == "2 of 3 as claimed, 1 open"
    assert verdict_summary(rows[2:3]) == "1 of 1 as claimed"
    at = [row.model_copy(update={"axes": {"eps": eps, "seed": 0}}) for eps, row in enumerate(rows[:2])]
    assert verdict_summary(at) == "2 of 2 as claimed", "each place of a grid is one of its own"
    assert verdict_summary([Group({"eps": 1}, (row,)) for row in at]) == "2 of 2 as claimed"


@given(st.lists(st.tuples(st.sampled_from(get_args(Verdict)), st.integers(0, 3)), min_size=1, max_size=12))
def test_a_summary_counts_every_experiment_once(found: list[tuple[Verdict, int]]) -> None:
    base = row_of("clean", [0.9, 0.91])
    by_experiment = {which: verdict for verdict, which in found}
    rows = [
        base.model_copy(update={"verdict": by_experiment[which], "setting": str(which)}) for _, which in found
    ]
    first, *others = verdict_summary(rows).split(", ")
    claimed, of, rest = first.split(" ", 2)
    numbers = [int(claimed), *(int(part.split(" ")[0]) for part in others)]
    total, words = rest.split(" ", 1)
    assert (of, words) == ("of", "as claimed")
    assert int(total) == sum(numbers) == len(by_experiment)


def test_robustness_is_not_tested_where_ordinary_training_withstands_the_attack() -> None:
    of = load_experiment("digits", ["recipes=[clean,non_robust_features]", "seeds=[0,1,2]"])
    clean = row_of("clean", [0.95, 0.95, 0.95], [0.9, 0.91, 0.9])
    fragile = row_of("non_robust_features", [0.9, 0.91, 0.9], [0.8, 0.81, 0.8])
    _, found = with_controls([clean, fragile], of)
    assert (found.verdict, found.robustness_verdict) == ("not tested", "not tested")
    assert found.verdict_reason == "attack success on clean 4.9 %, below 50 %"
    assert judged(found) == (
        "not tested (attack success on clean 4.9 %, below 50 %; accuracy: as claimed; robustness: not tested)"
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
    assert [row.robustness_verdict for row in rows] == ["open"] * 3, "one seed each"
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
    for later in ("robust", "robust_ci95", "verdict_reason", "accuracy_verdict", "robustness_verdict"):
        del record[later]
    assert Row.model_validate(record).verdict == "as claimed"
